"""Analysts' feedback on alerts, exported as CSV or JSON.

Columns: `tx_hash`, `is_true_positive` (true or false), and, if known, `author`, `given_at`, `note`.
Exports of earlier versions call the verdict `is_true_alarm`.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from src.datasets.tables import TableError, read_table, require_columns
from src.files import reason

_HASH_LENGTH = 66
_OLD_NAMES = {"is_true_alarm": "is_true_positive"}
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclass(frozen=True, slots=True)
class Feedback:
    """Transaction hashes by the analysts' majority verdict; ties are dropped.

    Attributes:
        attacks: true positives.
        benign: false positives.
    """

    attacks: frozenset[str] = frozenset()
    benign: frozenset[str] = frozenset()


def read_feedback(path: Path) -> Feedback:
    """Read an export. If authors disagree on a transaction, the majority wins.

    Raises:
        TableError: the file is invalid; the message names the row.
    """
    table = _table(path)
    if "is_true_positive" not in table.columns:
        table = table.rename(columns=_OLD_NAMES)
    require_columns(table, ("tx_hash", "is_true_positive"), str(path))
    votes: dict[str, list[bool]] = defaultdict(list)
    for row, (tx_hash, verdict) in enumerate(
        zip(table["tx_hash"].tolist(), table["is_true_positive"].tolist(), strict=True), start=1
    ):
        votes[_hash(tx_hash, path, row)].append(_verdict(verdict, path, row))
    attacks = {tx for tx, verdicts in votes.items() if 2 * sum(verdicts) > len(verdicts)}
    benign = {tx for tx, verdicts in votes.items() if 2 * sum(verdicts) < len(verdicts)}
    return Feedback(frozenset(attacks), frozenset(benign))


def _table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() != ".json":
        return read_table(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{path}: cannot be read: {reason(error)}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TableError(f"{path}: must be a list of objects")
    return pd.DataFrame(rows, columns=None if rows else ["tx_hash", "is_true_positive"])


def _hash(value: object, path: Path, row: int) -> str:
    text = str(value).strip().lower()
    digits = text.removeprefix("0x")
    if len(text) != _HASH_LENGTH or not text.startswith("0x") or not _is_hex(digits):
        raise TableError(f"{path}, row {row}: {text[:80]!r} is not a transaction hash")
    return text


def _is_hex(digits: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in digits)


def _verdict(value: object, path: Path, row: int) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise TableError(
        f"{path}, row {row}: is_true_positive is {text[:80]!r}; it must be true or false"
    )
