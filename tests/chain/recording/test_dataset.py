"""A recording reads as the tables that training reads."""

from pathlib import Path

from src.chain.recording.dataset import load_transactions, load_transfers
from src.chain.recording.format import (
    Recording,
    open_writer,
)
from src.chain.transfers import SYSTEM_ADDRESS, TRANSFER_TOPIC
from src.datasets.training_set import load_background
from tests.chain.recording.blocks import (
    RECIPIENT,
    SENDER,
    TOKEN,
    WORD,
    block_hash,
    make_log,
    rows_of,
)


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


def test_native_transfers_are_kept_as_such_and_their_emitter_is_no_token(tmp_path: Path) -> None:
    native = make_log(1, address=SYSTEM_ADDRESS, data=f"0x{7:064x}")
    with open_writer(tmp_path, 1) as writer:
        writer.add(rows_of(10, logs=[make_log(), native]))
        assert writer.unknown_tokens() == [TOKEN]
        writer.write()
    token, ether = load_transfers(tmp_path).to_pylist()
    assert token["token_std"] == "erc20"
    assert ether | {"tx_hash": ""} == {
        "tx_hash": "", "log_index": 1, "token_address": SYSTEM_ADDRESS, "from_address": SENDER,
        "to_address": RECIPIENT, "value_raw": "7", "token_std": "native", "source": "recording",
    }  # fmt: skip
    assert load_transactions(tmp_path)["n_erc20_transfers"].to_pylist() == [1]
    (part,) = Recording(tmp_path).parts
    assert part.first == part.last == 10
    assert len(load_background(tmp_path).batch.token) == 1
