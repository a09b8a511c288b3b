"""The outermost ASGI middleware, which applies to every request.

Assigns a request id, rejects unauthenticated, cross-site and too frequent requests and bodies that
are too large, slow or deeply nested, sets the security headers, counts requests, and turns uncaught
exceptions into a 500 with the request id.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from src.chain.clients.json_text import is_nested_deeper
from src.monitoring import metrics
from src.service.http.problems import MEDIA_TYPE, Problem, our_mistake
from src.service.http.security import OPEN_PATHS, ClientLimits, Gatekeeper, is_cross_site
from src.service.settings import ServiceSettings

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_STRICT_TRANSPORT: Final = "max-age=31536000"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_SECONDS: Final = 30.0
_MAX_DEPTH: Final = 32
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


class RequestChecks:
    """ASGI middleware around the whole application."""

    def __init__(self, app: App, settings: ServiceSettings) -> None:
        self.app = app
        self._gatekeeper = Gatekeeper(settings)
        self._limits = ClientLimits(settings.requests_per_second / settings.workers)
        self._max_body_bytes = settings.max_body_bytes
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # web sockets would bypass authentication
            raise RuntimeError(f"unsupported scope type {scope['type']}")
        headers = headers_of(scope)
        asked = _method(scope)
        answer = _Answer(
            send,
            _request_id(headers),
            is_secure=scope.get("scheme") == "https",
            has_body=asked != "HEAD",
        )
        if asked == "HEAD":  # answered like GET, without the body
            scope = {**scope, "method": "GET"}
        state = scope.setdefault("state", {})
        state["request_id"] = answer.request_id
        started = time.perf_counter()
        try:
            state["client_name"] = self._admit(scope, headers)
            body = await self._read(scope, headers, receive)
            await self.app(scope, _replay(body, receive), answer.send)
        except Problem as problem:
            await answer.problem(problem)
        except Exception as error:
            logger.exception("request %s failed", answer.request_id)
            metrics.error_occurred(error)
            await answer.problem(our_mistake())
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        seconds = time.perf_counter() - started
        metrics.request_served(asked, route, answer.status, seconds)

    def _admit(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> str | None:
        """The client's name. Raises Problem for a request that is not allowed."""
        path, method = scope["path"], scope["method"]
        if path not in OPEN_PATHS and not self._gatekeeper.knows_host(headers.get("host", "")):
            raise Problem(403, "Unknown host: add it to SERVICE_ALLOWED_HOSTS.")
        name = self._gatekeeper.client(headers)
        address = scope["client"][0] if scope.get("client") else "unknown"
        if path not in OPEN_PATHS and not self._limits.allows(name or address):
            raise Problem(429, "Too many requests.", headers={"Retry-After": "1"})
        if name is None and path not in OPEN_PATHS and not self._is_preflight(method, headers):
            wants_page = "text/html" in headers.get("accept", "")
            scheme = 'Basic realm="API key as password"' if wants_page else "Bearer"
            raise Problem(
                401,
                "Send an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
                headers={"WWW-Authenticate": scheme},
            )
        if method not in _SAFE_METHODS and is_cross_site(headers, self._origins):
            raise Problem(403, "Cross-site request rejected.")
        return name

    def _is_preflight(self, method: str, headers: dict[str, str]) -> bool:
        asks = "access-control-request-method" in headers
        return headers.get("origin") in self._origins and method == "OPTIONS" and asks

    async def _read(
        self, scope: MutableMapping[str, Any], headers: dict[str, str], receive: Receive
    ) -> bytes:
        """The complete body. Raises Problem beyond the limits of size, time and nesting."""
        if scope["method"] in _SAFE_METHODS:
            return b""
        body = await read_body(headers, receive, self._max_body_bytes)
        if is_nested_deeper(body, _MAX_DEPTH):
            raise Problem(400, f"The body is nested deeper than {_MAX_DEPTH} levels.")
        return body


def headers_of(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """A request's headers, by their names in lower case."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


async def read_body(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """A request's complete body. Raises Problem beyond the limits of size and time."""
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise Problem(413, f"The body is larger than {limit} bytes.")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "The connection closed before the body was complete.")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise Problem(413, f"The body is larger than {limit} bytes.")
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise Problem(408, f"The body took longer than {_BODY_SECONDS:g} seconds.") from None
    return bytes(body)


class _Answer:
    """Adds the security headers to a response and records its status."""

    def __init__(self, send: Send, request_id: str, *, is_secure: bool, has_body: bool) -> None:
        self.request_id = request_id
        self._ours = _HEADERS | (
            {"strict-transport-security": _STRICT_TRANSPORT} if is_secure else {}
        )
        self.status = 500
        self._send = send
        self._has_body = has_body
        self._started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", ())}
            message["headers"] = [
                *message.get("headers", ()),
                *[
                    (name.encode(), value.encode())
                    for name, value in self._ours.items()
                    if name.encode() not in given
                ],
                (b"x-request-id", self.request_id.encode()),
            ]
        elif not self._has_body:
            message = {**message, "body": b""}
        await self._send(message)

    async def problem(self, problem: Problem) -> None:
        if self._started:  # a partial response was sent: it can only be cut short
            return
        body = json.dumps(problem.document(self.request_id)).encode()
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body))} | problem.headers
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": problem.status, "headers": encoded}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body})


def _request_id(headers: dict[str, str]) -> str:
    """The client's own request id if it is well-formed, to correlate logs; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receives the body once, as one message, then the messages that follow."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _method(scope: MutableMapping[str, Any]) -> str:
    """The method as a metric label: clients may send any word."""
    method = str(scope["method"])
    return method if method in {*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE"} else "OTHER"
