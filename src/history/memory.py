"""The store's form of tables in memory."""

from contextlib import closing

import duckdb
import pyarrow as pa

from src.datasets.tables import TableError
from src.history.canonical import Damaged, canonical
from src.history.layouts import TABLES, TRANSACTIONS, TRANSFERS
from src.history.matching import Export, TableFiles
from src.history.sources import PARQUET, Column, File, connect, kind_of
from src.history.sql import statement


def from_tables(transactions: pa.Table, transfers: pa.Table) -> pa.Table:
    """Transactions with their transfers, from tables with the columns of the data set.

    Raises:
        TableError: a value is none of its kind.
    """
    files = {}
    with closing(connect()) as engine:
        for kind, table in ((TRANSACTIONS, transactions), (TRANSFERS, transfers)):
            engine.register(f"{kind}_0", table)
            declared = next(t for t in TABLES if (t.layout, t.kind) == ("data set", kind))
            columns = {
                field.name: Column(field.name, kind_of(field.type)) for field in table.schema
            }
            names = {
                ours: columns[theirs[0]]
                for ours, theirs in {**declared.required, **declared.optional}.items()
                if theirs[0] in columns
            }
            files[kind] = TableFiles(declared, ((File(kind, kind, PARQUET, columns), names),))
        export = Export("", "data set", files[TRANSACTIONS], files[TRANSFERS], None, {}, ())
        try:
            return canonical(engine.sql(statement(export)).to_arrow_table())[0]
        except (Damaged, duckdb.Error, pa.ArrowException) as error:
            raise TableError(
                _wrong(transfers) or f"a value is none of its kind: {error}"
            ) from error


def _wrong(transfers: pa.Table) -> str | None:
    """The first amount that is none."""
    for text in transfers["value_raw"].to_pylist():
        if not (isinstance(text, str) and text.isascii() and text.isdigit() and int(text) < 2**256):
            return f"value_raw is not a uint256: {text!r}"
    return None
