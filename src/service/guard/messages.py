"""JSON-RPC messages, read so strictly that no other parser can read them differently.

What the guard screens must be what the node executes. Parsers differ on duplicate keys (the first
or the last counts), on the case of keys (Go ignores it, also for `ſ` and the Kelvin sign), on NaN,
byte order marks and encodings. All of that is refused here, so the text of a call can be passed on
byte for byte.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from src.chain.clients.json_text import is_nested_deeper

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REJECTED: Final = -32003
"""EIP-1474: transaction rejected."""
LIMIT_EXCEEDED: Final = -32005
"""EIP-1474: request exceeds a defined limit."""

MAX_CALLS: Final = 1_000
"""Calls in a batch, as Geth's own limit."""

MAX_VALUES: Final = 50_000
"""In a message: while many more are read, all other clients wait."""

_NO_REPLY: Final = "the node did not answer this call, which it may have received"
_MAX_DEPTH: Final = 32
_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params"})
_BLANKS: Final = re.compile(r"[ \t\n\r]*")


class Malformed(ValueError):
    """The message is not JSON-RPC, or parsers could disagree on it. Says why, without quoting it.

    Args:
        problem: what is wrong.
        code: of the JSON-RPC error.
    """

    def __init__(self, problem: str, code: int = PARSE_ERROR) -> None:
        super().__init__(problem)
        self.code = code


class Number(str):
    """A number's own text: exact for any size, and told apart from strings."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a message."""

    text: str  # as it was received
    id: str | None  # the id's JSON text; None for a notification, which gets no reply
    method: str  # the decoded name; "" for a call that is no valid request
    params: Any  # the decoded parameters, with numbers as `Number`
    problem: str = ""  # why it is no valid request, or ""


@dataclass(frozen=True, slots=True)
class Request:
    """A message of a client: one call, or a batch of them."""

    calls: tuple[Call, ...]
    is_batch: bool


def read_request(body: bytes) -> Request:
    """Read a client's message.

    Raises:
        Malformed: it is not JSON, is ambiguous, too deeply nested, or has too many calls or values.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise Malformed(f"more than {MAX_VALUES} values", LIMIT_EXCEEDED)
    parts, is_batch = _parts(text, _STRICT, _MAX_DEPTH)
    return Request(tuple(_call(part, value) for part, value in parts), is_batch)


def error(
    identity: str | None, code: int, message: str, data: Mapping[str, Any] | None = None
) -> str:
    """An error reply as JSON text; `identity` is the call's id as JSON, None if there is none."""
    described = {"code": code, "message": message} | ({"data": data} if data is not None else {})
    return f'{{"jsonrpc":"2.0","id":{identity or "null"},"error":{json.dumps(described)}}}'


def merged(calls: Sequence[Call], own: Mapping[int, str], answer: str | None) -> str:
    """The reply to a batch of which some calls were not passed on, in the batch's order.

    Args:
        calls: of the batch.
        own: our replies, by the position of the call.
        answer: the node's reply to the other calls; None if there are none.
    """
    given: dict[str, list[str]] = {}
    for text, identity in _replies(answer):
        given.setdefault(identity, []).append(text)
    parts = []
    for position, call in enumerate(calls):
        if position in own:
            parts += [] if call.id is None else [own[position]]
        elif call.id is not None:
            found = given.get(_canonical(call.id))
            parts.append(found.pop(0) if found else error(call.id, INTERNAL_ERROR, _NO_REPLY))
    parts += [text for left in given.values() for text in left]
    return f"[{','.join(parts)}]"


def _replies(answer: str | None) -> Iterator[tuple[str, str]]:
    """The replies in a node's answer, each with its id. One that is unreadable has none."""
    if answer is None:
        return
    try:
        found, _ = _parts(answer, _LENIENT, 10 * _MAX_DEPTH)
    except Malformed:
        found = [(error(None, INTERNAL_ERROR, "the node's answer is not JSON"), None)]
    for text, value in found:
        identity = value.get("id") if isinstance(value, dict) else None
        yield text, _canonical(_id_text(identity))


def _canonical(identity: str | None) -> str:
    """An id's text in one form, however its characters were escaped."""
    if identity is None or not identity.startswith('"'):
        return identity or "null"
    return json.dumps(json.loads(identity))


def _call(text: str, value: Any) -> Call:
    if not isinstance(value, dict):
        return Call(text, "null", "", None, "a call must be an object")
    identity = _id_text(value["id"]) if "id" in value else None
    if any(key not in _MEMBERS and key.casefold() in _MEMBERS for key in value):
        return Call(text, identity, "", None, "a member's name is in the wrong case")
    method = value.get("method")
    if not isinstance(method, str) or isinstance(method, Number) or not method:
        return Call(text, identity or "null", "", None, "the method must be a name")
    if isinstance(value.get("id"), dict | list | bool):
        return Call(text, "null", "", None, "the id must be a string, a number or null")
    return Call(text, identity, method, value.get("params"))


def _id_text(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    return json.dumps(value) if value is None or isinstance(value, str) else "null"


def _parts(text: str, decoder: json.JSONDecoder, depth: int) -> tuple[list[tuple[str, Any]], bool]:
    """The objects of a message, each with its own text, and whether they are a batch."""
    if is_nested_deeper(text, depth):
        raise Malformed(f"nested deeper than {depth} levels")
    parts: list[tuple[str, Any]] = []
    at = _after_blanks(text, 0)
    if is_batch := text.startswith("[", at):
        at = _after_blanks(text, at + 1)
    is_more = not (is_batch and text.startswith("]", at))
    while is_more:
        if len(parts) == MAX_CALLS:
            raise Malformed(f"a batch of more than {MAX_CALLS} calls", LIMIT_EXCEEDED)
        value, end = _decode(decoder, text, at)
        parts.append((text[at:end], value))
        at = _after_blanks(text, end)
        if is_more := is_batch and text.startswith(",", at):
            at = _after_blanks(text, at + 1)
    if is_batch:
        if not text.startswith("]", at):
            raise Malformed("not JSON")
        at = _after_blanks(text, at + 1)
    if at != len(text):
        raise Malformed("text after the message")
    return parts, is_batch


def _after_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return found.end() if found else position


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a key appears twice in an object")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise Malformed("NaN and Infinity are not JSON")


def _decode(decoder: json.JSONDecoder, text: str, position: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, position)
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_without_duplicates,
    parse_int=Number,
    parse_float=Number,
    parse_constant=_no_constant,
)
_LENIENT: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number)
