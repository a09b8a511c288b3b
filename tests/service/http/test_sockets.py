"""Heads of requests that never end, on a real socket."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from src.service.http import protocol
from src.service.http.server import allow_files
from tests.support.waiting import FOR_EVER, PATIENCE


@contextmanager
def served(patience: float) -> Iterator[tuple[str, int]]:
    """The server's address; it waits so many seconds for a request's head."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    class Protocol(protocol.BoundedProtocol):
        head_seconds = patience

    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(
        uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_level="error")
    )
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()
    running.should_exit = True
    thread.join(PATIENCE)
    listening.close()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    with served(FOR_EVER) as address:
        yield address


def exchange(address: tuple[str, int], *parts: bytes) -> bytes:
    with socket.create_connection(address, PATIENCE) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it has hung up
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"GET /", b"a" * 65_536),
        (HEAD + b"X-Long: ", b"a" * 65_536),
        (HEAD, b"X-Many: aaaaaaaaaaaa\r\n" * 3_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 65_536 + b"\r\na\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ", b"a" * 65_536),
    ],
    ids=["line", "header", "headers", "chunk extensions", "trailer"],
)
def test_an_endless_head_is_not_kept(server: tuple[str, int], start: bytes, endless: bytes) -> None:
    answer = exchange(server, start, *[endless] * 64)
    assert b" 200 " not in answer
    assert not answer or answer.split(b" ", 2)[1] in {b"431", b"400"}


def test_a_head_that_never_ends_is_not_waited_for() -> None:
    with served(0.2) as address, socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(HEAD)
        assert b" 408 " in connection.recv(1000)
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("size", [0, 10, 60_000, 2_000_000])
def test_an_honest_request_is_heard_twice_on_one_connection(
    server: tuple[str, int], size: int
) -> None:
    body = b"a" * size
    plain = HEAD + b"Content-Length: %d\r\n\r\n" % size + body
    pieces = [body[at : at + 16_384] for at in range(0, size, 16_384)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    chunked = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    chunked += b"0\r\n\r\n"
    answer = exchange(server, plain, chunked)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"\r\n\r\n%d" % size) + answer.count(b"\r\n%d\r\n" % size) == 2


def test_as_many_files_may_be_open_as_connections_need() -> None:
    """Most systems allow a process 1,024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = 100_000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (high - 1, hard))
    try:
        allow_files(high)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (high, hard)
        allow_files(1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (high, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
