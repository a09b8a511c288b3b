"""Import data and read what the store holds."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from src.datasets.store import Store, read_slice
from src.history.importing import ImportOptions, import_history


def imported(source: Path | str, **options: Any) -> Store:
    """The store of an export, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    return import_history(str(source), folder, ImportOptions(**options), lambda _: lambda _: None)


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
