"""JSON over HTTP for one source, with bounded time and size and typed errors.

`transport` bounds the time. In addition to `requests`, this client

- limits the size of the response body;
- writes its own error messages, because those of `requests` contain the URL and with it API keys;
- rejects redirects, which would send a key to another host.
"""

import json
import time
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from src.chain.clients import transport
from src.chain.clients.json_text import is_nested_deeper
from src.chain.clients.urls import is_http_url, secrets_of_url
from src.chain.errors import (
    MalformedAnswer,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from src.chain.text import sanitise_text

_CHUNK_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 200
_MAX_DEPTH = 64


class HttpClient:
    """A pooled keep-alive client for one source.

    Args:
        source: the source's name in errors, e.g. "etherscan".
        url: the base URL, http or https. It may hold a key: it appears in no error, log or repr.
        timeout: seconds to connect, and again for the whole response, head and body.
        max_bytes: largest accepted response, after decompression.
        connections: size of the connection pool.
        secrets: texts to redact when a source's message is repeated.
        public_only: reject addresses in private networks, see `transport`.

    Raises:
        ValueError: the URL is invalid; the message does not contain it.
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
        public_only: bool = False,
    ) -> None:
        if not is_http_url(url):
            raise ValueError(f"{source}: the URL must be http:// or https:// with a host")
        self.source = source
        self.timeout = timeout
        self._url = url
        self._max_bytes = max_bytes
        self._secrets = secrets_of_url(url) | {secret for secret in secrets if secret}
        self._session = transport.session(connections, public_only=public_only)

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

    def deliver(self, body: bytes, headers: dict[str, str]) -> int:
        """POST bytes and return the status, whatever it is; the response body is not read.

        Raises:
            SourceUnavailable: the receiver did not answer.
            PrivateAddress: the receiver is in a private network.
        """
        request = {"data": body, "headers": headers}
        return self._send("POST", self._url, None, request, is_read=False)[0]

    def quote(self, words: object) -> str:
        """A source's message, sanitised for an error: short, printable, without keys."""
        # Truncate last: half a key would not be found.
        text = sanitise_text(words, 2 * _MAX_MESSAGE_CHARACTERS)
        was_cut = len(text) >= 2 * _MAX_MESSAGE_CHARACTERS - 1  # also a trailing blank
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for secret in (
            self._secrets if was_cut else ()
        ):  # half of a placeholder, if truncated within it
            part = next((n for n in range(len(secret) - 1, 0, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - part]
        return text[:_MAX_MESSAGE_CHARACTERS].strip()

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def _exchange(self, method: str, path: str, timeout: float | None, **request: Any) -> Any:
        url = self._url.rstrip("/") + path
        status, body = self._send(method, url, timeout, request)
        self._check_status(status)
        return self._decode(body)

    def _send(
        self,
        method: str,
        url: str,
        timeout: float | None,
        request: dict[str, Any],
        *,
        is_read: bool = True,
    ) -> tuple[int, bytes]:
        # The error is raised outside the `except` block, so that it carries no reference to the
        # original one, whose text holds the URL.
        failure: SourceError
        try:
            limit = timeout or self.timeout
            expires = time.monotonic() + limit
            with self._session.request(
                method,
                url,
                timeout=limit,
                stream=True,
                allow_redirects=False,
                **request,
            ) as response:
                status = response.status_code
                return status, self._body(response, expires) if is_read and status == 200 else b""
        except SourceError:
            raise
        except (requests.Timeout, TimeoutError):
            failure = SourceUnavailable(self.source, "timed out")
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            failure = SourceUnavailable(self.source, f"connection failed ({type(error).__name__})")
        raise failure

    def _body(self, response: requests.Response, expires: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise MalformedAnswer(self.source, f"response larger than {self._max_bytes} bytes")
            if time.monotonic() > expires:
                raise TimeoutError
        return bytes(body)

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
        raise MalformedAnswer(self.source, "response is not JSON")
