"""HTTP to one source: JSON in, JSON out, with everything bounded and every failure typed.

What `requests` leaves open is closed here:

- its time-out bounds each read, so a server that drips one byte a second holds a thread for ever:
  here the time-out bounds the whole answer, head and body;
- a body has no size limit: here it has;
- its exceptions carry the URL, and with it API keys: here messages are our own;
- redirects would carry a key to another host: here they are refused.
"""

import io
import json
import logging
import socket
import time
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from src.chain.clients.json_text import is_nested_deeper
from src.chain.errors import (
    MalformedAnswer,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from src.chain.text import sanitise_text

USER_AGENT = "anomalous-token-transfers"

_CHUNK_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 200
_MIN_SECRET_CHARACTERS = 6

_MAX_DEPTH = 64


class HttpClient:
    """A pooled keep-alive client for one source.

    Args:
        source: the source's name in errors, e.g. "etherscan".
        url: the base URL, http or https. It may hold a key: it appears in no error, log or repr.
        timeout: seconds to connect, and again for the whole answer, head and body.
        max_bytes: largest answer accepted, after decompression.
        connections: connections kept open.
        secrets: texts to blank out wherever a source's own words are repeated.

    Raises:
        ValueError: the URL is not one; the message does not show it.
    """

    def __init__(
        self,
        source: str,
        url: str,
        *,
        timeout: float,
        max_bytes: int,
        connections: int = 8,
        secrets: tuple[str, ...] = (),
    ) -> None:
        if not is_http_url(url):
            raise ValueError(f"{source}: the URL must be http:// or https:// with a host")
        self.source = source
        self.timeout = timeout
        self._url = url.rstrip("/")
        self._max_bytes = max_bytes
        self._secrets = _secrets_of_url(url) | {secret for secret in secrets if secret}
        self._session = _session(connections)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"

    def get(
        self,
        path: str = "",
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """GET `url + path` and return the decoded JSON. Raises `SourceError` subclasses."""
        return self._exchange("GET", path, timeout, params=params, headers=headers)

    def post(
        self,
        body: Any,
        path: str = "",
        headers: dict[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """POST `body` as JSON and return the decoded JSON. Raises `SourceError` subclasses."""
        return self._exchange("POST", path, timeout, json=body, headers=headers)

    def quote(self, words: object) -> str:
        """A source's own words, made fit for an error message: short, printable, without keys."""
        # Cut last: half a key would not be found.
        text = sanitise_text(words, 2 * _MAX_MESSAGE_CHARACTERS)
        was_cut = len(text) >= 2 * _MAX_MESSAGE_CHARACTERS - 1  # a blank at the end goes as well
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for secret in self._secrets if was_cut else ():  # half of one, where the cut went through
            part = next((n for n in range(len(secret) - 1, 0, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - part]
        return text[:_MAX_MESSAGE_CHARACTERS].strip()

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _exchange(self, method: str, path: str, timeout: float | None, **request: Any) -> Any:
        # The error is raised outside the `except` block, so that it carries no reference to the
        # original one, whose text holds the URL.
        failure: SourceError
        try:
            status, body = self._send(method, path, timeout or self.timeout, request)
        except SourceError:
            raise
        except (requests.Timeout, TimeoutError):
            failure = SourceUnavailable(self.source, "timed out")
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            failure = SourceUnavailable(self.source, f"connection failed ({type(error).__name__})")
        else:
            self._check_status(status)
            return self._decode(body)
        raise failure

    def _send(
        self, method: str, path: str, timeout: float, request: dict[str, Any]
    ) -> tuple[int, bytes]:
        expires = time.monotonic() + timeout
        with self._session.request(
            method,
            self._url + path,
            timeout=timeout,
            stream=True,
            allow_redirects=False,
            **request,
        ) as response:
            if response.status_code != 200:
                return response.status_code, b""
            body = bytearray()
            for chunk in response.iter_content(_CHUNK_BYTES):
                body += chunk
                if len(body) > self._max_bytes:
                    raise MalformedAnswer(self.source, f"answer over {self._max_bytes} bytes")
                if time.monotonic() > expires:
                    raise TimeoutError
            return response.status_code, bytes(body)

    def _check_status(self, status: int) -> None:
        if status == 200:
            return
        if status == 429:
            raise RateLimited(self.source, "HTTP 429")
        if status >= 500:
            raise SourceUnavailable(self.source, f"HTTP {status}")
        if 300 <= status < 400:
            raise RequestRefused(self.source, f"HTTP {status}, redirects are not followed")
        raise RequestRefused(self.source, f"HTTP {status}")

    def _decode(self, body: bytes) -> Any:
        try:
            # Decoded here, because `json` would guess at other encodings.
            text = body.decode("utf-8-sig")
            if not is_nested_deeper(text, _MAX_DEPTH):
                return json.loads(text)
        except ValueError:
            pass
        raise MalformedAnswer(self.source, "answer is not JSON")


def is_http_url(text: str) -> bool:
    """Whether `text` is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _secrets_of_url(url: str) -> set[str]:
    """What in a URL may be a key: credentials, path segments and query values of some length."""
    parts = urlsplit(url)
    candidates = [parts.username or "", parts.password or "", *parts.path.split("/")]
    candidates += [value for _, value in parse_qsl(parts.query)]
    candidates += [unquote(candidate) for candidate in candidates]
    return {candidate for candidate in candidates if len(candidate) >= _MIN_SECRET_CHARACTERS}


def _session(connections: int) -> requests.Session:
    # At DEBUG urllib3 logs each request's path and query, and with them the keys.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool_connections=2, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _TimedSocket(io.RawIOBase):
    """A socket's byte stream with one time limit for all reads together."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stream = cast(io.RawIOBase, sock.makefile("rb", buffering=0))
        timeout = sock.gettimeout()
        self._expires = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._expires is not None:
            remaining = self._expires - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the answer took too long")
            self._sock.settimeout(remaining)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedSocket(sock))


class _Connection(HTTPConnection):
    response_class = _TimedResponse


class _SecureConnection(HTTPSConnection):
    response_class = _TimedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """Opens connections whose time-out bounds the whole answer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_timed_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager = cast(ProxyManager, super().proxy_manager_for(*args, **kwargs))
        _use_timed_pools(manager)
        return manager


def _use_timed_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
