"""uvicorn's HTTP/1.1 protocol with limits for clients that send heads without end, or read nothing.

uvicorn buffers a head of any size, for any time, before the application sees the request and can
reject it. Here the request line and the headers must be complete within limits of size and time;
chunk headers and trailers count towards the size as well.

A client that does not read its response would keep its connection for ever, since a connection is
closed only when all of the response is sent. The kernel ends it instead, also as a WebSocket.
"""

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 20.0
STALLED_SECONDS: Final = 60.0

_TOO_LARGE: Final = b"431 Request Header Fields Too Large"
_TOO_SLOW: Final = b"408 Request Timeout"


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounded heads; one object per connection."""

    head_seconds = HEAD_SECONDS
    stalled_seconds = STALLED_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._overhead = 0
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.stalled_seconds * 1_000)
            )
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """See the parser: a request's first byte."""
        super().on_message_begin()
        self._overhead = 0
        self._wait()

    def on_headers_complete(self) -> None:
        """See the parser."""
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See the parser: bytes of a body, which the application bounds."""
        self._overhead -= len(body)
        super().on_body(body)

    def _wait(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(self.head_seconds, self._refuse, _TOO_SLOW)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: bytes) -> None:
        self._wait_no_more()
        if self.transport.is_closing():
            return
        # After the start of a response no error can be sent any more.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
