"""Import data and read what the store holds."""

import csv
import functools
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from src.chain.transfers import TRANSFER_TOPIC
from src.datasets.store import Store, read_slice
from src.history.importing import ImportOptions, import_history

Tables = tuple[pa.Table, pa.Table]
"""Transactions and transfers."""


def imported(source: Path | str, **options: Any) -> Store:
    """The store of an export, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=_stores().name))
    return import_history(str(source), folder, ImportOptions(**options), lambda _: lambda _: None)


@functools.cache
def _stores() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="stores-")


def rows_of(store: Store) -> list[dict[str, Any]]:
    """All transactions of a store."""
    return [row for part in store.slices for row in read_slice(store.path(part)).to_pylist()]


def from_tables(transactions: pa.Table, transfers: pa.Table) -> pa.Table:
    """The store's form of a data set's tables."""
    with tempfile.TemporaryDirectory() as folder:
        for name, table in (("transactions", transactions), ("transfers", transfers)):
            pq.write_table(table, Path(folder) / f"{name}.parquet")
        store = imported(folder)
    return pa.concat_tables(
        read_slice(store.path(part)).replace_schema_metadata() for part in store.slices
    )


def write(folder: Path, tables: Tables, names: tuple[str, str] | None = None) -> Path:
    for name, table in zip(names or ("transactions", "token_transfers"), tables, strict=True):
        path = folder / name if names else folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    return folder


def changed(table: pa.Table, **columns: Any) -> pa.Table:
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def as_csv(table: pa.Table, delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(table.column_names)
    writer.writerows(zip(*table.to_pydict().values(), strict=True))
    return text.getvalue()


def as_logs(transfers: pa.Table, topics: Callable[[list[str]], Any]) -> pa.Table:
    rows = transfers.to_pylist()

    def word(address: str) -> str:
        return "0x" + "0" * 24 + address[2:].lower()

    logs = [
        {
            "log_index": r["log_index"],
            "transaction_hash": r["transaction_hash"],
            "address": r["token_address"],
            "data": f"0x{int(r['value']):064x}",
            "topics": topics([TRANSFER_TOPIC, word(r["from_address"]), word(r["to_address"])]),
            "block_number": r["block_number"],
        }
        for r in rows
    ]
    nft = {**logs[0], "log_index": 9_000, "data": "0x"}
    nft["topics"] = topics(
        [TRANSFER_TOPIC, word("0x" + "1" * 40), word("0x" + "2" * 40), word("0x5")]
    )
    return pa.Table.from_pylist([*logs, nft, {**logs[0], "log_index": 9_001, "data": "0x12"}])
