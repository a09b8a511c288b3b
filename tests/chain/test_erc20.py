"""Metadata comes from the contracts in one call, and survives what contracts return."""

import json
import tracemalloc

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import Request, Response

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import decode_text, multicall_results, token_info_alone, token_infos
from src.chain.errors import (
    Failure,
    MalformedAnswer,
    PassingError,
    RequestRefused,
    SourceUnavailable,
)
from src.chain.facts import UNREADABLE_SYMBOL, TokenInfo
from tests.support.fake_chain import FakeNode, abi_string, abi_uint, serve, usual_token

TOKENS = [f"0x{number:040x}" for number in range(1, 121)]
MKR_NAME = b"Maker".ljust(32, b"\0")


def test_thirty_tokens_take_one_call() -> None:
    fake = FakeNode({token: usual_token() for token in TOKENS[:30]})
    with serve(fake.answer) as url:
        infos = token_infos(JsonRpcClient(url), TOKENS[:30])
    assert fake.calls == ["eth_call"]
    assert infos == dict.fromkeys(TOKENS[:30], TokenInfo("Some Token", "SOME", 18))


def test_more_tokens_take_one_call_per_thirty() -> None:
    fake = FakeNode({token: usual_token() for token in TOKENS})
    with serve(fake.answer) as url:
        assert len(token_infos(JsonRpcClient(url), TOKENS)) == len(TOKENS)
    assert fake.calls == ["eth_call"] * 4


def test_bytes32_names_are_read_as_text() -> None:
    maker = {"name": MKR_NAME, "symbol": b"MKR".ljust(32, b"\0"), "decimals": abi_uint(18)}
    with serve(FakeNode({TOKENS[0]: maker}).answer) as url:
        node = JsonRpcClient(url)
        assert token_infos(node, TOKENS[:1])[TOKENS[0]] == TokenInfo("Maker", "MKR", 18)
        assert token_info_alone(node, TOKENS[0]) == TokenInfo("Maker", "MKR", 18)


def test_one_bad_token_does_not_spoil_the_others() -> None:
    fake = FakeNode(
        {
            TOKENS[0]: usual_token(),
            TOKENS[1]: usual_token(decimals=10**9),
            TOKENS[2]: {"name": abi_string("no decimals")},
            TOKENS[3]: {"decimals": abi_uint(6)},
        }
    )
    with serve(fake.answer) as url:
        infos = token_infos(JsonRpcClient(url), TOKENS[:5])
    assert infos[TOKENS[0]] == TokenInfo("Some Token", "SOME", 18)
    assert infos[TOKENS[1]] == TokenInfo("Some Token", "SOME", None)
    assert infos[TOKENS[4]] == TokenInfo("", "", None)
    for failed in (2, 3):  # reverted, or starved of gas
        info = infos[TOKENS[failed]]
        assert isinstance(info, Failure)
        assert info.is_a(MalformedAnswer)


def test_a_chain_without_multicall_is_detected() -> None:
    fake = FakeNode({TOKENS[0]: usual_token()}, has_multicall=False)
    with serve(fake.answer) as url:
        node = JsonRpcClient(url)
        with pytest.raises(RequestRefused):
            token_infos(node, TOKENS[:1])
        assert token_info_alone(node, TOKENS[0]) == TokenInfo("Some Token", "SOME", 18)


@pytest.mark.parametrize("decimals", [None, abi_uint(300), abi_uint(2**255), b"", b"\x06"])
def test_name_and_symbol_do_not_depend_on_decimals(decimals: bytes | None) -> None:
    views = usual_token("USD Coin", "USDC") | {"decimals": decimals}
    fake = FakeNode({TOKENS[0]: {name: view for name, view in views.items() if view is not None}})
    with serve(fake.answer) as url:
        info = token_info_alone(JsonRpcClient(url), TOKENS[0])
    assert info == TokenInfo("USD Coin", "USDC", None)


def test_a_token_cannot_hide_its_symbol_behind_an_endless_name() -> None:
    views = usual_token("x" * 300_000, "USDC")
    with serve(FakeNode({TOKENS[0]: views}).answer) as url:
        info = token_info_alone(JsonRpcClient(url, max_bytes=512 * 1024), TOKENS[0])
    assert info == TokenInfo("", "USDC", 18)


@pytest.mark.parametrize("size", [100_000, 300_000], ids=["fits", "too large"])
def test_a_symbol_longer_than_any_is_unreadable_and_not_missing(size: int) -> None:
    fake = FakeNode({TOKENS[0]: usual_token("USD Coin", "USDC" + " " * size)})
    with serve(fake.answer) as url:
        node = JsonRpcClient(url, max_bytes=512 * 1024)
        assert token_info_alone(node, TOKENS[0]) == TokenInfo("USD Coin", UNREADABLE_SYMBOL, 18)
        if size < 200_000:
            together = token_infos(node, TOKENS[:1])[TOKENS[0]]
            assert together == TokenInfo("USD Coin", UNREADABLE_SYMBOL, 18)


@pytest.mark.parametrize("for_good", [False, True])
def test_a_node_that_answers_too_much_has_said_nothing_about_the_token(for_good: bool) -> None:
    """A node's fault for a moment must not stand for decimals that a token lacks."""
    fake = FakeNode({TOKENS[0]: usual_token()})
    faults = iter([True])

    def answer(request: Request) -> Response:
        if for_good or next(faults, False):
            return Response(b'{"result":"0x' + b"0" * 600_000 + b'"}')
        return fake.answer(request)

    with serve(answer) as url:
        node = JsonRpcClient(url, max_bytes=512 * 1024)
        if for_good:
            with pytest.raises(MalformedAnswer):
                token_info_alone(node, TOKENS[0])
        else:
            assert token_info_alone(node, TOKENS[0]) == TokenInfo("Some Token", "SOME", 18)


@pytest.mark.parametrize(
    ("words", "symbol"),
    [
        ("out of gas", UNREADABLE_SYMBOL),
        ("OutOfGas", UNREADABLE_SYMBOL),
        ("gas required exceeds allowance (10000000)", UNREADABLE_SYMBOL),
        ("Response is too big: Exceeded max limit of 5242880", UNREADABLE_SYMBOL),
        ("response size exceeded", UNREADABLE_SYMBOL),
        ("execution reverted", ""),
        ("invalid opcode: INVALID", ""),
    ],
)
def test_a_symbol_that_costs_more_than_any_is_unreadable(words: str, symbol: str) -> None:
    fake = FakeNode({TOKENS[0]: usual_token("USD Coin", "USDC")})

    def answer(request: Request) -> Response:
        if json.loads(request.data)["params"][0]["data"] == "0x95d89b41":
            error = {"code": -32000, "message": words}
            return Response(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}))
        return fake.answer(request)

    with serve(answer) as url:
        info = token_info_alone(JsonRpcClient(url), TOKENS[0])
    assert info == TokenInfo("USD Coin", symbol, 18)


def test_results_that_all_name_the_same_bytes_take_no_memory() -> None:
    count, size = 1_000, 100_000
    words = [32, count, *[32 * count] * count, 1, 64, size]
    data = b"".join(word.to_bytes(32) for word in words) + bytes(size)
    tracemalloc.start()
    with pytest.raises(MalformedAnswer):
        multicall_results(data, TOKENS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * size


@pytest.mark.parametrize("has_multicall", [True, False])
def test_a_failing_contract_is_told_from_a_failing_node_by_multicall(has_multicall: bool) -> None:
    """Besu answers "Internal error" where a contract's code fails without a reason."""
    views = usual_token("USD Coin", "USDC")
    del views["decimals"]
    fake = FakeNode({TOKENS[0]: views}, has_multicall=has_multicall)

    def answer(request: Request) -> Response:
        call = json.loads(request.data)["params"][0]
        if call["to"] == TOKENS[0] and call["data"] == "0x313ce567":
            error = {"code": -32603, "message": "Internal error"}
            return Response(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}))
        return fake.answer(request)

    with serve(answer) as url:
        node = JsonRpcClient(url)
        if has_multicall:
            assert token_info_alone(node, TOKENS[0]) == TokenInfo("USD Coin", "USDC", None)
        else:
            with pytest.raises(PassingError):
                token_info_alone(node, TOKENS[0])


@pytest.mark.parametrize("missing", ["name", "symbol"])
def test_decimals_do_not_depend_on_name_and_symbol(missing: str) -> None:
    views = usual_token()
    del views[missing]
    with serve(FakeNode({TOKENS[0]: views}).answer) as url:
        assert token_info_alone(JsonRpcClient(url), TOKENS[0]).decimals == 18


def test_a_node_that_refuses_has_said_nothing_about_the_token() -> None:
    fake = FakeNode({TOKENS[0]: usual_token()})

    def answer(request: Request) -> Response:
        return Response("", 503) if fake.calls else fake.answer(request)

    with serve(answer) as url, pytest.raises(SourceUnavailable):
        token_info_alone(JsonRpcClient(url), TOKENS[0])
    assert fake.calls == ["eth_call"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\x01" * 31, ""),
        (encode(["string"], ["naïve"]), "naïve"),
        (encode(["bytes"], [b"\xffUSD"]), "\ufffdUSD"),
        (b"\xff" * 32, ""),
        (abi_uint(32) + abi_uint(2**255), ""),
        (abi_uint(2**255) + abi_uint(5), ""),
        (abi_uint(32) + abi_uint(3) + b"DAI", "DAI"),
    ],
)
def test_returned_text_is_decoded_or_empty(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@given(st.binary(max_size=200))
def test_any_returned_bytes_decode_to_some_text(data: bytes) -> None:
    assert isinstance(decode_text(data), str)


@given(st.binary(max_size=200))
def test_what_eth_abi_encodes_is_decoded(text: bytes) -> None:
    readable = text.decode("utf-8", "replace")
    expected = readable if readable.strip("\ufffd") else ""
    assert decode_text(encode(["bytes"], [text])) == expected


def test_long_text_is_cut() -> None:
    assert len(decode_text(abi_string("A" * 1_000_000))) <= 1024
