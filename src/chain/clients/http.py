"""JSON over HTTP for one source, with bounded time and size and typed errors.

`transport` bounds the time. In addition to `requests`, this client

- limits the size of the response body;
- writes its own error messages, because those of `requests` contain the URL and with it API keys;
- rejects redirects, which would send a key to another host;
- raises nothing while a response's body is at hand: a traceback would keep it alive.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests
from urllib3.exceptions import HTTPError

from src.chain.clients import transport
from src.chain.clients.json_text import is_nested_deeper
from src.chain.clients.rpc_errors import seconds
from src.chain.clients.urls import is_http_url, secrets_of_url
from src.chain.errors import (
    AnswerTooLarge,
    MalformedAnswer,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from src.chain.text import in_short, sanitise_text

MAX_DEPTH: Final = 2_100
"""Levels of an answer: a trace has two for each call, of which the EVM nests 1,024."""

_CHUNK_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 200
_MAX_ERROR_BYTES = 64 * 1024
_RETRIED_STATUSES = frozenset({408, 425, 429})
_NOT_JSON: Final = object()


@dataclass(frozen=True, slots=True)
class Reply:
    """A response."""

    status: int  # HTTP status
    answer: Any  # the decoded JSON; None for an error status without JSON
    retry_after: float | None  # seconds of its Retry-After header, if any


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
        url = url.strip()  # secrets come as lines
        if not is_http_url(url):
            raise ValueError(f"{source}: the URL must be http:// or https:// with a host")
        self.source = source
        self.timeout = timeout
        self._url = url
        self._max_bytes = max_bytes
        found = secrets_of_url(url) | {secret for secret in secrets if secret}
        self._secrets = sorted(found, key=len, reverse=True)  # one may begin with another
        self._session = transport.session(connections, public_only=public_only)
        _read_environment(self._session, url)
        self._post: requests.PreparedRequest | None = None

    def get(
        self,
        path: str = "",
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """GET `url + path` and return the decoded JSON. Raises `SourceError` subclasses."""
        return self._answer("GET", path, params=params, headers=headers)

    def post(self, body: Any, path: str = "", headers: dict[str, str] | None = None) -> Any:
        """POST `body` as JSON and return the decoded JSON. Raises `SourceError` subclasses."""
        return self._answer("POST", path, json=body, headers=headers)

    def exchange(self, body: Any, *, timeout: float | None = None) -> Reply:
        """POST `body` as JSON and return the response, whatever its status.

        Raises:
            SourceUnavailable: no response.
            MalformedAnswer: status 200 without JSON, or a response that is too large.
        """
        return self._send(lambda: self._prepared(body), timeout, max_error_bytes=_MAX_ERROR_BYTES)

    def failure_of(self, reply: Reply) -> SourceError | None:
        """The exception for an HTTP status; None for 200."""
        status, wish = reply.status, reply.retry_after
        problem = f"HTTP {status}"
        if status == 200:
            return None
        if status == 429:
            return RateLimited(self.source, problem, wish)
        if status == 501:  # not implemented, now or later
            return RequestRefused(self.source, problem)
        if status >= 500 or status in _RETRIED_STATUSES:
            return SourceUnavailable(self.source, problem, wish)
        if 300 <= status < 400:
            return RequestRefused(self.source, f"{problem}, redirects are not followed")
        return RequestRefused(self.source, problem)

    def deliver(self, body: bytes, headers: dict[str, str]) -> int:
        """POST bytes and return the status, whatever it is; the response body is not read.

        Raises:
            SourceUnavailable: the receiver did not answer.
            PrivateAddress: the receiver is in a private network.
        """
        request = requests.Request("POST", self._url, data=body, headers=headers)
        prepare = self._session.prepare_request
        return self._send(lambda: prepare(request), None, is_delivery=True).status

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
        return in_short(text, _MAX_MESSAGE_CHARACTERS)

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def _answer(self, method: str, path: str, **request: Any) -> Any:
        url = self._url.rstrip("/") + path if path else self._url
        made = requests.Request(method, url, **request)
        reply = self._send(lambda: self._session.prepare_request(made), None)
        failure = self.failure_of(reply)
        if failure is not None:
            raise failure
        return reply.answer

    def _prepared(self, body: Any) -> requests.PreparedRequest:
        """A POST to the URL, which is prepared once: that takes a fifth of a request's time."""
        if self._post is None:
            self._post = self._session.prepare_request(requests.Request("POST", self._url))
        request = self._post.copy()
        request.prepare_body(None, None, json=body)
        return request

    def _send(
        self,
        prepared: Callable[[], requests.PreparedRequest],
        timeout: float | None,
        *,
        max_error_bytes: int = 0,
        is_delivery: bool = False,
    ) -> Reply:
        """Send a request. `max_error_bytes`: read the body of an error status up to this size."""
        limit = timeout or self.timeout
        expires = time.monotonic() + limit
        outcome: Reply | SourceError
        try:
            session = self._session
            with session.send(
                prepared(), timeout=limit, stream=True, allow_redirects=False,
                proxies=session.proxies, verify=session.verify,
            ) as response:  # fmt: skip
                size = self._max_bytes if response.status_code == 200 else max_error_bytes
                outcome = self._read(response, expires, 0 if is_delivery else size)
        except (requests.Timeout, TimeoutError):
            outcome = SourceUnavailable(self.source, "timed out")
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            outcome = SourceUnavailable(self.source, f"connection failed ({type(error).__name__})")
        # Raised here, so that it carries no reference to the original one, whose text holds the
        # URL.
        if isinstance(outcome, SourceError):
            raise outcome
        return outcome

    def _read(
        self, response: requests.Response, expires: float, max_bytes: int
    ) -> Reply | SourceError:
        """The response; its body is read only if it may have a byte."""
        status, wish = response.status_code, _retry_after(response.headers.get("Retry-After"))
        if not max_bytes:
            return Reply(status, None, wish)
        body = _body(response, expires, max_bytes)
        answer = _NOT_JSON if body is None else _parsed(body)
        if status != 200:
            return Reply(status, None if answer is _NOT_JSON else answer, wish)
        if body is None:
            return AnswerTooLarge(self.source, f"response larger than {max_bytes} bytes")
        if answer is _NOT_JSON:
            return MalformedAnswer(self.source, "response is not JSON")
        return Reply(status, answer, wish)


def _read_environment(session: requests.Session, url: str) -> None:
    """Take proxies, certificates and `~/.netrc` from the environment, once for all requests.

    `requests` searches the whole environment again for each, a third of a request's processor time.
    """
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify = found["proxies"], found["verify"]
    session.auth = requests.utils.get_netrc_auth(url)
    session.trust_env = False


def _body(response: requests.Response, expires: float, max_bytes: int) -> bytes | None:
    """The body, decompressed; None if it is too large."""
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            return None
        if time.monotonic() > expires:
            raise TimeoutError
    return bytes(body)


def _parsed(body: bytes) -> Any:
    """The decoded JSON, or `_NOT_JSON`."""
    try:
        # Decoded here, because `json` would guess at other encodings.
        text = body.decode("utf-8-sig")
        if not is_nested_deeper(text, MAX_DEPTH):
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    return _NOT_JSON


def _retry_after(header: str | None) -> float | None:
    """The seconds of a Retry-After header: a number, or a date."""
    if header is None:
        return None
    if (wish := seconds(header)) is not None:
        return wish
    try:
        return seconds(max(0.0, parsedate_to_datetime(header).timestamp() - time.time()))
    except (ValueError, OverflowError, OSError):
        return None
