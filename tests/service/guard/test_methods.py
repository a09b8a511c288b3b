"""What may pass, and which transactions a call carries."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.service.guard.messages import read_request
from src.service.guard.methods import (
    MAX_TRANSACTIONS,
    READING,
    SCREENED,
    UNSCREENED,
    AllowList,
    Unreadable,
    names_by_hash,
    signed_transactions,
)

ONE, TWO = "0x02" + "ab" * 100, "0x03" + "cd" * 120
SHORT = "0xdf800782ffff94" + "11" * 20 + "80801b0101"
"""A transaction of 32 bytes that a node takes: its signature is made up, r and s are 1."""


def params(value: Any) -> Any:
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_sendBundle", "params": value})
    return read_request(text.encode()).calls[0].params


@pytest.mark.parametrize(
    "value",
    [
        [ONE],
        [ONE, 5_000],
        [ONE, {"knownAccounts": {"0x" + "1" * 40: {"0x" + "2" * 64: "0x" + "3" * 64}}}],
        [{"tx": ONE, "maxBlockNumber": "0x5", "preferences": {"fast": True}}],
        {"rawTransaction": ONE},
        [{"body": [{"bundle": {"body": [{"tx": ONE, "canRevert": False}]}}]}],
        [ONE.upper().replace("0X", "0x")],
    ],
)
def test_a_transaction_is_found_wherever_it_is(value: Any) -> None:
    assert signed_transactions(params(value)) == (bytes.fromhex(ONE[2:]),)


def test_a_bundle_keeps_its_order() -> None:
    bundle = [{"txs": [ONE, TWO, ONE], "blockNumber": "0x1", "minTimestamp": 0}]
    found = signed_transactions(params(bundle))
    assert [one.hex() for one in found] == [ONE[2:], TWO[2:], ONE[2:]]


@pytest.mark.parametrize(
    ("value", "by_hash"),
    [
        ([{"body": [{"hash": "0x" + "12" * 32}, {"tx": ONE}]}], True),
        ([{"body": [{"bundle": {"body": [{"HA\u017fH": ""}]}}, {"tx": ONE}]}], True),
        ([{"txs": ["0x" + "12" * 32, ONE]}], True),
        ([{"txs": [ONE, "12" * 32]}], True),
        ([ONE, "0x1388"], False),
        ([{"body": [{"tx": ONE, "hash": None}], "privacy": {"hints": ["hash"]}}], False),
        ([{"txs": [ONE], "revertingTxHashes": ["0x" + "12" * 32]}], False),
        ([ONE], False),
    ],
)
def test_a_transaction_that_is_named_by_its_hash_is_noticed(value: Any, by_hash: bool) -> None:
    assert names_by_hash(params(value)) is by_hash


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        ["0x"],
        ["0x1234"],
        [ONE[2:]],
        [" " + ONE],
        [ONE + " "],
        [ONE + "0"],
        ["0X" + ONE[2:]],
        [ONE[:-2] + "zz"],
        [ONE, ONE[2:]],
        [ONE, [2, 248, 111, 1]],
        [[2, 248, 111, 1]],
        [2, 248, 111, 1],
        [{"tx": ONE, ONE: 1}],
        [ONE, {"tx": {"data": [1, 2, 3]}}],
        [{"txs": [ONE] * (MAX_TRANSACTIONS + 1)}],
        # A transaction can be as short as a hash.
        [{"txs": [ONE, SHORT]}],
        [{"txs": [ONE], "revertingTxHashes": ["0X" + SHORT[2:]]}],
        [SHORT[2:], {"tx": ONE}],
        # What Python's `\d` and `int` would accept, and a node's parser would not, or otherwise.
        ["0x" + "\uff11" * 120],
    ],
)
def test_what_could_hide_a_transaction_is_unreadable(value: Any) -> None:
    with pytest.raises(Unreadable) as caught:
        signed_transactions(params(value))
    assert ONE not in str(caught.value)


@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=80),
        st.binary(min_size=33, max_size=60).map(lambda raw: "0x" + raw.hex())),
    lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_no_long_text_is_left_out(value: Any) -> None:
    def long(one: Any) -> list[str]:
        if isinstance(one, str):
            return [one] if len(one) > 66 else []
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        return [text for part in inner for text in long(part)]

    try:
        found = signed_transactions(params(value))
    except Unreadable:
        return
    assert ["0x" + one.hex() for one in found] == [text.lower() for text in long(value)]


def test_reading_methods_pass_by_their_exact_names_only() -> None:
    allowed = AllowList()
    assert "eth_call" in allowed
    assert "eth_getBlockByNumber" in allowed
    for name in ("ETH_CALL", "eth_call ", "eth_Call", "eth_callx", "", "anvil_mine", None):
        assert name not in allowed


def test_nothing_that_sends_passes_unscreened_whatever_is_allowed() -> None:
    allowed = AllowList(["eth_*", "personal_*", "eth_sendTransaction", *SCREENED, "*"])
    others = {"eth_sendNewKind", "personal_submitIt", "x_postAll", "broadcast_tx_sync"}
    others |= {"x_relayTransaction", "txpool_inject", "engine_newPayloadV4", "debug_importBlock"}
    bloxroute = {"blxr_tx", "blxr_private_tx", "blxr_batch_tx", "blxr_submit_bundle"}
    for name in SCREENED | UNSCREENED | others | bloxroute:
        assert name not in allowed
    assert "txpool_any" in allowed
    assert "eth_anything" in allowed


def test_the_lists_of_methods_do_not_overlap() -> None:
    assert not READING & (SCREENED | UNSCREENED)
    assert not [name for name in READING if re.search("send(?!er)|submit", name, re.IGNORECASE)]
