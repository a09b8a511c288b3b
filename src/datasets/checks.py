"""Checks of a data set before it is stored and trained on; a message names column and row."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pandas.api.types import is_integer_dtype

from src.chain.recording.dataset import TRANSACTIONS_FILE, TRANSFERS_FILE, is_dataset
from src.datasets.columns import TRANSFER_COLUMNS
from src.datasets.location import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE, GOLDEN_CASES_FILE
from src.datasets.store import GENESIS
from src.datasets.tables import TableError, read_table
from src.datasets.training_set import BACKGROUND_COLUMNS, exploit_hashes

EXPECTED: Final = ("ANOMALY", "NORMAL")

_DAY: Final = 86_400
_MAX_AMOUNT: Final = str(2**256 - 1)
_MAX_ATTACKS: Final = 0.5

_Rule = tuple[str, Callable[["pd.Series[Any]"], "pd.Series[bool]"]]


def check_data_set(folder: Path) -> None:
    """Check types, values, duplicates, dates and the share of attacks of a folder's tables.

    Raises:
        TableError: a table is unusable; the message names file, column and row (1 is the first).
    """
    if not is_dataset(folder):
        hint = "; of a labelled table state --label COLUMN" if folder.is_file() else ""
        raise TableError(f"{folder}: not a data set ({TRANSACTIONS_FILE}, {TRANSFERS_FILE}){hint}")
    latest = time.time() + _DAY
    transactions = _checked(
        folder / TRANSACTIONS_FILE,
        BACKGROUND_COLUMNS,
        unique=("tx_hash",),
        tx_hash=_HASH,
        from_address=_optional(_ADDRESS),
        block_number=_natural(2**63 - 1),
        block_hash=_optional(_HASH),
        block_timestamp=(
            "must be Unix seconds between Ethereum's first block and now",
            lambda values: _is_whole(values, GENESIS, latest),
        ),
        full_block=_SWITCH,
        all_logs=_SWITCH,
    )
    _checked(
        folder / TRANSFERS_FILE,
        TRANSFER_COLUMNS,
        unique=("tx_hash", "log_index"),
        tx_hash=_HASH,
        log_index=_natural(2**31 - 1),
        token_address=_ADDRESS,
        from_address=_ADDRESS,
        to_address=_ADDRESS,
        value_raw=_AMOUNT,
    )
    if (folder / EXPLOITS_FILE).is_file():
        _check_exploits(folder, latest)
        attacks = float(transactions["tx_hash"].isin(exploit_hashes(folder)).mean())
        check_share(attacks, f"{folder / EXPLOITS_FILE}: column label", "transactions exploits")
    if (folder / GOLDEN_CASES_FILE).is_file():
        _checked(
            folder / GOLDEN_CASES_FILE,
            ("tx_hash", "expected"),
            unique=("tx_hash",),
            tx_hash=_HASH,
            expected=(f"must be {' or '.join(EXPECTED)}", lambda values: values.isin(EXPECTED)),
        )


def check_share(share: float, column: str, of_what: str) -> None:
    """Check the share of attacks or frauds that a column states; raises TableError."""
    if share > _MAX_ATTACKS:
        raise TableError(
            f"{column} calls {share:.0%} of the {of_what}, and at most {_MAX_ATTACKS:.0%} can be: "
            "is it the right one?"
        )


def _check_exploits(folder: Path, latest: float) -> None:
    _checked(
        folder / EXPLOITS_FILE,
        ("tx_hash", "label", "protocol", "date"),
        unique=("tx_hash",),
        tx_hash=_HASH,
        label=("is missing", pd.Series.notna),
        date=_optional(
            (
                "must be a date of the past, such as 2024-05-31 or 2024-05",
                lambda values: (
                    pd.to_datetime(
                        values.astype("string"), format="ISO8601", errors="coerce", utc=True
                    )
                    < pd.Timestamp(latest, unit="s", tz="UTC")
                ),
            )
        ),
    )
    if (folder / EXPLOIT_TRANSFERS_FILE).is_file():
        _checked(
            folder / EXPLOIT_TRANSFERS_FILE,
            ("tx_hash", "tx_from", "seq", "derivation", *TRANSFER_COLUMNS[2:]),
            unique=("tx_hash", "derivation", "seq"),
            tx_hash=_HASH,
            tx_from=_ADDRESS,
            seq=_natural(2**31 - 1),
            token_address=_ADDRESS,
            from_address=_ADDRESS,
            to_address=_ADDRESS,
            value_raw=_AMOUNT,
        )


def _checked(
    path: Path, required: Sequence[str], *, unique: Sequence[str], **rules: _Rule
) -> pd.DataFrame:
    """Read a table and apply a rule to each of the named columns."""
    table = read_table(path, required)
    if table.columns.duplicated().any():
        twice = str(table.columns[table.columns.duplicated()][0])
        raise TableError(f"{path}: two columns are named {twice}")
    if table.empty:
        raise TableError(f"{path}: no rows")
    for column, (wanted, holds) in rules.items():
        fine = holds(table[column]).fillna(value=False).to_numpy(dtype=bool)
        if not fine.all():
            row = int(fine.argmin())
            shown = str(table[column].iloc[row])[:80]
            raise TableError(f"{path}, row {row + 1}, column {column}: {shown!r} {wanted}")
    repeated = table.duplicated(list(unique)).to_numpy(dtype=bool)
    if repeated.any():
        row = int(repeated.argmax())
        raise TableError(
            f"{path}, row {row + 1}, column {' and '.join(unique)}: repeats an earlier row"
        )
    return table


def _natural(high: int) -> _Rule:
    return (
        f"must be a whole number from 0 to {high}",
        lambda values: _is_whole(values, 0, high),
    )


def _optional(rule: _Rule) -> _Rule:
    """The rule, or no value."""
    wanted, holds = rule
    return f"{wanted}, or empty", lambda values: values.isna() | (values == "") | holds(values)


def _matching(pattern: str) -> Callable[["pd.Series[Any]"], "pd.Series[bool]"]:
    def holds(values: "pd.Series[Any]") -> "pd.Series[bool]":
        matched: pd.Series[bool] = values.astype("string").str.fullmatch(pattern)
        return matched

    return holds


def _is_whole(values: "pd.Series[Any]", low: float, high: float) -> "pd.Series[bool]":
    if is_integer_dtype(values):
        return values.between(low, high)
    return pd.Series(data=False, index=values.index)


def _is_amount(values: "pd.Series[Any]") -> "pd.Series[bool]":
    texts = values.astype("string").fillna("")
    digits = texts.str.fullmatch(f"[0-9]{{1,{len(_MAX_AMOUNT)}}}")
    fits: pd.Series[bool] = digits & (texts.str.zfill(len(_MAX_AMOUNT)) <= _MAX_AMOUNT)
    return fits


_HASH: Final[_Rule] = ("must be 0x and 64 lowercase hex digits", _matching("0x[0-9a-f]{64}"))
_ADDRESS: Final[_Rule] = ("must be 0x and 40 hex digits", _matching("0x[0-9a-fA-F]{40}"))
_AMOUNT: Final[_Rule] = ("must be a decimal uint256", _is_amount)
_SWITCH: Final[_Rule] = ("must be true or false", lambda values: values.isin([True, False]))
