"""A block survives its encoding into rows, or is refused."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.chain.recording.format import (
    Recording,
    open_writer,
)
from src.chain.recording.receipts_root import receipts_root
from src.chain.recording.rows import (
    BlockRows,
    RecordedBlock,
    decode_block,
    encode_block,
    token_standard,
)
from src.chain.transfers import SYSTEM_ADDRESS, TRANSFER_TOPIC
from tests.chain.recording.blocks import TOKEN, WORD, make_block, make_log

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["0x", "0x0", "0xZZ"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

IDENTITY = {"hash", "blockHash", "transactionHash", "transactionIndex", "logs", "logIndex"}


def hostile(*known: str) -> st.SearchStrategy[dict[str, Any]]:
    free = [key for key in known if key not in IDENTITY]
    keys = st.sampled_from(free) | st.text().filter(lambda key: key not in IDENTITY)
    return st.dictionaries(keys, json_values, max_size=6)


@given(
    transaction=hostile("from", "to", "nonce", "value", "gas", "gasPrice", "type", "input", "v"),
    receipt=hostile("status", "root", "type", "gasUsed", "logsBloom", "to", "contractAddress"),
    logs=st.lists(hostile("address", "topics", "data", "removed", "blockTimestamp"), max_size=3),
)
def test_a_block_survives_encoding_whatever_its_fields_hold(
    transaction: dict[str, Any], receipt: dict[str, Any], logs: list[dict[str, Any]]
) -> None:
    all_logs = [make_log(index, **log) for index, log in enumerate(logs)]
    block = make_block(7, all_logs, transaction=transaction, receipt=receipt)
    assert decode_block(encode_block(block, receipts_root_verified=False)) == block


@settings(deadline=None, max_examples=40)
@given(transaction=hostile("from", "nonce", "input"), log=hostile("address", "topics", "data"))
def test_encoded_rows_fit_into_parquet_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, transaction: dict[str, Any], log: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("recording")
    block = make_block(7, [make_log(**log)], transaction=transaction)
    with open_writer(folder, 1) as writer:
        writer.add(encode_block(block, receipts_root_verified=True))
        writer.write()
    recording = Recording(folder)
    blocks, transactions, logs = (t.to_pylist() for t in recording.tables(recording.parts[0]))
    assert decode_block(BlockRows(blocks[0], transactions, logs)) == block


def test_absent_fields_stay_absent() -> None:
    block = make_block(7)
    del block.receipts[0]["status"]
    del block.receipts[0]["effectiveGasPrice"]
    decoded = decode_block(encode_block(block, receipts_root_verified=True))
    assert decoded == block


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("block", "hash", None),
        ("block", "number", "seven"),
        ("block", "parentHash", "0x12"),
        ("transaction", "hash", 5),
        ("transaction", "transactionIndex", "0x1"),
        ("transaction", "blockHash", "0x" + "11" * 32),
        ("receipt", "transactionHash", "0x" + "11" * 32),
        ("receipt", "blockHash", "0x" + "11" * 32),
        ("receipt", "logs", {}),
        ("receipt", "logs", ["0x"]),
    ],
)
def test_what_does_not_belong_together_is_refused(part: str, field: str, value: Any) -> None:
    block = make_block(7)
    places = {
        "block": block.block,
        "transaction": block.block["transactions"][0],
        "receipt": block.receipts[0],
    }
    places[part][field] = value
    with pytest.raises(ValueError, match=r"hash|number|index|block|logs|another"):
        encode_block(block, receipts_root_verified=True)


def test_a_missing_receipt_is_refused() -> None:
    block = make_block(7)
    with pytest.raises(ValueError, match="numbers of receipts"):
        encode_block(RecordedBlock(block.block, []), receipts_root_verified=True)


def test_token_standards_are_told_apart_by_the_shape_of_the_log() -> None:
    word = "0x" + "0" * 64
    assert token_standard(TOKEN, [TRANSFER_TOPIC, word, word, None], word) == "erc20"
    assert token_standard(TOKEN, [TRANSFER_TOPIC, word, word, word], "0x") == "erc721"
    assert token_standard(TOKEN, [TRANSFER_TOPIC, None, None, None], word * 3) == "unknown"
    assert token_standard(TOKEN, [word, word, word, None], word) is None
    assert token_standard(SYSTEM_ADDRESS, [TRANSFER_TOPIC, word, word, None], word) == "native"
    assert token_standard(TOKEN, [None, None, None, None], "0x") is None


def test_a_topic_in_capitals_is_a_transfer_and_survives() -> None:
    block = make_block(7, [make_log(topics=["0x" + TRANSFER_TOPIC[2:].upper(), WORD, WORD])])
    rows = encode_block(block, receipts_root_verified=True)
    assert rows.logs[0]["topic0"] == TRANSFER_TOPIC
    assert decode_block(rows) == block


@given(hostile("status", "type", "cumulativeGasUsed", "logsBloom", "root"))
def test_a_malformed_receipt_is_a_value_error_or_harmless(receipt: dict[str, Any]) -> None:
    valid = make_block(7).receipts[0]
    with contextlib.suppress(ValueError):  # and nothing else
        assert len(receipts_root([valid | receipt])) == 66
