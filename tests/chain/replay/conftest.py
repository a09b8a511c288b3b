"""A small recording, served, and a folder in the data-set layout."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.chain.recording.format import open_writer
from src.chain.recording.rows import encode_block
from tests.chain.recording.blocks import SENDER, TOKEN, block_hash, make_block, make_log
from tests.chain.replay.served import UNKNOWN_HASH, serve


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """Blocks 10, 11 and 13; 11 has two transfers of TOKEN."""
    with open_writer(tmp_path, 1) as writer:
        for numbers in ((10, 11), (13,)):
            for number in numbers:
                logs = [make_log(0), make_log(1, topics=[UNKNOWN_HASH])] if number == 11 else []
                block = make_block(number, logs)
                writer.add(encode_block(block, receipts_root_verified=True))
            writer.write()
    with serve(tmp_path) as url:
        yield url


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder in the data-set layout: two blocks, and one transaction of unknown sender."""
    common = {
        "block_timestamp": 1_700_000_000,
        "value_wei": "5",
        "gas_used": 50_000,
        "gas_price": "1000000000",
        "status": 1,
        "nonce": 3,
        "input_selector": "0xa9059cbb",
        "tx_type": 2,
        "n_logs": 1,
        "n_erc20_transfers": 1,
        "n_erc721_transfers": 0,
        "n_other_transfer_sig": 0,
        "from_address": SENDER,
        "to_address": TOKEN,
        "full_block": True,
        "receipts_root_verified": True,
    }
    transactions = [
        common | {"tx_hash": UNKNOWN_HASH, "block_number": 9, "from_address": None},
        common
        | {"tx_hash": "0x" + "b2" * 32, "block_number": 11, "tx_index": 1, "nonce": None}
        | {"block_hash": block_hash(11), "status": None, "tx_type": 0, "value_wei": None},
        common
        | {"tx_hash": "0x" + "b1" * 32, "block_number": 11, "tx_index": 0}
        | {"block_hash": block_hash(11)},
        common
        | {"tx_hash": "0x" + "a1" * 32, "block_number": 10, "tx_index": 0}
        | {"block_hash": block_hash(10), "full_block": False},
    ]
    moved = {"token_address": TOKEN, "from_address": SENDER, "to_address": TOKEN}
    transfers = [
        moved
        | {"tx_hash": transaction_hash, "log_index": index, "value_raw": value, "token_std": kind}
        for transaction_hash, index, value, kind in [
            ("0x" + "b1" * 32, 4, str(2**256 - 1), "erc20"),
            ("0x" + "b1" * 32, 2, "77", "erc721"),
            (UNKNOWN_HASH, 0, "1", "erc20"),
        ]
    ]
    for index, row in enumerate(transactions):  # the first row gives the columns
        transactions[index] = {"tx_index": None, "block_hash": None} | row
    pq.write_table(pa.Table.from_pylist(transactions), tmp_path / "transactions.parquet")
    pq.write_table(pa.Table.from_pylist(transfers), tmp_path / "transfers.parquet")
    with gzip.open(tmp_path / "tokens.csv.gz", "wt") as file:
        file.write(f"address,symbol,decimals,name\n{TOKEN},RCT,6,Recorded\n")
    return tmp_path
