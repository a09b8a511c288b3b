"""Why a question to the outside world has no answer.

    SourceError (RuntimeError)
    |-- SourceUnavailable    no answer: connection, time-out, HTTP 5xx, circuit open
    |-- RateLimited          refused for now: HTTP 429, a rate-limit text, our own rate limit
    |-- MalformedAnswer      not what was asked for; also lies such as decimals 10**9
    |-- RequestRefused       the source will not answer this: HTTP 4xx, JSON-RPC error, bad API key
    |-- DeadlineExceeded     the time for this transaction's look-ups ran out
    +-- NotConfigured        no source is configured that could answer

    NotFound (LookupError)   an *answer*: the thing does not exist (a new address has no first
                             transaction). True now, not for ever: never cached.

A `SourceError` is a failure, not an answer: nothing that raises one is ever cached. Messages name
the source and the problem and never contain a URL's query, a header or a key.
"""


class SourceError(RuntimeError):
    """A source failed to answer. `source` names it: "etherscan", "ethplorer", "node"."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class SourceUnavailable(SourceError):
    """Connection refused or reset, time-out, HTTP 5xx, or the circuit breaker is open."""


class RateLimited(SourceError):
    """Too many requests, by the source's answer or by our own rate limit."""


class MalformedAnswer(SourceError):
    """The answer is not of the documented shape or is impossible."""


class RequestRefused(SourceError):
    """The source understood the request and refuses it: HTTP 4xx or a JSON-RPC error."""


class DeadlineExceeded(SourceError):
    """The deadline for this transaction's look-ups has passed."""


class NotConfigured(SourceError):
    """No source that could answer is configured."""


class NotFound(LookupError):
    """The source answers that the thing does not exist (yet)."""
