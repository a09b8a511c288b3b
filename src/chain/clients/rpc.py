"""A JSON-RPC client for an Ethereum node.

The scan node's proxy rejects batches; many `eth_call`s go through Multicall3 instead (see `erc20`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from src.chain.clients import rpc_errors
from src.chain.clients.deadline import Deadline
from src.chain.clients.http import HttpClient, Reply
from src.chain.clients.rate_limit import RateLimit
from src.chain.errors import (
    DeadlineExceeded,
    MalformedAnswer,
    PassingError,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
"""A block with its receipts stays well below this."""


class JsonRpcClient:
    """A thread-safe JSON-RPC client with pooled keep-alive connections.

    Args:
        url: the node's URL, http or https. Node URLs hold API keys in their path: the URL appears
            in no error, log or repr.
        timeout: seconds to connect, and again for the whole response.
        max_bytes: largest accepted response.
        rate_limit: applied before each request; None for no limit but the pauses that the node
            asks for (`Retry-After`, `try_again_in`), which all threads respect. May be shared by
            clients.
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
        self._rate_limit = rate_limit or RateLimit()
        self._takes_batches = True

    @property
    def waited_seconds(self) -> float:
        """Total time that requests of all threads have waited for the rate limit."""
        return self._rate_limit.waited_seconds

    def call(self, method: str, params: list[Any], deadline: Deadline | None = None) -> Any:
        """Return the `result` of one request, which may be None (e.g. an unknown block).

        `deadline` bounds the wait for the rate limit and the request together; without one, the
        client's timeout applies to the request and to the wait.

        Raises:
            SourceUnavailable: no answer, a timeout, HTTP 5xx.
            PassingError: a JSON-RPC error that may pass.
            RateLimited: HTTP 429 or a rate-limit error of the node.
            RequestRefused: a final JSON-RPC error, or another HTTP 4xx.
            ExecutionFailed: the called contract fails.
            DeadlineExceeded: the rate limit allows the request only after the deadline.
            MalformedAnswer: the response is not JSON-RPC, or too large.
        """
        outcome = self._outcome(1, method, self._exchange([_request(1, method, params)], deadline))
        if isinstance(outcome, SourceError):
            self._fail(outcome)
        return outcome["result"]

    def call_together(
        self, calls: Sequence[tuple[str, list[Any]]], deadline: Deadline | None = None
    ) -> list[Any]:
        """Return the `result` of each request; in one batch, unless the node takes none.

        Args:
            calls: methods with their parameters.
            deadline: as for `call`.

        Raises:
            SourceError: as `call`, of the first request that fails.
        """
        if self._takes_batches and len(calls) > 1:
            results = self._together(calls, deadline)
            if isinstance(results, SourceError):
                self._fail(results)
            if results is not None:
                return results
        return [self.call(method, params, deadline) for method, params in calls]

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def _exchange(self, requests: list[dict[str, Any]], deadline: Deadline | None) -> Reply:
        """Send one request, or a batch of several."""
        timeout = self._http.timeout
        until = deadline or Deadline.after(timeout)
        for _ in requests:
            if not self._rate_limit.acquire(until):
                raise DeadlineExceeded(
                    "node", "our own rate limit, or a pause that the node asked for"
                )
        if deadline is not None:
            timeout = min(timeout, deadline.remaining)
            if timeout <= 0:
                raise DeadlineExceeded("node", "no time left for the request")
        body = requests if len(requests) > 1 else requests[0]
        return self._http.exchange(body, timeout=timeout)

    def _together(
        self, calls: Sequence[tuple[str, list[Any]]], deadline: Deadline | None
    ) -> list[Any] | SourceError | None:
        """The results of a batch, or the error to raise; None if the node does not answer it."""
        batch = [_request(n, *call) for n, call in enumerate(calls, 1)]
        reply = self._exchange(batch, deadline)
        answers = reply.answer if isinstance(reply.answer, list) else []
        found = {str(one.get("id")): one for one in answers if isinstance(one, dict)}
        if len(found) != len(calls):
            is_busy = isinstance(self._http.failure_of(reply), SourceUnavailable | RateLimited)
            self._takes_batches = is_busy
            return None
        results = []
        for n, (method, _) in enumerate(calls, 1):
            outcome = self._outcome(n, method, replace(reply, answer=found.get(str(n))))
            if isinstance(outcome, SourceError):
                return outcome
            results.append(outcome["result"])
        return results

    def _fail(self, failure: SourceError) -> NoReturn:
        if failure.retry_after is not None:
            self._rate_limit.pause(failure.retry_after)
        raise failure

    def _outcome(self, identity: int, method: str, reply: Reply) -> dict[str, Any] | SourceError:
        """The response object with its result, or the error to raise.

        The error is returned, since raised here it would keep the response alive.
        """
        answer = reply.answer
        error = None
        if isinstance(answer, dict):
            error = answer.get("error")
            if error is None and "message" in answer and "result" not in answer:
                error = answer  # gateways state errors without the envelope of JSON-RPC
        by_status = self._http.failure_of(reply)
        if by_status is not None:  # names the method, as the others do
            problem = f"{method}: {by_status.problem}"
            by_status = type(by_status)("node", problem, by_status.retry_after)
        if error is not None:
            # A refusal by HTTP status is final unless the words say otherwise.
            unknown = RequestRefused if isinstance(by_status, RequestRefused) else PassingError
            failure = self._failure(method, error, unknown)
            if rpc_errors.means_null(failure):
                return {"result": None}
            if isinstance(by_status, RateLimited) and not isinstance(failure, RateLimited):
                return by_status
            failure.retry_after = failure.retry_after or reply.retry_after
            return failure
        if by_status is not None:
            return by_status
        if not isinstance(answer, dict):
            return MalformedAnswer("node", "response is not a JSON-RPC object")
        if answer.get("id") not in (identity, str(identity)):  # some echo it as text
            return MalformedAnswer("node", "response to another request")
        if "result" not in answer:
            return MalformedAnswer("node", "response without a result")
        return answer

    def _failure(self, method: str, error: Any, unknown: type[SourceError]) -> SourceError:
        given = error if isinstance(error, dict) else {"message": error}
        data = given.get("data")
        # "Internal JSON-RPC error." of a proxy has the node's own words beside it.
        said = (given.get("message"), data.get("message") if isinstance(data, dict) else None)
        words = self._http.quote(": ".join(one for one in said if isinstance(one, str) and one))
        return rpc_errors.failure(method, given.get("code"), words, data, unknown=unknown)


def _request(identity: int, method: str, params: list[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
