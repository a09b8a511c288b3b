"""Token metadata read from the contracts with `eth_call`.

`decimals`, `name` and `symbol` of all tokens of a transaction go into one `eth_call` to Multicall3.
If Multicall3 is not deployed, or one token makes the common call fail (for example by burning its
gas), the tokens are called one by one.
"""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import (
    AnswerTooLarge,
    ExecutionFailed,
    Failure,
    MalformedAnswer,
    PassingError,
    RequestRefused,
)
from src.chain.facts import (
    MAX_DECIMALS,
    MAX_NAME_LENGTH,
    UNREADABLE_SYMBOL,
    TokenInfo,
    token_info,
)
from src.chain.quantities import as_bytes
from src.chain.transfers import ZERO_ADDRESS

SOURCE = "node"
MULTICALL3 = "0xca11bde05977b3631167028862be2a173976ca11"
"""The same address on every chain: https://github.com/mds1/multicall3 (MIT)."""

_DECIMALS = keccak(text="decimals()")[:4]
_NAME = keccak(text="name()")[:4]
_SYMBOL = keccak(text="symbol()")[:4]
METADATA_CALLS = (_DECIMALS, _NAME, _SYMBOL)
"""Selectors of `decimals()`, `name()` and `symbol()`, in the order of their results."""
_TOTAL_SUPPLY = keccak(text="totalSupply()")[:4]
_BALANCE_OF = keccak(text="balanceOf(address)")[:4]
_AGGREGATE3 = keccak(text="aggregate3((address,bool,bytes)[])")[:4]

# With the gas limit below, a call that every node accepts.
MAX_TOKENS_PER_CALL = 30
# Enough for honest tokens, and a bound on the work that a hostile one can cause on the node.
_GAS_PER_TOKEN = 1_000_000
_GAS_ALONE = 10_000_000
# Memory costs gas, and this does not suffice to return more than is read (512 KiB of JSON).
_LITTLE_GAS = 100_000

_WORD = 32  # bytes
_MAX_TEXT_BYTES = MAX_NAME_LENGTH * 16

# Of one call. An honest one takes 96.
_MAX_ANSWER_BYTES = 64 * 1024
# What stands for an answer that is longer, or that the gas does not suffice for.
_UNREADABLE = {_SYMBOL: encode(["string"], [UNREADABLE_SYMBOL])}
_TOO_MUCH = re.compile(
    r"out[ _]?of[ _]?gas|insufficient_gas|gas required exceeds"
    r"|\bresponse\b.{0,30}\b(too (large|big)|size)",
    re.IGNORECASE,
)


def token_infos(node: JsonRpcClient, tokens: Collection[str]) -> Mapping[str, TokenInfo | Failure]:
    """Read the metadata of all `tokens`, with one `eth_call` per 30 of them.

    Returns for each token its metadata, or an error where one of its calls failed: it may have
    reverted, or another token burnt the gas. Raises `SourceError` subclasses if the call itself
    fails; after `MalformedAnswer` or `RequestRefused`, single calls with `token_info_alone` may
    still succeed.
    """
    found: dict[str, TokenInfo | Failure] = {}
    wanted = list(tokens)
    for start in range(0, len(wanted), MAX_TOKENS_PER_CALL):
        asked = wanted[start : start + MAX_TOKENS_PER_CALL]
        results = multicall_results(_eth_call(node, multicall(asked)), asked)
        for token, answers in zip(asked, results, strict=True):
            if all(success for success, _ in answers):
                found[token] = _token_info(*[returned for _, returned in answers])
            else:
                found[token] = Failure.of(MalformedAnswer(SOURCE, "a call failed among others"))
    return found


def token_info_alone(node: JsonRpcClient, token: str) -> TokenInfo:
    """Read one token's metadata with plain `eth_call`s. Raises `SourceError` subclasses."""
    return _token_info(*answers_alone(lambda call: _eth_call(node, call), token))


def balance_at(node: JsonRpcClient, token: str, account: str, block: int) -> int:
    """What an account held of a token at the end of a block, raw units.

    The zero address stands for all that hold it: the supply.

    Raises `SourceError` subclasses; most nodes know the states of the newest blocks only.
    """
    balance = _BALANCE_OF + encode(["address"], [account])
    call = _call(token, _TOTAL_SUPPLY if account == ZERO_ADDRESS else balance)
    data = returned_bytes(node.call("eth_call", [call, hex(block)]))
    if len(data) != _WORD:
        raise MalformedAnswer(SOURCE, "balanceOf did not return a number")
    return int.from_bytes(data)


def answers_alone(eth_call: Callable[[dict[str, str]], bytes], token: str) -> list[bytes | None]:
    """One token's results of `METADATA_CALLS`, each with a call of its own; None if it fails.

    So a token cannot hide its symbol behind its name.

    Args:
        eth_call: calls a contract; raises `ExecutionFailed` if the contract fails, and other
            `SourceError`s, which this function does not catch, if the node does.
        token: the token.
    """
    answers: list[bytes | None] = []
    for selector in METADATA_CALLS:
        try:
            answers.append(_read(selector, _answer_alone(eth_call, token, selector)))
        except RequestRefused as error:
            is_too_much = _TOO_MUCH.search(error.problem)
            if not is_too_much and not isinstance(error, ExecutionFailed):
                raise
            answers.append(_UNREADABLE.get(selector) if is_too_much else None)
        except PassingError:
            # Besu's words for code that fails without a reason are "Internal error".
            if not _fails_in_multicall(eth_call, token, selector):
                raise
            answers.append(None)
    return answers


def _answer_alone(
    eth_call: Callable[[dict[str, str]], bytes], token: str, selector: bytes
) -> bytes:
    call = _call(token, selector, _GAS_ALONE)
    with suppress(AnswerTooLarge):
        return eth_call(call)
    # The node may be at fault, for a moment or for good: then it returns as much for little gas.
    with suppress(RequestRefused, PassingError):
        eth_call(_call(token, selector, _LITTLE_GAS))
    try:
        return eth_call(call)
    except AnswerTooLarge:  # so it is the token's
        return _UNREADABLE.get(selector, b"")


def _fails_in_multicall(
    eth_call: Callable[[dict[str, str]], bytes], token: str, selector: bytes
) -> bool:
    """Whether the contract's code fails, as Multicall3 says: then the node is not the cause."""
    data = _AGGREGATE3 + encode(["(address,bool,bytes)[]"], [[(token, True, selector)]])
    results = _results(eth_call(_call(MULTICALL3, data, _GAS_ALONE)), 1)
    return results is not None and not results[0][0]


def decode_text(data: bytes) -> str:
    """The text a `name()` or `symbol()` returned: an ABI string, or `bytes32` as in MKR and SAI.

    Anything else is "". Invalid UTF-8 is replaced, if any of it is valid. Long texts are truncated.
    """
    if len(data) == _WORD:
        content = data.rstrip(b"\0")
    else:
        # As bytes, because contracts return invalid UTF-8; not strict, because some do not pad.
        content = bytes((_decode("bytes", data) or b"")[:_MAX_TEXT_BYTES])
    text = content.decode("utf-8", "replace")
    return text if text.strip("\ufffd") else ""


def multicall(tokens: Collection[str]) -> dict[str, str]:
    """The `eth_call` that queries all these tokens (`MAX_TOKENS_PER_CALL` at most)."""
    calls = [(token, True, selector) for token in tokens for selector in METADATA_CALLS]
    data = _AGGREGATE3 + encode(["(address,bool,bytes)[]"], [calls])
    return _call(MULTICALL3, data, _GAS_PER_TOKEN * len(tokens))


def multicall_results(data: bytes, tokens: Collection[str]) -> list[list[tuple[bool, bytes]]]:
    """Each token's results of `METADATA_CALLS`: success, and the returned bytes.

    Raises:
        RequestRefused: the chain has no Multicall3.
        MalformedAnswer: the data is not the result of `multicall(tokens)`.
    """
    if not data:
        raise RequestRefused(SOURCE, "no Multicall3 on this chain")
    each = len(METADATA_CALLS)
    results = _results(data, each * len(tokens))
    if results is None:
        raise MalformedAnswer(SOURCE, "the multicall result does not decode")
    return [
        [
            (success, _read(selector, data))
            for selector, (success, data) in zip(METADATA_CALLS, results[start:], strict=False)
        ]
        for start in range(0, len(results), each)
    ]


def _read(selector: bytes, data: bytes) -> bytes:
    """What is read of an answer."""
    return data if len(data) <= _MAX_ANSWER_BYTES else _UNREADABLE.get(selector, data)


def _results(data: bytes, count: int) -> list[tuple[bool, bytes]] | None:
    """So many results of `aggregate3`, or None.

    The number is compared first: thousands of results may all name the same bytes, each a copy.
    """
    if [int.from_bytes(data[at : at + _WORD]) for at in (0, _WORD)] != [_WORD, count]:
        return None
    results: list[tuple[bool, bytes]] | None = _decode("(bool,bytes)[]", data)
    return results


def _decode(abi_type: str, data: bytes) -> Any:
    """The single ABI value in `data`, or None if it does not decode."""
    try:
        (value,) = decode([abi_type], data, strict=False)
    except (DecodingError, OverflowError, RecursionError, ValueError):
        return None
    return value


def _token_info(decimals: bytes | None, name: bytes | None, symbol: bytes | None) -> TokenInfo:
    return token_info(
        SOURCE, decode_text(name or b""), decode_text(symbol or b""), _decimals(decimals or b"")
    )


def _decimals(data: bytes) -> int | None:
    """None if the contract states none, or an impossible number."""
    number = int.from_bytes(data[:_WORD])
    return number if len(data) >= _WORD and number <= MAX_DECIMALS else None


def _call(to: str, data: bytes, gas: int = _GAS_PER_TOKEN) -> dict[str, str]:
    return {"to": to, "data": f"0x{data.hex()}", "gas": hex(gas)}


def _eth_call(node: JsonRpcClient, call: dict[str, str]) -> bytes:
    return returned_bytes(node.call("eth_call", [call, "latest"]))


def returned_bytes(result: object) -> bytes:
    """The result of an `eth_call`. Raises `MalformedAnswer` unless it is `0x` and bytes."""
    content = as_bytes(result)
    if content is None:
        raise MalformedAnswer(SOURCE, "eth_call did not return bytes")
    return content
