"""Reads a labelled table: selects input columns and rows, and sorts the rows.

Every excluded column, dropped duplicate and missing value is recorded in `notes` and `missing`,
and from there in the report and the manifest.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from src.datasets.columns import Columns
from src.datasets.tables import TableError, read_table, require_columns

_TOO_GOOD = 0.995  # AUC of a single input above which it is suspected to be a copy of the label
_MIN_FOR_LEAK = 20  # minimum rows per class for that check
_MAX_VALUE = 1e150  # a scaler squares values
_SLIPS = 0.1  # fewer texts than this share of a column are mistakes in a column of numbers


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """Rows in a canonical order, independent of the file's."""

    inputs: tuple[str, ...]  # names of the columns of `rows`, in the order of the file
    rows: NDArray[np.float64]  # shape (n, d), NaN for missing values
    labels: NDArray[np.int64]  # shape (n,), 1 for fraud, 0 for the rest
    # Shape (n,), rows of one group stay together in every split; None without groups.
    groups: NDArray[np.int64] | None
    # Shape (n,), numbers in [0, 1) by a digest of the row's inputs, or of its group's name: the
    # same in every table that has the row.
    draws: NDArray[np.float64]
    missing: dict[str, int]  # number of missing values by input, if any
    notes: tuple[str, ...] = ()  # exclusions and warnings, one sentence each

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """The chosen rows: whether each is, in the same order, or their positions."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            groups=groups,
            draws=self.draws[chosen],
        )

    def identity(self) -> str:
        """SHA-256 of names, rows and labels, independent of the order of the file's rows."""
        digest = hashlib.sha256("\n".join(self.inputs).encode())
        digest.update(np.ascontiguousarray(self.rows).tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """The rows of one source, in its order."""

    inputs: tuple[str, ...]  # names of the columns of `rows`
    rows: NDArray[np.float64]  # shape (n, d), NaN for missing values
    labels: NDArray[np.int64]  # shape (n,), 1 for fraud, 0 for the rest
    groups: list[str] | None = None  # names of the rows' groups; None without groups
    notes: tuple[str, ...] = ()  # exclusions, one sentence each


def load_labelled(path: Path, columns: Columns) -> LabelledTable:
    """Read a CSV (also .gz) or parquet file with a column of labels.

    Raises:
        TableError: the file, a column or a value is unusable; the message says what to do.
    """
    return join_labelled([read_labelled(path, columns)])


def join_labelled(parts: Sequence[LabelledRows]) -> LabelledTable:
    """One table of several sources with the same inputs; a row that is in two counts once.

    A row without a group is a group of its own where others have one: its draw is the same.
    """
    names = parts[0].inputs
    group_names, digests, alone = [], [], []
    for part in parts:
        if part.groups is None:
            own = _digests(names, part.rows)
            group_names += [f"row {digest}" for digest in own]
        else:
            own = [hashlib.sha256(name.encode()).hexdigest() for name in part.groups]
            group_names += part.groups
        digests += own
        alone += [part.groups is None] * len(own)
    groups = None
    if not all(alone):
        # Numbered by sorted text, so that the numbers do not depend on the order of the rows.
        groups = np.unique(np.array(group_names, dtype=str), return_inverse=True)[1]
    rows = np.concatenate([part.rows for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    keys = [labels, *rows.T[::-1]] if groups is None else [groups, labels, *rows.T[::-1]]
    order = np.lexsort(keys)
    table = LabelledTable(names, rows, labels, groups, _draws(digests), {}).where(order)
    notes = [note for part in parts for note in part.notes]
    rows, is_alone = table.rows, np.array(alone)[order]
    same = np.zeros(len(rows), dtype=bool)
    same[1:] = ((rows[1:] == rows[:-1]) | (np.isnan(rows[1:]) & np.isnan(rows[:-1]))).all(axis=1)
    same[1:] &= is_alone[1:] & is_alone[:-1]
    repeated = same.copy()
    repeated[1:] &= table.labels[1:] == table.labels[:-1]
    if repeated.any():
        notes.append(
            f"{int(repeated.sum()):,} exact duplicates were dropped: "
            "otherwise the same row could be in training and in the test."
        )
        table, same = table.where(~repeated), same[~repeated]
    if same.any():
        notes.append(f"{int(same.sum())} rows are equal in all inputs but not in the label.")
    notes += _suspicious(names, table.rows, table.labels)
    empty = np.isnan(table.rows).sum(axis=0)
    missing = {name: int(count) for name, count in zip(names, empty, strict=True) if count}
    if missing:
        notes.append(
            f"{sum(missing.values()):,} values are missing, in {len(missing)} inputs: filled with "
            "the median of the training part."
        )
    notes += _telling_gaps(names, table.rows, table.labels)
    return replace(table, missing=missing, notes=tuple(notes))


def read_labelled(
    path: Path, columns: Columns, *, inputs: Sequence[str] | None = None
) -> LabelledRows:
    """Read the rows of a file; with `inputs` exactly those columns, in this order.

    Raises:
        TableError: as `load_labelled`.
    """
    label, ignore, group = columns.label, columns.ignore, columns.group
    if path.name.lower().endswith(".parquet.gz"):
        raise TableError(f"{path}: parquet is compressed inside; gunzip it first")
    table = read_table(path)
    if table.empty:
        raise TableError(f"{path}: no rows")
    if table.columns.duplicated().any():
        raise TableError(f"{path}: two columns have the same name")
    require_columns(table, [label, *ignore, *([group] if group else [])], str(path))
    labels = _labels(table[label], path, columns.positive)
    if inputs is not None:
        require_columns(table, inputs, str(path))
        found, notes = _numeric(table[list(inputs)], path, drop=False)
    else:
        left_out = {label, *ignore, *([group] if group else [])}
        found, notes = _numeric(table.drop(columns=list(left_out)), path)
    if not found:
        raise TableError(f"{path}: no numeric column is usable as an input; {' '.join(notes)}")
    names = tuple(found)
    # + 0.0 turns -0.0 into 0.0, which is equal but has other bytes.
    rows = np.column_stack([found[name] for name in names]) + 0.0
    groups = None if group is None else _group_names(table[group], path)
    return LabelledRows(names, rows, labels, groups, tuple(notes))


def _labels(column: "pd.Series[Any]", path: Path, positive: str | None) -> NDArray[np.int64]:
    name = column.name
    missing = column.isna().to_numpy(dtype=bool)
    if missing.any():
        raise TableError(
            f"{path}: {int(missing.sum())} rows have no {name}, the first is row "
            f"{int(missing.argmax()) + 1}; remove them first"
        )
    texts = column.astype(str).str.strip()
    if is_bool_dtype(column):
        texts = texts.str.lower().map({"true": "1", "false": "0"})
    elif is_numeric_dtype(column):
        texts = column.astype(float).map(lambda number: f"{number:g}")
    values = sorted(texts.unique().tolist())
    shown = ", ".join(values[:6]) + (", ..." if len(values) > 6 else "")
    if positive is None and {"0", "1"} < set(values):
        row = int(texts.isin(["0", "1"]).to_numpy().argmin())
        raise TableError(
            f"{path}, row {row + 1}, column {name}: {texts.iloc[row][:80]!r} is neither 0 nor 1"
        )
    if positive is None and values != ["0", "1"]:
        raise TableError(
            f"{path}: {name} holds {shown}, not both 0 and 1. Name the right column with --label, "
            "or the value that means fraud with --positive VALUE"
        )
    wanted = positive or "1"
    if len(values) != 2 or wanted not in values:
        raise TableError(
            f"{path}: {name} holds {shown}; two values are needed, one of them {wanted}"
        )
    return np.asarray(texts == wanted, dtype=np.int64)


def _numeric(
    table: pd.DataFrame, path: Path, *, drop: bool = True
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """The usable inputs as float64 columns, and the reasons for excluding others.

    Raises:
        TableError: an infinite value, or a text; where columns may be dropped, a text among
            numbers.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    reasons: dict[str, list[str]] = {}
    for name in map(str, table.columns):
        column = table[name]
        if not (is_numeric_dtype(column) or is_bool_dtype(column)) or column.dtype.kind == "c":
            numbers = pd.to_numeric(column.astype("string"), errors="coerce")
            texts = (numbers.isna() & column.notna()).to_numpy(dtype=bool)
            if not drop or 0 < texts.mean() < _SLIPS:
                row = int(texts.argmax())
                raise TableError(
                    f"{path}, row {row + 1}, column {name}: {str(column.iloc[row])[:80]!r} is not "
                    f"a number{f'; fix it, or use --ignore {name!r}' if drop else ''}"
                )
            reasons.setdefault("not numeric", []).append(name)
            continue
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        beyond = np.abs(values) > _MAX_VALUE
        if beyond.any():
            raise TableError(
                f"{path}, row {int(beyond.argmax()) + 1}: {name} has infinite values, or some "
                f"above {_MAX_VALUE:g}; fix them, or exclude it: --ignore '{name}'"
            )
        present = values[~np.isnan(values)]
        if not drop:
            columns[name] = values
        elif len(present) == 0:
            reasons.setdefault("empty", []).append(name)
        elif (present == present[0]).all() and len(present) == len(values):
            reasons.setdefault("the same in every row", []).append(name)
        else:
            columns[name] = values
    notes = [f"Excluded, {why}: {', '.join(names)}." for why, names in reasons.items()]
    return columns, notes


def _group_names(column: "pd.Series[Any]", path: Path) -> list[str]:
    if column.isna().any():
        raise TableError(f"{path}: {int(column.isna().sum())} rows have no {column.name}")
    names: list[str] = column.astype(str).tolist()
    return names


def _digests(names: tuple[str, ...], rows: NDArray[np.float64]) -> list[str]:
    """A digest of each row's inputs by name, whatever the order of the columns."""
    by_name = np.ascontiguousarray(rows[:, np.argsort(names)])
    by_name[np.isnan(by_name)] = np.nan  # one of many bit patterns
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in by_name]


def _draws(digests: Iterable[str]) -> NDArray[np.float64]:
    return np.array([int(digest[:13], 16) / 16**13 for digest in digests], dtype=np.float64)


def _telling_gaps(
    names: tuple[str, ...], rows: NDArray[np.float64], labels: NDArray[np.int64]
) -> list[str]:
    """Warn if values are missing in one class only: the filled values still reveal the class."""
    telling: dict[int, list[str]] = {}
    for column, name in enumerate(names):
        gaps = labels[np.isnan(rows[:, column])]
        if len(gaps) >= _MIN_FOR_LEAK and gaps.min() == gaps.max():
            telling.setdefault(int(gaps[0]), []).append(name)
    return [
        f"Values of {len(inputs)} inputs ({inputs[0]}{', ...' if len(inputs) > 1 else ''}) are "
        f"missing only where the label is {label}: the equal values that fill them may give the "
        "label away."
        for label, inputs in sorted(telling.items())
    ]


def _suspicious(
    names: tuple[str, ...], rows: NDArray[np.float64], labels: NDArray[np.int64]
) -> list[str]:
    """Warn about inputs that look like a copy of the label or like a row number."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  heavy, and most readers need none

    notes = []
    for column, name in enumerate(names):
        values = rows[:, column]
        known = ~np.isnan(values)
        fraud, rest = values[known & (labels == 1)], values[known & (labels == 0)]
        if min(len(fraud), len(rest)) >= _MIN_FOR_LEAK:
            alone = roc_auc_score(labels[known], values[known])
            alone = max(alone, 1 - alone)
            if alone >= _TOO_GOOD:
                notes.append(
                    f"{name} alone separates the classes (AUC {alone:.4f}): is it known before"
                    f" the label is? If not, use --ignore '{name}'."
                )
        whole = known.all() and (values == np.floor(values)).all()
        if whole and len(np.unique(values)) == len(values) == int(np.ptp(values)) + 1:
            notes.append(f"{name} looks like a row number: if it is, use --ignore '{name}'.")
    return notes
