"""The node behind the guard, over HTTP and WebSocket. Sends every message once, as it is."""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from aiohttp import ClientResponse, ClientWebSocketResponse

from src.monitoring import screening_metrics

logger = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 120.0  # traces of long transactions
_IDLE_SECONDS: Final = 15.0  # less than nodes keep idle connections open
_PING_SECONDS: Final = 60.0  # a subscription may have nothing to say for hours
_MAX_MESSAGE: Final = 64 * 1024 * 1024
_MAX_TEXT: Final = 4 * 1024 * 1024  # reading JSON stops everything else
# Builders sign the body. Keys and cookies are the guard's and stay here.
_PASSED_HEADERS: Final = ("x-flashbots-signature", "x-auction-signature")


class UpstreamError(RuntimeError):
    """The node did not answer. The message holds no URL and no text of the node."""

    status = 502
    """HTTP status for the client."""


class UpstreamTimeout(UpstreamError):
    """The node took too long."""

    status = 504


class Upstream:
    """A node. Open it in the event loop that uses it.

    Args:
        url: of its JSON-RPC over HTTP; a secret.
        socket_url: of its WebSocket; None for the same address.
    """

    def __init__(self, url: str, socket_url: str | None = None) -> None:
        self._url = url
        self._socket_url = socket_url or _as_socket(url)
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # As many as there are clients, whom the server limits: sockets must not starve calls.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS),
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def post(
        self, body: bytes, headers: Mapping[str, str], *, again: bool
    ) -> AsyncIterator[ClientResponse]:
        """The node's response to a body, of which the content is still to be read.

        Args:
            body: of the request.
            headers: of the client, of which few are passed on.
            again: whether it may be sent a second time when a kept connection turns out to be
                closed; never for what sends a transaction.

        Raises:
            UpstreamError: no response, also while its content is read.
        """
        passed = {name: headers[name] for name in _PASSED_HEADERS if name in headers}
        try:
            started = time.perf_counter()
            response = await self._post(body, passed, again=again)
            screening_metrics.guard_forwarded(time.perf_counter() - started)
            async with response:
                yield response
        except TimeoutError:
            raise UpstreamTimeout("the node took too long") from None
        except (aiohttp.ClientError, OSError) as error:
            logger.warning("no answer of the node: %s", type(error).__name__)
            raise UpstreamError("the node did not answer") from None

    async def ask(self, body: bytes, headers: Mapping[str, str], *, again: bool) -> str:
        """The text of the node's response, which is to be read here and must not be large.

        Raises:
            UpstreamError: no response, or a large one. See `post` for the arguments.
        """
        text = bytearray()
        async with self.post(body, headers, again=again) as response:
            async for chunk in response.content.iter_any():
                text += chunk
                if len(text) > _MAX_TEXT:
                    raise UpstreamError("the node's answer is too large to be read with others")
        return text.decode("utf-8", "replace")

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientWebSocketResponse]:
        """A new WebSocket to the node.

        Raises:
            UpstreamError: it does not accept one.
        """
        try:
            opened = await self._opened.ws_connect(
                self._socket_url, max_msg_size=_MAX_MESSAGE, compress=0, heartbeat=_PING_SECONDS
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            logger.warning("no WebSocket of the node: %s", type(error).__name__)
            raise UpstreamError("the node accepts no WebSocket") from None
        async with opened:
            yield opened

    async def _post(
        self, body: bytes, headers: Mapping[str, str], *, again: bool
    ) -> ClientResponse:
        try:
            return await self._opened.post(
                self._url, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not again:
                raise
            return await self._post(body, headers, again=False)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        assert self._session is not None  # noqa: S101
        return self._session


def _as_socket(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    return urlunsplit((scheme, *parts[1:]))
