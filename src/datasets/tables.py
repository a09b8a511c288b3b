"""Reads tables of transactions and transfers into arrays for the features.

Training, evaluation and drift use this reader; backtests and `npm run score`, which read billions
of rows, read a store (`src.history`). Both produce a `TransferBatch`, and so the same features.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from src.chain.text import plain_cell
from src.chain.transfers import NATIVE_EMITTERS
from src.datasets.columns import TRANSACTION_COLUMNS, TRANSFER_COLUMNS
from src.files import bomb, parquet_bytes, reason

if TYPE_CHECKING:  # slow to import, and an import of a history needs neither
    import pandas as pd

    from src.detection.features.batch import TransferBatch

ERC20 = "erc20"
FUNGIBLE = (ERC20, "bep20", "trc20", "hrc20", "arc20")
"""What chains call the standard, in lower case and without dashes."""
MAX_ROWS = 100_000_000
"""More in a parquet file, which takes a few bytes for any number of equal rows, are refused."""


# Always read as text: a uint256 would lose digits as a number.
_TEXT_COLUMNS = dict.fromkeys(
    ("value_raw", "value_wei", "gas_price", "tx_hash", "from_address", "to_address"), str
)


class TableError(ValueError):
    """A table is unreadable or incomplete; the message names it."""


def read_table(path: Path, required: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a CSV (also .gz) or parquet file.

    Raises:
        TableError: the file is missing or unreadable, or a required column is not in it.
    """
    import pandas as pd  # noqa: PLC0415

    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            _check_size(path)
            table = pd.read_parquet(path)
        elif name.endswith((".csv", ".csv.gz")):
            if name.endswith(".gz"):
                with path.open("rb") as stream:
                    check_unpacked(str(path), stream, "gzip")
            table = pd.read_csv(path, dtype=_TEXT_COLUMNS, low_memory=False)
        else:
            raise TableError(f"{path}: must be a .parquet, .csv or .csv.gz file")
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except MemoryError:
        raise TableError(f"{path}: does not fit into memory") from None
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path}: cannot be read: {reason(error)}") from error
    require_columns(table, required, str(path))
    return table


def read_unknown_tokens(path: Path) -> frozenset[str]:
    """The tokens without a reputation by a table of token facts (`address,known`), lowercase.

    Raises:
        TableError: the file cannot be read, or a fact is no true or false.
    """
    table = read_table(path, ("address", "known"))
    known = table["known"].astype(str).str.strip().str.lower()
    wrong = ~known.isin(("1", "true", "0", "false")).to_numpy(dtype=bool)
    if wrong.any():
        row = int(wrong.argmax())
        raise TableError(
            f"{path}, line {row + 2}: known must be true or false, not {known.iloc[row][:80]!r}"
        )
    unknown = table["address"][known.isin(("0", "false"))]
    return frozenset(unknown.astype(str).str.strip().str.lower())


def csv_text(table: "pd.DataFrame") -> str:
    """A table as CSV in which no cell is a formula, see `plain_cell`."""
    texts = {
        str(column): table[column].map(
            lambda cell: plain_cell(cell) if isinstance(cell, str) else cell
        )
        for column in table.select_dtypes(exclude=["number", "bool"])
    }
    return str(table.assign(**texts).to_csv(index=False, lineterminator="\n"))


def require_columns(table: "pd.DataFrame", required: Sequence[str], what: str) -> None:
    """Raise TableError if a table lacks columns."""
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise TableError(
            f"{what}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns))}"
        )


def fungible(transfers: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of ERC-20 tokens, as the column `token_std` says; without a word, a row is one."""
    if "token_std" not in transfers.columns:
        return transfers
    said = (
        transfers["token_std"]
        .fillna("")
        .astype(str)
        .str.lower()
        .str.replace("[-_ ]", "", regex=True)
    )
    return transfers[said.isin(("", *FUNGIBLE))]


def check_unpacked(name: str, stream: BinaryIO, compression: str) -> None:
    """Unpack a stream of `gzip` or `zstd` to nowhere; raise TableError if it is a bomb.

    Damage is left to the reader to find.
    """
    packed = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    unpacked = 0
    with suppress(OSError), pa.CompressedInputStream(pa.PythonFile(stream, "r"), compression) as it:
        while part := it.read(2**20):
            unpacked += len(part)
            check_growth(name, packed, unpacked)


def check_parquet(name: str, packed: int, metadata: pq.FileMetaData) -> None:
    """Raise TableError if the metadata of a parquet file of this size are a bomb's."""
    check_growth(name, packed, parquet_bytes(metadata))


def check_growth(name: str, packed: int, unpacked: int) -> None:
    """Raise TableError if what unpacks to so many bytes is a bomb."""
    if problem := bomb(packed, unpacked):
        raise TableError(f"{name}: {problem}")


def _check_size(path: Path) -> None:
    """Raise TableError for a parquet file whose metadata state more than can be read."""
    metadata = pq.read_metadata(path)
    check_parquet(str(path), path.stat().st_size, metadata)
    if metadata.num_rows > MAX_ROWS:
        raise TableError(
            f"{path}: {metadata.num_rows:,} rows, more than {MAX_ROWS:,}; use `npm run backtest`"
        )


@dataclass(frozen=True, slots=True)
class TransactionSet:
    """Transactions with ERC-20 transfers."""

    # One row per transaction, index 0 to n - 1, with `tx_hash`, `from_address` and other columns of
    # the source; `n_transfers` is the number of its ERC-20 transfers.
    table: "pd.DataFrame"
    batch: "TransferBatch"  # their transfers, transactions in the same order

    @classmethod
    def from_tables(
        cls, transactions: "pd.DataFrame", transfers: "pd.DataFrame", *, what: str = "the data"
    ) -> Self:
        """Join the two tables: sorted by hash, each transaction and each log once.

        Transactions without ERC-20 transfers are dropped, and so are transfers of unknown
        transactions and, if there is a column `token_std`, transfers of other standards.

        Raises:
            TableError: a column is missing or a value is invalid.
        """
        from src.detection.features.batch import (  # noqa: PLC0415
            TransferBatch,
            amounts_from_decimals,
        )

        require_columns(transactions, TRANSACTION_COLUMNS, f"transactions of {what}")
        require_columns(transfers, TRANSFER_COLUMNS, f"transfers of {what}")
        rows = fungible(transfers)
        # Exports without that column, and older ones, list native transfers as a token's.
        tokens = rows["token_address"].tolist()
        rows = rows.loc[[str(token).lower() not in NATIVE_EMITTERS for token in tokens]]
        # Lists and dictionaries are an order of magnitude faster here than string columns.
        wanted = set(transactions["tx_hash"].tolist()).intersection(rows["tx_hash"].tolist())
        table = transactions[transactions["tx_hash"].isin(wanted)]
        table = table.sort_values("tx_hash", kind="stable").drop_duplicates("tx_hash")
        table = table.reset_index(drop=True)
        position = {tx_hash: row for row, tx_hash in enumerate(table["tx_hash"].tolist())}
        owner = np.array([position.get(tx, -1) for tx in rows["tx_hash"].tolist()], dtype=np.int64)
        if rows["log_index"].isna().any():
            raise TableError(f"transfers of {what}: a row has no log_index")
        try:
            log_index = rows["log_index"].to_numpy(dtype=np.int64)
        except ValueError as error:
            raise TableError(f"transfers of {what}: log_index: {error}") from error
        order = np.lexsort((log_index, owner))
        order = order[owner[order] >= 0]
        same = np.diff(owner[order], prepend=-1) == 0
        order = order[~(same & (np.diff(log_index[order], prepend=-1) == 0))]
        counts = np.bincount(owner[order], minlength=len(table))
        rows = rows.iloc[order]
        try:
            batch = TransferBatch.from_columns(
                offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                token=_addresses(rows["token_address"]),
                sender=_addresses(rows["from_address"]),
                recipient=_addresses(rows["to_address"]),
                amount=amounts_from_decimals(map(str, rows["value_raw"].tolist())),
                origin=_addresses(table["from_address"]),
            )
        except ValueError as error:
            raise TableError(f"transfers of {what}: {error}") from error
        return cls(table.assign(n_transfers=counts), batch)

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """The chosen transactions, shape (n,), in the same order."""
        part = self.batch.part(chosen[self.batch.owner], chosen)
        return type(self)(self.table[chosen].reset_index(drop=True), part)

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.table)

    @property
    def n_transfers(self) -> NDArray[np.int64]:
        """Number of ERC-20 transfers of each transaction."""
        return self.batch.n_transfers


def _addresses(column: "pd.Series[str]") -> list[str]:
    """Lowercase addresses; a missing one (unknown sender) becomes ""."""
    return [text.lower() if isinstance(text, str) else "" for text in column.tolist()]
