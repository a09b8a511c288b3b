"""Imports a table of transactions and one of transfers that need no blocks, in their order."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from src.datasets.store import Store, locked
from src.datasets.tables import TableError
from src.history.importing import Import, ImportOptions
from src.history.layouts import TRANSACTIONS, TRANSFERS, pair_tables
from src.history.matching import Export, fitting
from src.history.sources import NUMBER, Column, connect, identifier, list_files, scan


def import_pair(transactions: Path, transfers: Path, out: Path) -> tuple[Store, int]:
    """Import two files with the columns of the data set into an empty folder.

    The blocks of the store are the rows of the first file, the first of those of a transaction.

    Returns:
        The store, and the number of transactions in the first file, each once.

    Raises:
        TableError: a file lacks a column or holds a value that is none of its kind.
        OSError: the disk failed.
    """
    with (
        locked(out, "import"),
        closing(connect(memory="300MB", spill=out / ".spill", ordered=True)) as engine,
    ):
        tables = {}
        for kind, path in ((TRANSACTIONS, transactions), (TRANSFERS, transfers)):
            if not path.is_file():
                raise TableError(f"{path}: no such file")
            listed = list_files(str(path), engine)
            (file,) = listed.files
            if kind == TRANSACTIONS and "tx_hash" in file.columns:
                numbered = {**file.columns, "block_number": Column(NUMBER, "integer")}
                file = replace(file, columns=numbered, numbered=file.columns["tx_hash"].name)
            tables[kind] = fitting(pair_tables()[kind], file)
        export = Export(
            str(transfers), "tables", tables[TRANSACTIONS], tables[TRANSFERS], None, None, {}, ()
        )
        (first, _), *_ = tables[TRANSACTIONS].files
        counted = engine.sql(f"FROM {scan([first])}")
        ((rows,),) = counted.aggregate(f"count(DISTINCT {identifier(NUMBER)})").fetchall()
        store = Import(export, out, ImportOptions(workers=1), engine, "").run(
            lambda _: lambda _: None
        )
    return store, int(rows)
