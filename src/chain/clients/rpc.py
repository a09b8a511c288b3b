"""A JSON-RPC client for an Ethereum node.

It sends no batches, which the scan node's proxy rejects; many `eth_call`s go through Multicall3
instead (see `erc20`).
"""

from typing import Any

from src.chain.clients.deadline import Deadline
from src.chain.clients.http import HttpClient
from src.chain.clients.rate_limit import RateLimit
from src.chain.errors import DeadlineExceeded, MalformedAnswer, RateLimited, RequestRefused

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
"""A block with its receipts stays well below this."""

# HTTP pairs every response with its request, so one id is enough.
_REQUEST_ID = 1
_LIMIT_EXCEEDED_CODES = frozenset({-32005, 429})
_LIMIT_WORDS = ("rate limit", "too many requests", "request limit")
# A contract chooses its revert message: "execution reverted: rate limit".
_EXECUTION_WORDS = ("revert", "execution", "gas")


class JsonRpcClient:
    """A thread-safe JSON-RPC client with pooled keep-alive connections.

    Args:
        url: the node's URL, http or https. Node URLs hold API keys in their path: the URL appears
            in no error, log or repr.
        timeout: seconds to connect, and again for the whole response.
        max_bytes: largest accepted response.
        rate_limit: applied before each request; None for no limit. May be shared by clients.
        connections: size of the connection pool.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        rate_limit: RateLimit | None = None,
        connections: int = 8,
    ) -> None:
        self._http = HttpClient(
            "node", url, timeout=timeout, max_bytes=max_bytes, connections=connections
        )
        self._rate_limit = rate_limit

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def waited_seconds(self) -> float:
        """Total time that requests of all threads have waited for the rate limit."""
        return 0.0 if self._rate_limit is None else self._rate_limit.waited_seconds

    def call(self, method: str, params: list[Any], deadline: Deadline | None = None) -> Any:
        """Return the `result` of one request, which may be None (e.g. an unknown block).

        `deadline` bounds the wait for the rate limit and the request together; without one, the
        client's timeout applies to the request and to the wait.

        Raises:
            SourceUnavailable: no answer, a timeout, HTTP 5xx.
            RateLimited: HTTP 429 or a rate-limit error of the node.
            RequestRefused: a JSON-RPC error, or another HTTP 4xx.
            DeadlineExceeded: the rate limit allows the request only after the deadline.
            MalformedAnswer: the response is not JSON-RPC, or too large.
        """
        timeout = self._http.timeout
        until = deadline or Deadline.after(timeout)
        if self._rate_limit is not None and not self._rate_limit.acquire(until):
            raise DeadlineExceeded("node", "our own rate limit is exhausted")
        if deadline is not None:
            timeout = min(timeout, deadline.remaining)
            if timeout <= 0:
                raise DeadlineExceeded("node", "no time left for the request")
        request = {"jsonrpc": "2.0", "id": _REQUEST_ID, "method": method, "params": params}
        return self._result(self._http.post(request, timeout=timeout))

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def _result(self, answer: Any) -> Any:
        if not isinstance(answer, dict):
            raise MalformedAnswer("node", "response is not a JSON-RPC object")
        error = answer.get("error")
        if error is not None:
            raise self._refusal(error)
        if answer.get("id") != _REQUEST_ID:
            raise MalformedAnswer("node", "response to another request")
        if "result" not in answer:
            raise MalformedAnswer("node", "response without a result")
        return answer["result"]

    def _refusal(self, error: Any) -> RateLimited | RequestRefused:
        code, message = (
            (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
        )
        words = self._http.quote(message)
        if not isinstance(code, int):
            code = "?"
        if code in _LIMIT_EXCEEDED_CODES or _tells_of_a_limit(words.lower()):
            return RateLimited("node", f"JSON-RPC error: {words}")
        return RequestRefused("node", f"JSON-RPC error {code}: {words}")


def _tells_of_a_limit(words: str) -> bool:
    return any(word in words for word in _LIMIT_WORDS) and not any(
        word in words for word in _EXECUTION_WORDS
    )
