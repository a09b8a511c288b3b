"""Errors of external sources: nodes and explorers.

    SourceError (RuntimeError)
    |-- SourceUnavailable    no answer: connection, timeout, HTTP 5xx, circuit open
    |   +-- PassingError     an answer that says "not now": "header not found", an unknown error
    |-- RateLimited          refused for now: HTTP 429, a rate-limit text, our own rate limit
    |-- MalformedAnswer      not a valid answer
    |   |-- AnswerTooLarge   more than is read
    |   +-- NotStated        an *answer*: the contract states no such value, or an impossible one
    |-- RequestRefused       the source rejects the request: HTTP 4xx, bad API key, no such method
    |   +-- ExecutionFailed  an *answer*: the contract's code fails (revert, out of gas)
    |-- DeadlineExceeded     the time for this transaction's lookups ran out
    +-- NotConfigured        no source is configured that could answer

    NotFound (LookupError)   an *answer*: the thing does not exist (a new address has no first
                             transaction). May change later, so it is never cached.

A `SourceError` is a failure, not an answer, and is never cached. Messages name the source and the
problem and never contain a URL's query, a header or a key. What is kept of a failure is a
`Failure`: an exception's traceback keeps alive whatever its frames refer to, such as a response of
megabytes.
"""

from dataclasses import dataclass
from typing import Self


class SourceError(RuntimeError):
    """A source failed to answer.

    Args:
        source: its name: "etherscan", "ethplorer", "node".
        problem: what is wrong.
        retry_after: seconds after which the source wants to be asked again, if it says so.
    """

    def __init__(self, source: str, problem: str, retry_after: float | None = None) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem
        self.retry_after = retry_after


class SourceUnavailable(SourceError):
    """Connection refused or reset, timeout, HTTP 5xx, or the circuit breaker is open."""


class PassingError(SourceUnavailable):
    """The source answers that it cannot answer now, or with an error of unknown meaning."""


class RateLimited(SourceError):
    """Too many requests, according to the source or our own rate limit."""


class MalformedAnswer(SourceError):
    """The response has an unexpected format or impossible values."""


class NotStated(MalformedAnswer):
    """The contract answered, without a usable value: a property of the contract."""


class AnswerTooLarge(MalformedAnswer):
    """The response is larger than is read: a contract chooses the size of what it returns."""


class RequestRefused(SourceError):
    """The source rejects the request, and would reject it again.

    `code` is that of the JSON-RPC error, if it is one.
    """

    code: int | None = None


class ExecutionFailed(RequestRefused):
    """The contract's code fails: a property of the contract, not of the source."""


class DeadlineExceeded(SourceError):
    """The deadline for this transaction's lookups has passed."""


class NotConfigured(SourceError):
    """No source that could answer is configured."""


class NotFound(LookupError):
    """The source answers that the object does not exist (yet)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is kept of a failed lookup."""

    kind: type[SourceError] | type[NotFound]  # of the exception
    source: str  # see `SourceError`; "" for `NotFound`
    problem: str  # what is wrong

    @classmethod
    def of(cls, error: SourceError | NotFound) -> Self:
        """The record of an exception."""
        if isinstance(error, SourceError):
            return cls(type(error), error.source, error.problem)
        return cls(type(error), "", str(error))

    def is_a(self, *kinds: type[Exception]) -> bool:
        """Whether the exception is of one of these kinds."""
        return issubclass(self.kind, kinds)

    def error(self) -> SourceError | NotFound:
        """A new exception, to be raised."""
        if issubclass(self.kind, SourceError):
            return self.kind(self.source, self.problem)
        return self.kind(self.problem)

    def __str__(self) -> str:
        return str(self.error())
