"""What a node's JSON-RPC error means for whoever asked.

Codes are little help: -32000 is anything from a reverted call to a backend that lags a block
behind, and providers have codes of their own. So the wording decides first, as nodes (Geth, Erigon,
Reth, Nethermind, Besu) and providers (proxyd, Infura, Alchemy, QuickNode, Chainstack, Ankr, dRPC)
write it, then the code. An error that neither explains may pass: it is retried for as long as the
caller has patience.
"""

import re
from typing import Any, Final

from src.chain.errors import (
    ExecutionFailed,
    PassingError,
    RateLimited,
    RequestRefused,
    SourceError,
)

RESOURCE_NOT_FOUND: Final = -32001
"""EIP-1474; most nodes answer null instead."""

MAX_RETRY_AFTER_SECONDS: Final = 60.0
"""A node's wish to be left alone is granted for at most this long at a time."""

_REVERTED_CODE = 3
_METHOD_NOT_FOUND = -32601
NO_SUCH_METHOD_CODES: Final = frozenset({_METHOD_NOT_FOUND, -32004, 4200})
SIMULATION_CODES: Final = frozenset(range(-38026, -38009))
"""Of `eth_simulateV1`: what is wrong with a transaction, or with the request."""
NONCE_TOO_HIGH: Final = -38011
"""One of them: earlier transactions of the sender are missing."""
_LIMIT_CODES = frozenset({-32005, -32029, -32090, -32097, 429})
_FINAL_CODES = NO_SUCH_METHOD_CODES | {
    -32700, -32600, -32602, RESOURCE_NOT_FOUND, -32003, 4001, 4100, 4444,
}  # fmt: skip

_EXECUTION = re.compile(
    r"revert|opcode|out ?of ?(gas|stack|bounds)|gas (required exceeds|uint64 overflow)"
    r"|(invalid|bad) ?jump|bad ?instruction|stack ?(under|over|limit)|call depth exceeded"
    r"|\bvm (exception|execution error)|\bevm error|message execution failed|write protection"
    r"|insufficient_gas|invalid_operation|illegal state change|precompile ?(error|fail)"
    r"|(access|call) ?violation|due to an exception"
)
# What a contract returned as it failed, in the error's data: no other error has bytes there.
_OUTPUT = re.compile(r"(reverted ?)?0x[0-9a-f]*")
# A contract chooses its revert message, and a limit on gas is none on requests.
_ABOUT_EXECUTION = re.compile(r"\bgas\b|\bexecution\b|\bopcode\b|\bstack\b")
_LIMIT = re.compile(
    r"rate[ -]?limit|request rate|rate exceeded|permitted rate"
    r"|too many (invalid|request|call|connection)"
    r"|(maximum|number of|monthly|daily) requests?\b|requests? allowance|limit of requests"
    r"|(requests?|calls?|usage|daily|monthly|plan|tier|capacity|credits?|throughput|rps) limit"
    r"|limited to \d|limit (reached|exceeded|exhausted)|over capacity|per sec|/ ?s(ec(ond)?)?\b"
    r"|per (minute|day)|\b[rc]ps\b|compute units|throughput|quota|throttl|slow down|concurren"
    r"|exceeded (its|your|the) .*(limit|capacity|credits)|reached .{0,40}\blimit|out of credits"
    r"|(retry|try again) (in|after) \d|defined limit|capacity exceeded|usage cap"
    r"|balance is exhausted"
)
_AHEAD = r"(beyond|past|exceeds|(greater|higher) than) (the )?(current )?(head|latest|tip)"
_TOO_LARGE = re.compile(
    r"\b(response|result|payload|body|message)\b.{0,30}\b(too (large|big|long)|size|exceed)"
    r"|\bquery (returned|exceeds)|too many (blocks|results|logs|events)|at most \d+ blocks"
    r"|\b(limit|max|exceed|too |reduc|up to|over \d).{0,60}(?<!out of )\branges?\b"
    rf"|(?<!out of )\branges?\b(?!.{{0,30}}{_AHEAD})"
    r".{0,30}(limit|max|exceed|too |greater|over \d|not supported)"
)
_NO_SUCH_METHOD = re.compile(
    r"\bmethods?\b.*\b(not|unsupported|unknown|disabled|unavailable|blocked)\b"
    r"|(unsupported|unknown|invalid|no such) method|not whitelisted|not implemented"
)
_LAGGING = re.compile(
    r"\b(header|blocks?|height)\b.{0,90}\b((can)?not (be )?(found|available|exist|yet)|unavailable"
    r"|doesn.t exist|out of range)"
    r"|\b(unknown|missing|no such|(can ?not|could not|unable to|failed to) (find|get|load)( the)?)"
    r" (block|header)|ahead of|in the future|not (yet )?synced|\bsyncing|catching up"
    rf"|{_AHEAD}"
)
_GONE = re.compile(
    r"prun(ed|ing)|missing trie node|archive|historical (state|data)|history|ancient"
    r"|\bstate\b.*\b(not (available|found)|unavailable|missing|discarded)|\bno state available"
    r"|too old|older than|(within|only) the (last|latest) \d+ blocks|first supported block"
    r"|distance to target block|proof window"
)
_PASSING = re.compile(
    r"time[d -]*out|deadline exceeded|temporar|try (it )?again|retry|unavailable|overload|busy"
    r"|healthy|no (available )?(backend|upstream|server|provider)|gateway|aborted|cancel"
    r"|internal (server )?error"
)
_REFUSED = re.compile(
    r"unauthori[sz]ed|not authori[sz]ed|forbidden|authenticat|api[ -]?key|project id|access denied"
    r"|(invalid|missing) (argument|value|param|request|json|hex|token|key|project)"
    r"|not (allowed|permitted|supported)|unsupported|disabled|suspended|payment|upgrade your"
    r"|insufficient (funds|balance|credits)|\b(your|current|free) ?(plan|tier)\b|\binactive\b"
    r"|only available|premium|dedicated (full )?node"
)
_MAX_DATA = 200
_WISH_KEYS = ("try_again_in", "retry_after", "retryAfter", "backoff_seconds")
_WISH = re.compile(r"(?:(?:retry|try again) (?:in|after)|wait) (\d[\d.]{0,20}) ?(ms|milli|[smh]|)")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?) ?(ms|us|µs|ns|h|m|s|)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def failure(
    method: str,
    code: Any,
    words: str,
    data: Any = None,
    *,
    unknown: type[SourceError] = PassingError,
) -> SourceError:
    """The exception for an error object.

    `unknown` is the kind of an error that neither its words nor its code explain.
    """
    number = code if isinstance(code, int) and not isinstance(code, bool) else None
    output = data[:_MAX_DATA].lower() if isinstance(data, str) and "call" in method.lower() else ""
    kind = _kind(number, words.lower(), output) or unknown
    shown = "?" if number is None else number
    problem = f"{method}: JSON-RPC error {shown}: {words}"
    if kind is RequestRefused and _GONE.search(words.lower()):
        problem += " (too old for this node: an archive node has it)"
    error = kind("node", problem, _wish(words, data) if kind is RateLimited else None)
    if isinstance(error, RequestRefused):
        error.code = number
    return error


def means_null(error: SourceError) -> bool:
    """Whether it states in EIP-1474's words that nothing is there, for which most say `null`."""
    is_code = isinstance(error, RequestRefused) and error.code == RESOURCE_NOT_FOUND
    return is_code and error.problem.lower().rstrip(".").endswith("not found")


def refusal(words: str) -> type[SourceError]:
    """The kind of a refusal of an explorer, whose wordings are those of nodes' providers."""
    return _kind(None, words.lower(), "") or RequestRefused


def seconds(value: Any) -> float | None:
    """A duration such as `Retry-After: 3`, 1.5 or "652.5ms" in seconds, or None. Capped."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(min(value, MAX_RETRY_AFTER_SECONDS)) if value >= 0 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        return None
    return min(sum(float(n) * _UNITS[unit] for n, unit in parts), MAX_RETRY_AFTER_SECONDS)


def _kind(code: int | None, words: str, output: str) -> type[SourceError] | None:
    """The kind of an error; `output` is the data of a failed call."""
    if code in SIMULATION_CODES:
        return RequestRefused
    if code == _REVERTED_CODE or "revert" in words:
        return ExecutionFailed
    if _TOO_LARGE.search(words):
        return RequestRefused
    if _LIMIT.search(words) and not _ABOUT_EXECUTION.search(words):
        return RateLimited
    if code == _METHOD_NOT_FOUND or _NO_SUCH_METHOD.search(words):
        return RequestRefused
    if _GONE.search(words):
        return RequestRefused
    if code in _LIMIT_CODES:
        return RateLimited
    if _LAGGING.search(words):
        return PassingError
    if _EXECUTION.search(words) or _EXECUTION.search(output) or _OUTPUT.fullmatch(output):
        return ExecutionFailed
    if _PASSING.search(words):
        return PassingError
    if code in _FINAL_CODES or _REFUSED.search(words) or _ABOUT_EXECUTION.search(words):
        return RequestRefused
    return None


def _wish(words: str, data: Any) -> float | None:
    """When the node wants to be asked again, in seconds."""
    if isinstance(data, dict):
        rate = data.get("rate")
        for source in (data, rate if isinstance(rate, dict) else {}):
            for key in _WISH_KEYS:
                if (wish := seconds(source.get(key))) is not None:
                    return wish
    match = _WISH.search(words.lower())
    return None if match is None else seconds(match[1] + match[2].replace("milli", "ms"))
