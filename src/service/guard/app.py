"""The guard's ASGI application: JSON-RPC over HTTP and WebSocket, and its pages beside it."""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from aiohttp import ClientResponse

from src.service.guard import messages, sockets
from src.service.guard.clients import Clients
from src.service.guard.proxy import Message, Proxy
from src.service.guard.upstream import Upstream, UpstreamError
from src.service.http.middleware import App, Receive, Send, headers_of, read_body
from src.service.http.problems import Problem

logger = logging.getLogger(__name__)

PAGES: Final = ("/ui/", "/metrics", "/healthz", "/readyz")
"""Paths that are not JSON-RPC."""

_JSON: Final = b"application/json"
_KEPT_HEADERS: Final = (b"content-type", b"content-length", b"retry-after")


class GuardApp:
    """ASGI application.

    Args:
        pages: the application of all that is no JSON-RPC; also opens and closes everything.
        proxy: decides on messages.
        upstream: the node.
        clients: admits clients.
        max_body_bytes: largest message of a client.
    """

    def __init__(
        self, pages: App, proxy: Proxy, upstream: Upstream, clients: Clients, max_body_bytes: int
    ) -> None:
        self._pages = pages
        self._proxy = proxy
        self._upstream = upstream
        self._clients = clients
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _is_page(scope)):
            await self._pages(scope, receive, send)
            return
        headers = headers_of(scope)
        origin = self._clients.allowed_origin(headers)
        answer = _Answer(send, origin, is_socket=scope["type"] == "websocket")
        try:
            if scope.get("method") == "OPTIONS" and origin is not None:
                await answer.text(204, "")
                return
            client = self._clients.name(scope, headers)
            if scope["type"] == "websocket":
                await receive()
                async with self._upstream.socket() as node:
                    await send({"type": "websocket.accept"})
                    bridge = sockets.Bridge(self._proxy, node, client)
                    await bridge.run(receive, send)
            else:
                body = await read_body(headers, receive, self._max_body_bytes)
                await self._answer(self._proxy.read(body, client), client, headers, answer)
        except Problem as error:
            await answer.error(error.status, messages.INVALID_REQUEST, error.detail)
        except UpstreamError as error:
            await answer.error(error.status, messages.INTERNAL_ERROR, str(error))

    async def _answer(
        self, message: Message, client: str, headers: Mapping[str, str], answer: "_Answer"
    ) -> None:
        reply = await self._proxy.answer(message, client, headers)
        if reply is not None:
            await answer.text(200, reply)
            return
        try:
            again = not message.sends
            async with self._upstream.post(message.body, headers, again=again) as response:
                await answer.relay(response)
        except UpstreamError as error:
            if not answer.started:
                await answer.text(error.status, message.failure(str(error)))


class _Answer:
    """Sends one response."""

    def __init__(self, send: Send, origin: str | None, *, is_socket: bool) -> None:
        self.started = False
        self._send = send
        self._kind = "websocket.http.response" if is_socket else "http.response"
        self._headers = (
            [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-allow-headers", b"authorization, content-type, x-api-key"),
                (b"access-control-allow-methods", b"POST"),
                (b"vary", b"Origin"),
            ]
            if origin is not None
            else []
        )

    async def text(self, status: int, text: str) -> None:
        """Answer with JSON; with nothing if the text is empty."""
        body = text.encode()
        kind = [(b"content-type", _JSON)] if body else []
        await self._start(status, [*kind, (b"content-length", str(len(body)).encode())])
        await self._send({"type": f"{self._kind}.body", "body": body})

    async def error(self, status: int, code: int, problem: str) -> None:
        """Answer with a JSON-RPC error, unless an answer has begun."""
        if not self.started:
            await self.text(status, messages.error(None, code, problem))

    async def relay(self, response: ClientResponse) -> None:
        """Pass a response of the node on, as it arrives."""
        kept = [
            (name.lower(), value)
            for name, value in response.raw_headers
            if name.lower() in _KEPT_HEADERS
        ]
        if "content-encoding" in response.headers:  # some compress unasked; it is read inflated
            kept = [one for one in kept if one[0] != b"content-length"]
        await self._start(response.status, kept)
        async for chunk in response.content.iter_any():
            await self._send({"type": f"{self._kind}.body", "body": chunk, "more_body": True})
        await self._send({"type": f"{self._kind}.body", "body": b""})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        kind, given = f"{self._kind}.start", headers + self._headers
        await self._send({"type": kind, "status": status, "headers": given})


def _is_page(scope: MutableMapping[str, Any]) -> bool:
    return scope["method"] in {"GET", "HEAD"} or scope["path"].startswith(PAGES)
