"""The training set: real transactions of whole, completely recorded blocks.

A folder in the data-set layout, a recording (`npm run record`, `npm run collect`), or a history
store (`npm run import`). Known exploits
listed in the folder are removed by their hashes, so the forest is never trained on one.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.chain.recording.dataset import is_dataset, load_transactions, load_transfers
from src.chain.recording.format import Recording, RecordingError, is_recording
from src.datasets.location import EXPLOITS_FILE
from src.datasets.store import data_set_tables, is_store, open_store
from src.datasets.tables import (
    TableError,
    TransactionSet,
    csv_text,
    read_table,
    require_columns,
)

RECORDING_FOLDER = "recording"
"""Where a collected data set keeps the recording that it was made from."""

_EXPLOIT_LABELS = ("exploit", "exploit_related")
BACKGROUND_COLUMNS = (
    "tx_hash",
    "from_address",
    "block_number",
    "block_hash",
    "block_timestamp",
    "source",
    "full_block",
    "all_logs",
)


def load_background(folder: Path) -> TransactionSet:
    """Ordinary transactions with ERC-20 transfers, of whole blocks with every log, no exploits.

    Raises:
        TableError: the folder is unreadable, or contains no such transaction.
    """
    transactions, transfers = load_tables(folder)
    require_columns(transactions, BACKGROUND_COLUMNS, f"transactions of {folder}")
    complete = transactions["full_block"].astype(bool) & transactions["all_logs"].astype(bool)
    exploits = exploit_hashes(folder)
    kept = transactions[complete & ~transactions["tx_hash"].isin(exploits)]
    background = TransactionSet.from_tables(kept, transfers, what=str(folder))
    if len(background) == 0:
        raise TableError(f"{folder}: no transaction of a complete block has ERC-20 transfers")
    return background


def load_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transactions and transfers of a recording, a data set or a history store.

    Raises:
        TableError: the folder is none of them, or unreadable.
    """
    if is_recording(folder) or is_dataset(folder):
        try:
            transactions, transfers = load_transactions(folder), load_transfers(folder)
        except RecordingError as error:
            raise TableError(str(error)) from error
    elif is_store(folder):
        transactions, transfers = data_set_tables(open_store(folder))
    else:
        raise TableError(
            f"{folder}: neither a recording (recording.json) nor a data set "
            "(transactions.parquet, transfers.parquet) nor a history store (store.json)"
        )
    return transactions.to_pandas(), transfers.to_pandas()


def chain_id_of(folder: Path) -> int | None:
    """The chain of a recording, of a data set that was collected or of a recording's store.

    None where the data does not say it, as exports do not.
    """
    for recorded in (folder, folder / RECORDING_FOLDER):
        if is_recording(recorded):
            return Recording(recorded).chain_id
    return open_store(folder).chain_id if is_store(folder) else None


def exploit_hashes(folder: Path) -> frozenset[str]:
    """Hashes of known exploits listed in the folder; may be empty."""
    path = folder / EXPLOITS_FILE
    if not path.is_file():
        return frozenset()
    table = read_table(path, ("tx_hash", "label"))
    return frozenset(table[table["label"].isin(_EXPLOIT_LABELS)]["tx_hash"].tolist())


def data_identity(data: TransactionSet, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What identifies selected transactions, for the manifest, as JSON values.

    `sha256` is of their sorted hashes, one per line.
    """
    table = data.table.iloc[rows]
    lines = "".join(f"{tx_hash}\n" for tx_hash in sorted(table["tx_hash"].tolist()))
    blocks = table["block_number"].astype("int64")
    times = table["block_timestamp"].astype("int64")
    sources = table["source"].value_counts()
    return {
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "transactions": len(table),
        "transfers": int(data.n_transfers[rows].sum()),
        "blocks": int(blocks.nunique()),
        "first_block": int(blocks.min()),
        "last_block": int(blocks.max()),
        "first_date": _date(int(times.min())),
        "last_date": _date(int(times.max())),
        "transactions_by_source": {str(name): int(sources[name]) for name in sorted(sources.index)},
    }


def block_list(data: TransactionSet, rows: NDArray[np.int64]) -> str:
    """The blocks of transactions as CSV text: number, hash, source, transactions used."""
    chosen = data.table.iloc[rows]
    blocks = chosen.groupby(["block_number", "block_hash", "source"], sort=True).size()
    table: pd.DataFrame = blocks.rename("transactions_used").reset_index()
    return csv_text(table)


def _date(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
