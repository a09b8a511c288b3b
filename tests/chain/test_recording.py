import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import rlp  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from trie.hexary import HexaryTrie

from src.chain.recording.dataset import load_transactions, load_transfers
from src.chain.recording.format import (
    Recording,
    RecordingError,
    RecordingWriter,
    TokenAnswers,
    find_parts,
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
from src.chain.transfers import TRANSFER_TOPIC
from tests.support.waiting import PATIENCE

TOKEN = "0x" + "70" * 20
SENDER, RECIPIENT = "0x" + "a1" * 20, "0x" + "b2" * 20
WORD = "0x" + "0" * 24


def block_hash(number: int, fork: int = 0) -> str:
    return f"0x{fork:032x}{number:032x}"


def make_log(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "address": TOKEN,
        "topics": [TRANSFER_TOPIC, WORD + SENDER[2:], WORD + RECIPIENT[2:]],
        "data": f"0x{2**256 - 1:064x}",
        "logIndex": hex(index),
        "removed": False,
    } | changes


def make_block(
    number: int,
    logs: list[dict[str, Any]] | None = None,
    *,
    fork: int = 0,
    parent_fork: int = 0,
    transaction: dict[str, Any] | None = None,
    receipt: dict[str, Any] | None = None,
) -> RecordedBlock:
    """A block with one transaction with these logs."""
    position = {"blockHash": block_hash(number, fork), "blockNumber": hex(number)}
    transaction_hash = f"0x{fork:032x}{number + 2**64:032x}"
    sent = position | {
        "hash": transaction_hash,
        "transactionIndex": "0x0",
        "from": SENDER,
        "to": TOKEN,
        "nonce": hex(number),
        "value": "0x0",
        "gas": "0x30d40",
        "gasPrice": "0x3b9aca00",
        "type": "0x0",
        "input": "0xa9059cbb",
    }
    received = position | {
        "transactionHash": transaction_hash,
        "transactionIndex": "0x0",
        "from": SENDER,
        "to": TOKEN,
        "gasUsed": "0x5208",
        "cumulativeGasUsed": "0x5208",
        "effectiveGasPrice": "0x3b9aca00",
        "status": "0x1",
        "type": "0x0",
        "contractAddress": None,
        "logsBloom": "0x" + "00" * 256,
        "logs": [make_log()] if logs is None else logs,
    }
    block = {
        "number": hex(number),
        "hash": block_hash(number, fork),
        "parentHash": block_hash(number - 1, parent_fork),
        "timestamp": hex(1_700_000_000 + 12 * number),
        "transactions": [sent | (transaction or {})],
    }
    return RecordedBlock(block, [received | (receipt or {})])


def rows_of(number: int, **changes: Any) -> BlockRows:
    return encode_block(make_block(number, **changes), receipts_root_verified=True)


def write_blocks(folder: Path, *numbers: int) -> None:
    with open_writer(folder, 1) as writer:
        for number in numbers:
            writer.add(rows_of(number))
        writer.write()


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
    assert token_standard([TRANSFER_TOPIC, word, word, None], word) == "erc20"
    assert token_standard([TRANSFER_TOPIC, word, word, word], "0x") == "erc721"
    assert token_standard([TRANSFER_TOPIC, None, None, None], word * 3) == "unknown"
    assert token_standard([word, word, word, None], word) is None
    assert token_standard([None, None, None, None], "0x") is None


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


def root_by_the_book(receipts: list[dict[str, Any]]) -> str:
    """The root by py-trie and pyrlp, which share no code with ours."""

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
        body = rlp.encode([int(receipt["status"], 16), gas, bloom, logs])
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


def test_a_part_is_seen_only_when_it_is_whole(tmp_path: Path) -> None:
    with open_writer(tmp_path, 1) as writer:
        writer.add(rows_of(10))
        assert find_parts(tmp_path) == []
        writer.write()
        assert [(part.first, part.last) for part in find_parts(tmp_path)] == [(10, 10)]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    left_over = tmp_path / ".unfinished-blocks-000000000011-000000000011"
    left_over.mkdir()
    (left_over / "blocks.parquet").write_bytes(b"PAR1 half")
    write_blocks(tmp_path, 11)
    assert not left_over.exists()
    assert Recording(tmp_path).blocks(["block_number"])["block_number"].to_pylist() == [10, 11]


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    with (
        open_writer(tmp_path, 1),
        pytest.raises(RecordingError, match="another process"),
        open_writer(tmp_path, 1),
    ):
        pass


def test_a_writer_that_failed_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        write_blocks(tmp_path, 10, 12)
    write_blocks(tmp_path, 10)


@pytest.mark.integration
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    # The kernel refuses to write files over 4 kB, in a process of its own.
    script = f"""
import resource, signal, sys
from pathlib import Path
from src.chain.recording.format import open_writer
from tests.chain.test_recording import rows_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_writer(Path({str(tmp_path)!r}), 1) as writer:
    for number in range(1, 200):
        writer.add(rows_of(number))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        writer.write()
    except OSError as error:
        sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=PATIENCE)
    assert done.returncode == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "recording.json"]


def test_gaps_are_what_no_part_covers(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10, 11)
    write_blocks(tmp_path, 20)
    with open_writer(tmp_path, 1) as writer:
        assert writer.missing(5, 25) == [range(5, 10), range(12, 20), range(21, 26)]
        assert writer.missing(10, 11) == []
        assert writer.missing(0, 9) == [range(10)]
        assert writer.missing(11, 12) == [range(12, 13)]


def test_a_block_of_another_fork_is_refused_after_before_and_between(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    write_blocks(tmp_path, 12)

    def add(*rows: BlockRows) -> None:
        with open_writer(tmp_path, 1) as writer:
            for row in rows:
                writer.add(row)

    with pytest.raises(RecordingError, match="reorganised"):
        add(rows_of(11, fork=1, parent_fork=1))
    with pytest.raises(RecordingError, match="reorganised"):
        add(rows_of(11, fork=1))
    with pytest.raises(RecordingError, match="reorganised"):
        add(rows_of(20), rows_of(21, parent_fork=1))
    with pytest.raises(RecordingError, match="out of order"):
        add(rows_of(30), rows_of(32))
    add(rows_of(11))


def test_another_chain_is_refused(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    with pytest.raises(RecordingError, match="recorded on chain 1"), open_writer(tmp_path, 56):
        pass


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RecordingError, match="not empty"), open_writer(tmp_path, 1):
        pass
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["thesis.tex"]


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{}", '{"format":"recorded-blocks","version":2,"chain_id":1}', '{"chain_id":[]}'],
)
def test_a_folder_that_is_no_recording_is_named(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "recording.json").write_text(manifest)
    with pytest.raises(RecordingError, match=tmp_path.name):
        Recording(tmp_path)


def test_overlapping_parts_are_refused(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10, 11)
    (tmp_path / "blocks-000000000011-000000000012").mkdir()
    with pytest.raises(RecordingError, match="overlap"):
        Recording(tmp_path)


def test_a_truncated_part_is_named(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    file = find_parts(tmp_path)[0].path / "logs.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    recording = Recording(tmp_path)
    with pytest.raises(RecordingError, match=r"logs\.parquet"):
        recording.tables(recording.parts[0])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    file = find_parts(tmp_path)[0].path / "transactions.parquet"
    pq.write_table(pq.read_table(file).drop_columns("nonce"), file)
    with pytest.raises(RecordingError, match="nonce"):
        Recording(tmp_path).transactions(["tx_hash", "nonce"])


def test_a_token_is_asked_for_once(tmp_path: Path) -> None:
    def pending(writer: RecordingWriter, number: int) -> list[str]:
        writer.add(rows_of(number))
        return writer.unknown_tokens()

    with open_writer(tmp_path, 1) as writer:
        assert pending(writer, 10) == [TOKEN]
        writer.write([TokenAnswers(TOKEN, "0x", None, "0x12")])
        assert pending(writer, 11) == []
        writer.write()
    with open_writer(tmp_path, 1) as writer:
        assert pending(writer, 12) == []
    assert Recording(tmp_path).tokens() == {TOKEN: TokenAnswers(TOKEN, "0x", None, "0x12")}


def test_a_recording_reads_as_the_tables_that_training_reads(tmp_path: Path) -> None:
    nft = make_log(
        1,
        topics=[TRANSFER_TOPIC, WORD + SENDER[2:], WORD + RECIPIENT[2:], f"0x{5:064x}"],
        data="0x",
    )
    malformed = make_log(2, topics=[TRANSFER_TOPIC], data="0x")
    with open_writer(tmp_path, 1) as writer:
        writer.add(rows_of(10, logs=[make_log(), nft, malformed]))
        writer.add(rows_of(11, logs=[]))
        writer.write()
    first, second = load_transactions(tmp_path).to_pylist()
    assert first == {
        "tx_hash": f"0x{10 + 2**64:064x}",
        "block_number": 10,
        "block_timestamp": 1_700_000_120,
        "block_hash": block_hash(10),
        "tx_index": 0,
        "from_address": SENDER,
        "to_address": TOKEN,
        "nonce": 10,
        "value_wei": "0",
        "gas_used": 21_000,
        "gas_price": "1000000000",
        "status": 1,
        "tx_type": 0,
        "input_selector": "0xa9059cbb",
        "n_logs": 3,
        "n_erc20_transfers": 1,
        "n_erc721_transfers": 1,
        "n_other_transfer_sig": 1,
        "full_block": True,
        "all_logs": True,
        "all_transfers": True,
        "receipts_root_verified": True,
        "ts_interpolated": False,
        "source": "recording",
    }
    assert second["n_logs"] == 0
    common = {
        "tx_hash": first["tx_hash"],
        "token_address": TOKEN,
        "from_address": SENDER,
        "to_address": RECIPIENT,
        "source": "recording",
    }
    assert load_transfers(tmp_path).to_pylist() == [
        common | {"log_index": 0, "value_raw": str(2**256 - 1), "token_std": "erc20"},
        common | {"log_index": 1, "value_raw": "5", "token_std": "erc721"},
    ]


def test_an_empty_recording_reads_as_empty_tables(tmp_path: Path) -> None:
    with open_writer(tmp_path, 1):
        pass
    assert load_transactions(tmp_path).num_rows == 0
    assert load_transfers(tmp_path).num_rows == 0


def test_the_manifest_says_what_the_folder_is(tmp_path: Path) -> None:
    write_blocks(tmp_path, 10)
    manifest = json.loads((tmp_path / "recording.json").read_text())
    assert manifest == {"format": "recorded-blocks", "version": 1, "chain_id": 1}
