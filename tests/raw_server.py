"""Real servers that misbehave on the wire, for tests of clients."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket, threading.Event], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def hang(connection: socket.socket, stop: threading.Event) -> None:
    """Accept the request and say nothing."""
    stop.wait()


def drip_body(connection: socket.socket, stop: threading.Event) -> None:
    """Send a valid head and then one blank at a time, for ever."""
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while not stop.wait(0.02):
        connection.sendall(b" ")


def drip_head(connection: socket.socket, stop: threading.Event) -> None:
    """Send one byte of a header at a time, for ever."""
    connection.sendall(HEAD + b"X: ")
    while not stop.wait(0.02):
        connection.sendall(b"x")


def endless_body(connection: socket.socket, stop: threading.Event) -> None:
    """Send as much as the client takes, for ever."""
    connection.sendall(HEAD + b"Connection: close\r\n\r\n")
    while not stop.is_set():
        connection.sendall(b" " * 65536)


def reset(connection: socket.socket, stop: threading.Event) -> None:
    """Close without an answer, so that the client sees a reset."""
    linger_zero = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)


@contextlib.contextmanager
def raw_server(behaviour: Behaviour) -> Iterator[str]:
    """Serve every connection with `behaviour`; yields the base URL."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            behaviour(connection, stop)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
