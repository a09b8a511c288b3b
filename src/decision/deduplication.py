"""Deduplicates findings with the same sender, contract and alert within a time window.

The first finding is emitted immediately. Further ones within the window are counted; the next
finding after the window states how many were suppressed. Time is block time, so that a replay gives
the same findings as the live run. With a folder, the state survives a restart.
"""

import logging
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "repeats.sqlite"
DEFAULT_REMEMBERED = 10_000
"""Maximum number of stored combinations of sender, contract and alert, of about 300 bytes each."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS repeat (
    key TEXT PRIMARY KEY, since INTEGER NOT NULL, held_back INTEGER NOT NULL);
"""
_BUSY_TIMEOUT_SECONDS = 0.25

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    since: int
    held_back: int


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
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if folder is not None and window_seconds > 0:
            self._open(folder)

    def __len__(self) -> int:
        return len(self._seen)

    def count(
        self, alert_id: str, sender: str, contract: str | None, timestamp: int | None
    ) -> int | None:
        """The number of transactions that a finding represents, or None if it is suppressed.

        Args:
            alert_id: of the finding.
            sender: of the transaction.
            contract: the called contract, or None.
            timestamp: of its block, Unix seconds; without one nothing is suppressed.
        """
        if self._window <= 0 or timestamp is None:
            return 1
        key = f"{self._chain_id}/{alert_id}/{sender}/{contract}"
        with self._lock:
            seen = self._seen.get(key)
            # Blocks may arrive out of order (a range run backwards): compare the absolute distance.
            if seen is not None and abs(timestamp - seen.since) < self._window:
                self._remember(key, _Seen(seen.since, seen.held_back + 1))
                return None
            self._remember(key, _Seen(timestamp, 0))
            return 1 + (seen.held_back if seen is not None else 0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _remember(self, key: str, seen: _Seen) -> None:
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
                    "INSERT OR REPLACE INTO repeat VALUES (?, ?, ?)",
                    (key, seen.since, seen.held_back),
                )
                if forgotten is not None:
                    self._connection.execute("DELETE FROM repeat WHERE key = ?", (forgotten,))
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
                "SELECT key, since, held_back FROM repeat ORDER BY rowid DESC LIMIT ?",
                (self._remembered,),
            ).fetchall()
            for key, since, held_back in reversed(rows):
                self._seen[str(key)] = _Seen(int(since), int(held_back))
            if rows:
                with self._connection:
                    self._connection.execute(
                        "DELETE FROM repeat WHERE rowid NOT IN "
                        "(SELECT rowid FROM repeat ORDER BY rowid DESC LIMIT ?)",
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
