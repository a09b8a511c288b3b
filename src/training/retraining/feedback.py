"""Analysts' feedback on alerts: from the service's database, or exported as CSV or JSON.

Columns: `tx_hash`, `is_true_positive` (true or false), and, if known, `author`, `given_at`, `note`.
Files of earlier versions call the verdict `is_true_alarm`, which is read for one more release.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from src.datasets.labelled import LabelledRows
from src.datasets.tables import TableError, read_table, require_columns
from src.downloads import local_file
from src.files import reason

_DATABASES = ("sqlite:", "postgres:", "postgresql:", "postgresql+")
# The service's tables, see `service.database.tables`.
_FEEDBACK = """
SELECT DISTINCT a.tx_hash, f.author, f.is_true_positive, CAST(x.features AS TEXT) AS features
FROM feedback f JOIN alerts a ON a.id = f.alert
LEFT JOIN features x ON x.chain_id = a.chain_id AND x.tx_hash = a.tx_hash
  AND x.model_version = a.model_version
"""
_HASH = re.compile(r"0x[0-9a-f]{64}")
_OLD_NAMES = {"is_true_alarm": "is_true_positive"}
_COLUMNS = ("tx_hash", "is_true_positive", "author")
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclass(frozen=True, slots=True)
class Feedback:
    """Transaction hashes by the analysts' majority verdict; ties are dropped."""

    attacks: frozenset[str] = frozenset()  # true positives
    benign: frozenset[str] = frozenset()  # false positives


@dataclass(frozen=True, slots=True)
class AllFeedback:
    """The feedback of all sources."""

    of_transactions: Feedback  # by hash
    # Of transactions with feedback that a database had, by hash.
    features: Mapping[str, Mapping[str, Any]]

    def labelled(self, inputs: Sequence[str]) -> LabelledRows | None:
        """The transactions whose features have all these inputs, each a group; None if none has."""
        known = self.of_transactions.attacks | self.of_transactions.benign
        hashes = [
            tx_hash
            for tx_hash, features in sorted(self.features.items())
            if tx_hash in known and all(_is_number(features.get(name)) for name in inputs)
        ]
        if not hashes:
            return None
        rows = [[float(self.features[one][name]) for name in inputs] for one in hashes]
        labels = [int(one in self.of_transactions.attacks) for one in hashes]
        groups = [f"transaction {one}" for one in hashes]
        return LabelledRows(tuple(inputs), np.array(rows), np.array(labels, np.int64), groups)


def read_all(sources: Sequence[str], chain_id: int | None = None) -> AllFeedback:
    """Read exports and databases; sources that disagree on a transaction cancel out.

    Args:
        sources: files, URLs of files, or the service's databases (`sqlite:///...`,
            `postgresql+psycopg://...`).
        chain_id: of the transactions that are taken from a database; None for every chain.

    Raises:
        TableError: a source is unusable; the message does not contain a database's password.
        DownloadError: a file cannot be had.
    """
    features: dict[str, Mapping[str, Any]] = {}
    verdicts = []
    for source in sources:
        if source.startswith(_DATABASES):
            table = _from_database(source, chain_id)
            features.update(
                (str(tx_hash), json.loads(content))
                for tx_hash, content in zip(table["tx_hash"], table["features"], strict=True)
                if isinstance(content, str)
            )
            verdicts.append(_majority(table, "the feedback of the database"))
        else:
            verdicts.append(read_feedback(local_file(source)))
    attacks = frozenset[str]().union(*(one.attacks for one in verdicts))
    benign = frozenset[str]().union(*(one.benign for one in verdicts))
    return AllFeedback(Feedback(attacks - benign, benign - attacks), features)


def read_feedback(path: Path) -> Feedback:
    """Read an export. If authors disagree on a transaction, the majority of them wins.

    Raises:
        TableError: the file is invalid; the message names the row.
    """
    table = _table(path)
    if "is_true_positive" not in table.columns:
        table = table.rename(columns=_OLD_NAMES)
    require_columns(table, ("tx_hash", "is_true_positive"), str(path))
    return _majority(table, str(path))


def _majority(table: pd.DataFrame, path: str) -> Feedback:
    votes: dict[str, list[bool]] = defaultdict(list)
    counted = set()
    columns = [table.get(name, pd.Series(index=table.index)).tolist() for name in _COLUMNS]
    for row, (given_hash, given, author) in enumerate(zip(*columns, strict=True), start=1):
        tx_hash, verdict = _hash(given_hash, path, row), _verdict(given, path, row)
        if isinstance(author, str):  # who has one vote on all alerts of a transaction
            if (tx_hash, verdict, author) in counted:
                continue
            counted.add((tx_hash, verdict, author))
        votes[tx_hash].append(verdict)
    attacks = {tx for tx, verdicts in votes.items() if 2 * sum(verdicts) > len(verdicts)}
    benign = {tx for tx, verdicts in votes.items() if 2 * sum(verdicts) < len(verdicts)}
    return Feedback(frozenset(attacks), frozenset(benign))


def _from_database(url: str, chain_id: int | None) -> pd.DataFrame:
    """One row per author and transaction: tx_hash, is_true_positive, features (JSON or None)."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):  # which may quote a password
        raise TableError(
            "the database of the feedback is no URL: use sqlite:///FILE or postgresql://..."
        ) from None
    if parsed.drivername.startswith("postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")  # as the service does
    elif not Path(parsed.database or "").is_file():  # SQLite would create it
        raise TableError(f"{parsed}: there is no such database")
    try:
        engine = create_engine(parsed, poolclass=NullPool)  # closes what it opened
        with engine.connect() as connection:
            of_chain = "" if chain_id is None else f"WHERE a.chain_id = {int(chain_id)}"
            return pd.read_sql(text(_FEEDBACK + of_chain), connection)
    except (SQLAlchemyError, pd.errors.DatabaseError) as error:
        shown = parsed.render_as_string(hide_password=True)
        raise TableError(f"{shown}: no feedback can be read: {type(error).__name__}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


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


def _hash(value: object, path: str, row: int) -> str:
    word = str(value).strip().lower()
    if not _HASH.fullmatch(word):
        raise TableError(f"{path}, row {row}: {word[:80]!r} is not a transaction hash")
    return word


def _verdict(value: object, path: str, row: int) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise TableError(
        f"{path}, row {row}: is_true_positive is {word[:80]!r}; it must be true or false"
    )
