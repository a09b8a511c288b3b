"""Errors of external sources: nodes and explorers.

    SourceError (RuntimeError)
    |-- SourceUnavailable    no answer: connection, timeout, HTTP 5xx, circuit open
    |-- RateLimited          refused for now: HTTP 429, a rate-limit text, our own rate limit
    |-- MalformedAnswer      not a valid answer; also impossible values such as decimals 10**9
  |-- RequestRefused       the source rejects the request: HTTP 4xx, JSON-RPC error, bad API key
  |-- DeadlineExceeded     the time for this transaction's lookups ran out
  +-- NotConfigured        no source is configured that could answer

    NotFound (LookupError)   an *answer*: the thing does not exist (a new address has no first
                             transaction). May change later, so it is never cached.

A `SourceError` is a failure, not an answer, and is never cached. Messages name the source and the
problem and never contain a URL's query, a header or a key.
"""


class SourceError(RuntimeError):
    """A source failed to answer. `source` names it: "etherscan", "ethplorer", "node"."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class SourceUnavailable(SourceError):
    """Connection refused or reset, timeout, HTTP 5xx, or the circuit breaker is open."""


class RateLimited(SourceError):
    """Too many requests, according to the source or our own rate limit."""


class MalformedAnswer(SourceError):
    """The response has an unexpected format or impossible values."""


class RequestRefused(SourceError):
    """The source rejects the request: HTTP 4xx or a JSON-RPC error."""


class DeadlineExceeded(SourceError):
    """The deadline for this transaction's lookups has passed."""


class NotConfigured(SourceError):
    """No source that could answer is configured."""


class NotFound(LookupError):
    """The source answers that the object does not exist (yet)."""
