"""The receipts root agrees with another implementation."""

from collections.abc import Callable
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from trie.hexary import HexaryTrie

from src.chain.recording.receipts_root import receipts_root
from tests.chain.recording.blocks import make_block, make_log


def test_the_receipts_root_of_no_receipts_is_that_of_the_empty_trie() -> None:
    empty = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert receipts_root([]) == empty


def test_the_receipts_root_of_a_block_before_byzantium() -> None:
    # Mainnet block 46147, which holds the chain's first transaction.
    receipt = {
        "root": "0x96a8e009d2b88b1483e6941e6812e32263b05683fac202abc622a3e31aed1957",
        "cumulativeGasUsed": "0x5208",
        "logsBloom": "0x" + "00" * 256,
        "logs": [],
    }
    expected = "0xfe2bf2a941abf41d72637e5b91750332a30283efd40c424dc522b77e6f0ed8c4"
    assert receipts_root([receipt]) == expected


# What enters the trie, as the Rust implementations of the OP stack write it for a deposit after and
# before the Canyon upgrade.
DEPOSITS = [
    ({"depositReceiptVersion": "0x1"}, "f9010d0182b741b90100" + "00" * 256 + "c0833d3bbf01"),
    ({}, "f901080182b741b90100" + "00" * 256 + "c0"),
]


@pytest.mark.parametrize(("more", "written"), DEPOSITS, ids=["after Canyon", "before"])
def test_the_receipts_root_of_a_deposit_on_the_op_stack(more: dict[str, str], written: str) -> None:
    receipt = {
        "type": "0x7e",
        "status": "0x1",
        "cumulativeGasUsed": hex(46_913),
        "logsBloom": "0x" + "00" * 256,
        "logs": [],
        "depositNonce": hex(4_012_991),
    }
    trie = HexaryTrie({})
    trie[rlp.encode(0)] = b"\x7e" + bytes.fromhex(written)
    assert receipts_root([receipt | more]) == "0x" + trie.root_hash.hex()


def root_by_the_book(
    receipts: list[dict[str, Any]], more: Callable[[dict[str, Any]], list[int]] = lambda _: []
) -> str:
    """The root by py-trie, which shares no code with ours; `more` are fields behind."""

    def content(text: str) -> bytes:
        return bytes.fromhex(text[2:])

    trie = HexaryTrie({})
    for index, receipt in enumerate(receipts):
        logs = [
            [content(log["address"]), [content(topic) for topic in log["topics"]],
             content(log["data"])]
            for log in receipt["logs"]
        ]  # fmt: skip
        gas, bloom = int(receipt["cumulativeGasUsed"], 16), content(receipt["logsBloom"])
        body = rlp.encode([int(receipt["status"], 16), gas, bloom, logs, *more(receipt)])
        kind = int(receipt["type"], 16)
        trie[rlp.encode(index)] = (bytes([kind]) if kind else b"") + body
    return "0x" + trie.root_hash.hex()


def hexadecimal(most_bytes: int) -> st.SearchStrategy[str]:
    return st.binary(max_size=most_bytes).map(lambda content: "0x" + content.hex())


receipts_of_any_size = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["0x0", "0x1"]),
        "type": st.sampled_from(["0x0", "0x1", "0x2", "0x3", "0x7f"]),
        "cumulativeGasUsed": st.integers(0, 2**64).map(hex),
        "logsBloom": hexadecimal(70),
        "logs": st.lists(
            st.fixed_dictionaries(
                {
                    "address": hexadecimal(20),
                    "topics": st.lists(hexadecimal(32), max_size=4),
                    "data": hexadecimal(300),
                }
            ),
            max_size=3,
        ),
    }
)


@settings(deadline=None)
@given(st.lists(receipts_of_any_size, max_size=20))
def test_the_receipts_root_is_that_of_another_implementation(
    receipts: list[dict[str, Any]],
) -> None:
    assert receipts_root(receipts) == root_by_the_book(receipts)


# One, two and three bytes of key; short nodes stand in their parents, as no real receipt does.
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 127, 128, 129, 255, 256, 257, 700])
@pytest.mark.parametrize("size", [0, 256])
def test_the_receipts_root_of_a_block_of_any_length(count: int, size: int) -> None:
    receipts: list[dict[str, Any]] = [
        {
            "status": "0x1",
            "type": "0x0",
            "cumulativeGasUsed": hex(21_000 * index * (size > 0)),
            "logsBloom": "0x" + "00" * size,
            "logs": [],
        }
        for index in range(count)
    ]
    assert receipts_root(receipts) == root_by_the_book(receipts)


@pytest.mark.parametrize("data", ["0x 00", "0x00 ", "00", "0x0", "0xzz"])
def test_a_log_that_is_not_hexadecimal_verifies_nothing(data: str) -> None:
    receipts = make_block(7, [make_log(data=data)]).receipts
    with pytest.raises(ValueError, match="malformed"):
        receipts_root(receipts)
