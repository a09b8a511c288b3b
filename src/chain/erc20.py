"""Token metadata read from the contracts with `eth_call`.

`decimals`, `name` and `symbol` of all tokens of a transaction go into one `eth_call` to Multicall3.
If Multicall3 is not deployed, or one token makes the common call fail (for example by burning its
gas), the tokens are called one by one.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import (
    ExecutionFailed,
    Failure,
    MalformedAnswer,
    NotStated,
    RequestRefused,
)
from src.chain.facts import MAX_NAME_LENGTH, TokenInfo, token_info

SOURCE = "node"
MULTICALL3 = "0xca11bde05977b3631167028862be2a173976ca11"
"""The same address on every chain: https://github.com/mds1/multicall3 (MIT)."""

_DECIMALS = keccak(text="decimals()")[:4]
_NAME = keccak(text="name()")[:4]
_SYMBOL = keccak(text="symbol()")[:4]
METADATA_CALLS = (_DECIMALS, _NAME, _SYMBOL)
"""Selectors of `decimals()`, `name()` and `symbol()`, in the order of their results."""
_AGGREGATE3 = keccak(text="aggregate3((address,bool,bytes)[])")[:4]

# With the gas limit below, a call that every node accepts.
MAX_TOKENS_PER_CALL = 30
# Enough for honest tokens, and a bound on the work that a hostile one can cause on the node.
_GAS_PER_TOKEN = 1_000_000

_MAX_TEXT_BYTES = MAX_NAME_LENGTH * 16


def token_infos(node: JsonRpcClient, tokens: Collection[str]) -> Mapping[str, TokenInfo | Failure]:
    """Read the metadata of all `tokens`, with one `eth_call` per 30 of them.

    Returns for each token its metadata or the reason why there is none. Raises `SourceError`
    subclasses if the call itself fails; after `MalformedAnswer` or `RequestRefused`, single calls
    with `token_info_alone` may still succeed.
    """
    found: dict[str, TokenInfo | Failure] = {}
    wanted = list(tokens)
    for start in range(0, len(wanted), MAX_TOKENS_PER_CALL):
        found.update(_ask_together(node, wanted[start : start + MAX_TOKENS_PER_CALL]))
    return found


def token_info_alone(node: JsonRpcClient, token: str) -> TokenInfo:
    """Read one token's metadata with plain `eth_call`s. Raises `SourceError` subclasses."""
    try:
        decimals = _eth_call(node, _call(token, _DECIMALS))
    except ExecutionFailed as error:
        raise NotStated(SOURCE, f"the contract states no decimals: {error.problem}") from None
    _decimals(decimals)  # without decimals the other two are useless
    return _token_info(
        decimals,
        _call_or_nothing(node, token, _NAME),
        _call_or_nothing(node, token, _SYMBOL),
    )


def decode_text(data: bytes) -> str:
    """The text a `name()` or `symbol()` returned: an ABI string, or `bytes32` as in MKR and SAI.

    Anything else is "". Invalid UTF-8 is replaced. Long texts are truncated.
    """
    if len(data) == 32:
        return data.rstrip(b"\0").decode("utf-8", "replace")
    # As bytes, because contracts return invalid UTF-8; not strict, because some do not pad.
    text = _decode("bytes", data)
    return "" if text is None else bytes(text[:_MAX_TEXT_BYTES]).decode("utf-8", "replace")


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
    results = _decode("(bool,bytes)[]", data)
    if results is None:
        raise MalformedAnswer(SOURCE, "the multicall result does not decode")
    each = len(METADATA_CALLS)
    if len(results) != each * len(tokens):
        raise MalformedAnswer(SOURCE, "the multicall result has the wrong number of entries")
    return [list(results[start : start + each]) for start in range(0, len(results), each)]


def _ask_together(node: JsonRpcClient, tokens: list[str]) -> dict[str, TokenInfo | Failure]:
    call = multicall(tokens)
    results = multicall_results(_eth_call(node, call), tokens)
    found: dict[str, TokenInfo | Failure] = {}
    for index, token in enumerate(tokens):
        decimals, name, symbol = (
            returned if success else b"" for success, returned in results[index]
        )
        try:
            found[token] = _token_info(decimals, name, symbol)
        except MalformedAnswer as error:
            found[token] = Failure.of(error)
    return found


def _decode(abi_type: str, data: bytes) -> Any:
    """The single ABI value in `data`, or None if it does not decode."""
    try:
        (value,) = decode([abi_type], data, strict=False)
    except (DecodingError, OverflowError, RecursionError, ValueError):
        return None
    return value


def _token_info(decimals: bytes, name: bytes, symbol: bytes) -> TokenInfo:
    return token_info(SOURCE, decode_text(name), decode_text(symbol), _decimals(decimals))


def _decimals(data: bytes) -> int:
    if len(data) < 32:
        raise NotStated(SOURCE, "the contract states no decimals")
    return int.from_bytes(data[:32])


def _call_or_nothing(node: JsonRpcClient, token: str, selector: bytes) -> bytes:
    """Read an optional `name` or `symbol`: if the contract fails, there is none."""
    try:
        return _eth_call(node, _call(token, selector))
    except ExecutionFailed:
        return b""


def _call(to: str, data: bytes, gas: int = _GAS_PER_TOKEN) -> dict[str, str]:
    return {"to": to, "data": f"0x{data.hex()}", "gas": hex(gas)}


def _eth_call(node: JsonRpcClient, call: dict[str, str]) -> bytes:
    return returned_bytes(node.call("eth_call", [call, "latest"]))


def returned_bytes(result: object) -> bytes:
    """The result of an `eth_call`. Raises `MalformedAnswer` unless it is `0x` and bytes."""
    if isinstance(result, str) and result.startswith("0x") and result.isascii():
        try:
            return bytes.fromhex(result[2:])
        except ValueError:
            pass
    raise MalformedAnswer(SOURCE, "eth_call did not return bytes")
