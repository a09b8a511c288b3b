"""What tokens say of themselves is recorded as theirs."""

from pathlib import Path
from typing import Any

import pytest

from src.chain.erc20 import decode_text
from src.chain.facts import UNREADABLE_SYMBOL
from src.chain.recording.format import Recording
from src.datasets.tokens import token_facts
from tests.chain.recording.blocks import make_block, make_log
from tests.chain.recording.node import Node, record
from tests.support.fake_chain import FakeNode, abi_string, usual_token

EMPTY = abi_string("")
UNREADABLE = abi_string(UNREADABLE_SYMBOL)


@pytest.mark.parametrize(
    ("answer", "recorded"),
    [
        ({"code": 3, "message": "execution reverted"}, (None, None, None)),
        ({"code": -32000, "message": "invalid opcode: INVALID"}, (None, None, None)),
        ("0x", ("0x", "0x", "0x")),
        ({"code": -32000, "message": "missing trie node"}, None),
        (
            "0x" + "61" * 100_000,
            (f"0x{EMPTY.hex()}", f"0x{UNREADABLE.hex()}", "0x" + "61" * 32),
        ),
        (17, None),
    ],
    ids=["reverts", "invalid", "empty", "pruned", "huge", "number"],
)
def test_token_answers_are_recorded_where_they_are_the_tokens_own(
    node: Node, tmp_path: Path, answer: Any, recorded: tuple[str | None, ...] | None
) -> None:
    node.answers["eth_call"] = answer
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    tokens = Recording(tmp_path).tokens().values()
    assert [(t.name, t.symbol, t.decimals) for t in tokens] == ([recorded] if recorded else [])


@pytest.fixture
def tokens(node: Node) -> FakeNode:
    """Forty tokens that move in block 7; some are not quite tokens."""
    addresses = [f"0x{number:040x}" for number in range(1, 41)]
    node.blocks["0x7"] = make_block(
        7, [make_log(index, address=address) for index, address in enumerate(addresses)]
    )
    known = {a: usual_token(f"Token {a[-2:]}", a[-2:], 18) for a in addresses}
    del known[addresses[3]]  # no contract
    del known[addresses[4]]["decimals"]  # reverts
    known[addresses[5]]["name"] = b"\xff" * 5_000
    chain = FakeNode(known)

    def call(params: list[Any]) -> Any:
        try:
            return chain.eth_call(*params)
        except ValueError as error:
            return {"code": 3, "message": str(error)}

    node.answers["eth_call"] = call
    return chain


def test_tokens_are_asked_together(node: Node, tokens: FakeNode, tmp_path: Path) -> None:
    assert record(node.url, tmp_path / "together", 7, 7, "--no-verify") == 0
    assert node.asked.count("eth_call") == 2 + 3  # two requests, and the one that reverts alone
    tokens.has_multicall = False
    assert record(node.url, tmp_path / "alone", 7, 7, "--no-verify") == 0
    assert node.asked.count("eth_call") > 100
    found = Recording(tmp_path / "together").tokens()
    assert found == Recording(tmp_path / "alone").tokens()
    assert len(found) == 40
    assert found["0x" + "0" * 39 + "6"].name == f"0x{EMPTY.hex()}"  # of absurd length
    assert found["0x" + "0" * 39 + "4"].symbol == "0x"
    assert found["0x" + "0" * 39 + "5"].decimals is None


def test_a_long_name_is_cut_and_hides_no_symbol(node: Node, tmp_path: Path) -> None:
    token = make_block(7).receipts[0]["logs"][0]["address"]
    chain = FakeNode({token: usual_token("x" * 5_000, "USDC" + " " * 5_000, 6)})
    node.answers["eth_call"] = lambda params: chain.eth_call(*params)
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    (found,) = Recording(tmp_path).tokens().values()
    assert decode_text(bytes.fromhex((found.symbol or "")[2:])).strip() == "USDC"
    assert 0 < len(decode_text(bytes.fromhex((found.name or "")[2:]))) <= 1024


@pytest.mark.parametrize("symbol", ["USDC" + " " * 300_000, " " * 128 + "USDC"])
def test_a_symbol_too_long_to_read_impersonates_in_a_backtest(
    node: Node, tmp_path: Path, symbol: str
) -> None:
    token = make_block(7).receipts[0]["logs"][0]["address"]
    chain = FakeNode({token: usual_token("USD Coin", symbol, 6)})
    node.answers["eth_call"] = lambda params: chain.eth_call(*params)
    assert record(node.url, tmp_path, 7, 7, "--no-verify") == 0
    (fact,) = token_facts(tmp_path, 1).values()
    assert fact.symbol == UNREADABLE_SYMBOL
    assert fact.impersonates


def test_a_token_that_burns_the_gas_of_others_does_not_speak_for_them(
    node: Node, tokens: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert record(node.url, tmp_path / "before", 7, 7, "--no-verify") == 0
    left = 20

    def starved(token: str, allow_failure: bool, data: bytes) -> tuple[bool, bytes]:
        nonlocal left
        left -= 1
        return FakeNode._try(tokens, token, allow_failure, data) if left > 0 else (False, b"")

    monkeypatch.setattr(tokens, "_try", starved)
    assert record(node.url, tmp_path / "after", 7, 7, "--no-verify") == 0
    assert Recording(tmp_path / "before").tokens() == Recording(tmp_path / "after").tokens()


@pytest.mark.parametrize("has_multicall", [True, False])
def test_what_besu_says_of_code_that_fails_is_not_waited_out(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_multicall: bool
) -> None:
    monkeypatch.setattr("src.chain.recording.tokens._PASSING_PATIENCE", 1.0)
    token = make_block(7).receipts[0]["logs"][0]["address"]
    views = usual_token()
    del views["decimals"]
    chain = FakeNode({token: views}, has_multicall=has_multicall)

    def call(params: list[Any]) -> Any:
        try:
            return chain.eth_call(*params)
        except ValueError:
            return {"code": -32603, "message": "Internal error"}

    node.answers["eth_call"] = call
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--patience", "60") == 0
    found = Recording(tmp_path).tokens().values()
    if has_multicall:  # it says so
        assert [token.decimals for token in found] == [None]
        assert node.asked.count("eth_call") == 3 + 1
    else:
        assert not found
        assert node.asked.count("eth_call") < 8


def test_a_node_that_runs_no_call_is_waited_for(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.chain.recording.tokens._PASSING_PATIENCE", 0.1)
    token = make_block(7).receipts[0]["logs"][0]["address"]
    chain = FakeNode({token: usual_token("USD Coin", "USDC", 6)})
    node.answers["eth_call"] = lambda params: chain.eth_call(*params)
    node.failures["eth_call"] = [{"code": -32011, "message": "no backend is healthy"}] * 6
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--patience", "60") == 0
    (found,) = Recording(tmp_path).tokens().values()
    assert found.symbol == f"0x{abi_string('USDC').hex()}"


def test_one_refusal_does_not_end_the_asking_for_whole_blocks(node: Node, tmp_path: Path) -> None:
    node.failures["eth_getBlockReceipts"] = [{"code": -32601, "message": "no such method"}]
    assert record(node.url, tmp_path, 7, 8, "--no-verify", "--workers", "1") == 0
    assert node.asked.count("eth_getBlockReceipts") == 2
    assert node.asked.count("eth_getTransactionReceipt") == 1


def test_tokens_are_left_out_where_asked_for(node: Node, tmp_path: Path) -> None:
    assert record(node.url, tmp_path, 7, 7, "--no-verify", "--no-tokens") == 0
    assert "eth_call" not in node.asked
