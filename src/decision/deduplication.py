"""Deduplicates findings with the same sender, contract and alert within a time window.

The first finding is emitted immediately. Further ones within the window are counted; the next one
that is emitted states how many were suppressed. One that asks for a more drastic action, or is
about much more money, is no repeat: a thief could suppress the finding on its theft by a small one
before. Time is block time, so that a replay gives the same findings as the live run. With a folder,
the state survives a restart.
"""

import logging
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from src.detection.records import Action

FILE_NAME = "repeats.sqlite"
DEFAULT_REMEMBERED = 10_000
"""Maximum number of stored combinations of sender, contract and alert, of about 300 bytes each."""

MUCH_MORE = 10.0
"""Times the money of the emitted finding."""

MUCH_USD = 1_000.0
"""Below ten times that, nothing is much more."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS emitted (
    key TEXT PRIMARY KEY, since INTEGER NOT NULL, action INTEGER NOT NULL, usd REAL NOT NULL,
    held_back INTEGER NOT NULL);
"""
_BUSY_TIMEOUT_SECONDS = 0.25

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Emitted:
    since: int  # its time
    action: Action  # that it asked for
    usd: float  # at stake in it
    held_back: int = 0  # how many were suppressed since

    def covers(self, action: Action, usd: float) -> bool:
        return action <= self.action and usd <= MUCH_MORE * max(self.usd, MUCH_USD)


class Deduplicator:
    """Decides whether a finding is new, and counts suppressed ones. Thread-safe.

    Args:
        window_seconds: 0 disables deduplication.
        folder: for the stored state; None for memory only.
        chain_id: part of every key.
        remembered: maximum number of combinations; the oldest is dropped, and its next finding is
            new again.
    """

    def __init__(
        self,
        window_seconds: float,
        *,
        folder: Path | None = None,
        chain_id: int = 1,
        remembered: int = DEFAULT_REMEMBERED,
    ) -> None:
        self._window = window_seconds
        self._chain_id = chain_id
        self._remembered = remembered
        self._seen: OrderedDict[str, _Emitted] = OrderedDict()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if folder is not None and window_seconds > 0:
            self._open(folder)

    def __len__(self) -> int:
        return len(self._seen)

    def count(
        self,
        alert_id: str,
        sender: str,
        contract: str | None,
        timestamp: int | None,
        *,
        action: Action,
        usd: float = 0.0,
    ) -> int | None:
        """The number of transactions that a finding represents, or None if it is suppressed.

        Args:
            alert_id: of the finding.
            sender: of the transaction.
            contract: the called contract, or None.
            timestamp: of its block, Unix seconds; without one nothing is suppressed.
            action: that the finding asks for.
            usd: roughly how much is at stake, as far as it is known.
        """
        if self._window <= 0 or timestamp is None:
            return 1
        key = f"{self._chain_id}/{alert_id}/{sender}/{contract}"
        with self._lock:
            seen = self._seen.get(key)
            # Blocks may arrive out of order (a range run backwards): compare the absolute distance.
            is_recent = seen is not None and abs(timestamp - seen.since) < self._window
            if seen is not None and is_recent and seen.covers(action, usd):
                self._remember(key, replace(seen, held_back=seen.held_back + 1))
                return None
            self._remember(key, _Emitted(timestamp, action, usd))
            return 1 + (seen.held_back if seen is not None else 0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _remember(self, key: str, seen: _Emitted) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        forgotten = None
        if len(self._seen) > self._remembered:
            forgotten, _ = self._seen.popitem(last=False)
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.execute(
                    "INSERT OR REPLACE INTO emitted VALUES (?, ?, ?, ?, ?)",
                    (key, seen.since, int(seen.action), seen.usd, seen.held_back),
                )
                if forgotten is not None:
                    self._connection.execute("DELETE FROM emitted WHERE key = ?", (forgotten,))
        except sqlite3.Error as error:
            self._give_up(error)

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                folder / FILE_NAME, timeout=_BUSY_TIMEOUT_SECONDS, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            rows = self._connection.execute(
                "SELECT key, since, action, usd, held_back FROM emitted "
                "ORDER BY rowid DESC LIMIT ?",
                (self._remembered,),
            ).fetchall()
            for key, since, action, usd, held_back in reversed(rows):
                emitted = _Emitted(int(since), Action(action), float(usd), int(held_back))
                self._seen[str(key)] = emitted
            if rows:
                with self._connection:
                    self._connection.execute(
                        "DELETE FROM emitted WHERE rowid NOT IN "
                        "(SELECT rowid FROM emitted ORDER BY rowid DESC LIMIT ?)",
                        (self._remembered,),
                    )
        except (sqlite3.Error, OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        logger.warning(
            "repeated findings are counted in memory only: %s is unusable (%s)",
            FILE_NAME,
            type(error).__name__,
        )
        if self._connection is not None:
            self._connection.close()
        self._connection = None
