"""Real servers that misbehave on the wire, for tests of clients."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

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


def endless_head(connection: socket.socket, stop: threading.Event) -> None:
    """Send one header after the other, for ever."""
    connection.sendall(HEAD)
    while not stop.is_set():
        connection.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")


def cut_off(connection: socket.socket, stop: threading.Event) -> None:
    """Promise a long body and end in the middle of it."""
    connection.sendall(HEAD + b'Content-Length: 100000\r\n\r\n{"result":')


def responding(status: str, body: bytes, *headers: str) -> Behaviour:
    """Answer every request with the same response."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers))
    response = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body

    def respond(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(response)

    return respond


class Proxy:
    """Stands before a healthy server and can be broken and mended, as a network can.

    Attributes:
        url: where it listens, with the healthy server's path.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self._behaviour: Behaviour | None = None
        self._mended = threading.Event()
        self._frozen = threading.Event()
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def break_with(self, behaviour: Behaviour) -> None:
        """Misbehave on new connections; those that are open are closed."""
        self._close_connections()
        self._mended = threading.Event()
        self._behaviour = behaviour

    def freeze(self) -> None:
        """Lose the connections without a word to anyone: they stay open and nothing passes."""
        self._mended = threading.Event()
        self._frozen.set()
        self._behaviour = hang

    def mend(self) -> None:
        """Pass everything on again; what was broken is closed."""
        self._behaviour = None
        self._mended.set()
        self._frozen.clear()
        self._close_connections()

    def close(self) -> None:
        """End."""
        self.mend()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _close_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._connections.add(connection)
        with connection, contextlib.suppress(OSError):
            behaviour, mended = self._behaviour, self._mended
            if behaviour is not None:
                connection.recv(65536)
                behaviour(connection, mended)
                return
            with socket.create_connection(self._upstream) as server:
                back = threading.Thread(target=self._pump, args=(server, connection), daemon=True)
                back.start()
                self._pump(connection, server)
                back.join()
        self._connections.discard(connection)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and not self._frozen.is_set():
                target.sendall(data)
        if self._frozen.is_set():
            self._mended.wait()
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
