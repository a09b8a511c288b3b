"""Facts on disk, in one SQLite file that several processes may share.

The disk is optional: if it is full, read-only or corrupt, one warning is logged and the bot
continues with the memory cache.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from src.chain.errors import MalformedAnswer
from src.chain.facts import (
    Deployment,
    FirstTransaction,
    TokenInfo,
    deployment,
    first_transaction,
    token_info,
)

FILE_NAME = "facts.sqlite"
DEFAULT_MAX_FACTS = 1_000_000
"""Of each kind; about 100 bytes each."""

_BUSY_TIMEOUT_SECONDS = 0.25
# The size is checked once per so many writes; then this share of the oldest facts is deleted.
_WRITES_BETWEEN_CHECKS = 256
_SHARE_DROPPED = 0.1

# SQLite quotes a damaged schema in its messages, which need not be text then.
_DISK_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS token (
    id INTEGER PRIMARY KEY, chain_id INTEGER NOT NULL, address TEXT NOT NULL,
    name TEXT NOT NULL, symbol TEXT NOT NULL, decimals INTEGER, read_at REAL NOT NULL,
    UNIQUE (chain_id, address));
CREATE TABLE IF NOT EXISTS first_transaction (
    id INTEGER PRIMARY KEY, chain_id INTEGER NOT NULL, address TEXT NOT NULL,
    timestamp INTEGER NOT NULL, source TEXT NOT NULL,
    UNIQUE (chain_id, address));
CREATE TABLE IF NOT EXISTS deployment (
    id INTEGER PRIMARY KEY, chain_id INTEGER NOT NULL, address TEXT NOT NULL,
    absent_at INTEGER, present_at INTEGER,
    UNIQUE (chain_id, address));
"""
# Earlier versions kept tokens without the time when they were read: they are read again.
_SCHEMA_VERSION = 1

T = TypeVar("T")

logger = logging.getLogger(__name__)


class FactStore:
    """Token metadata, first transactions and contracts' ages of one chain.

    Reading and writing use a connection each, so that a reader does not wait for a writer. No
    method raises on a failing disk. Thread-safe.

    Args:
        folder: of the file, created if missing; None keeps nothing.
        chain_id: part of every key.
        max_facts: maximum rows of each kind; the oldest are deleted first.
    """

    def __init__(
        self, folder: Path | None, chain_id: int, *, max_facts: int = DEFAULT_MAX_FACTS
    ) -> None:
        self._chain_id = chain_id
        self._max_facts = max_facts
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._warned = False
        self._writes = {"token": 0, "first_transaction": 0, "deployment": 0}
        if folder is not None:
            self._open(folder)

    def token_info(self, address: str) -> TokenInfo | None:
        """The token's metadata, or None when it is not stored."""
        columns = "SELECT name, symbol, decimals, read_at FROM token"
        return self._read(columns, address, lambda *row: token_info("cache", *row))

    def first_transaction(self, address: str) -> FirstTransaction | None:
        """The address's first transaction, or None when it is not stored."""
        return self._read(
            "SELECT source, timestamp FROM first_transaction", address, first_transaction
        )

    def deployment(self, address: str) -> Deployment | None:
        """When the contract was deployed, or None if nothing is stored."""
        columns = "SELECT absent_at, present_at FROM deployment"
        return self._read(columns, address, lambda *row: deployment("cache", *row))

    def put_token_infos(self, infos: Mapping[str, TokenInfo]) -> None:
        """Store metadata by token address; replaces what was read earlier."""
        self._write(
            "token",
            "INSERT INTO token (chain_id, address, name, symbol, decimals, read_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (chain_id, address) DO UPDATE SET"
            " name = excluded.name, symbol = excluded.symbol, decimals = excluded.decimals,"
            " read_at = excluded.read_at",
            [
                (self._chain_id, address, info.name, info.symbol, info.decimals, info.read_at)
                for address, info in infos.items()
            ],
        )

    def put_first_transactions(self, firsts: Mapping[str, FirstTransaction]) -> None:
        """Store first transactions by address, unless an earlier one is stored."""
        self._write(
            "first_transaction",
            "INSERT INTO first_transaction (chain_id, address, timestamp, source)"
            " VALUES (?, ?, ?, ?) ON CONFLICT (chain_id, address) DO UPDATE"
            " SET timestamp = excluded.timestamp, source = excluded.source"
            " WHERE excluded.timestamp < timestamp",
            [
                (self._chain_id, address, first.timestamp, first.source)
                for address, first in firsts.items()
            ],
        )

    def forget_first_transaction(self, address: str) -> None:
        """Delete what is stored of an address."""
        self._write(
            "first_transaction",
            "DELETE FROM first_transaction WHERE chain_id = ? AND address = ?",
            [(self._chain_id, address)],
        )

    def put_deployments(self, deployments: Mapping[str, Deployment]) -> None:
        """Store when contracts were deployed, by address; joined with what is stored already."""
        self._write(
            "deployment",
            "INSERT INTO deployment (chain_id, address, absent_at, present_at)"
            " VALUES (?, ?, ?, ?) ON CONFLICT (chain_id, address) DO UPDATE SET"
            " absent_at = max(coalesce(absent_at, excluded.absent_at),"
            " coalesce(excluded.absent_at, absent_at)),"
            " present_at = min(coalesce(present_at, excluded.present_at),"
            " coalesce(excluded.present_at, present_at))",
            [
                (self._chain_id, address, known.absent_at, known.present_at)
                for address, known in deployments.items()
            ],
        )

    def close(self) -> None:
        """Close the file."""
        with self._read_lock, self._write_lock:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = _connect(folder / FILE_NAME)
            _set_up(self._writer)
            self._reader = _connect(folder / FILE_NAME)
        except (*_DISK_ERRORS, OSError) as error:
            self._warn(error)
            if self._writer is not None:
                self._writer.close()
            self._reader = self._writer = None

    def _read(self, select: str, address: str, parse: Callable[..., T]) -> T | None:
        query = f"{select} WHERE chain_id = ? AND address = ?"
        try:
            with self._read_lock:
                if self._reader is None:
                    return None
                row = self._reader.execute(query, (self._chain_id, address)).fetchone()
            return parse(*row) if row else None
        except (*_DISK_ERRORS, MalformedAnswer) as error:
            self._warn(error)
            return None

    def _write(self, table: str, statement: str, rows: list[tuple[object, ...]]) -> None:
        if not rows:
            return
        try:
            with self._write_lock:
                if self._writer is None:
                    return
                with self._writer:
                    self._writer.executemany(statement, rows)
                    self._bound(self._writer, table, len(rows))
        except _DISK_ERRORS as error:
            self._warn(error)

    def _bound(self, writer: sqlite3.Connection, table: str, written: int) -> None:
        self._writes[table] -= written
        if self._writes[table] > 0:
            return
        self._writes[table] = min(_WRITES_BETWEEN_CHECKS, self._max_facts)
        (rows,) = writer.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        if rows > self._max_facts:
            excess = rows - self._max_facts + int(self._max_facts * _SHARE_DROPPED)
            writer.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608
                (excess,),
            )

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "the cache folder (CACHE_DIR) is unusable (%s): continuing in memory;"
                " if %s is corrupt, delete it",
                error if isinstance(error, sqlite3.Error) else type(error).__name__,
                FILE_NAME,
            )


def _set_up(writer: sqlite3.Connection) -> None:
    with writer:
        writer.execute("BEGIN IMMEDIATE")  # several processes may start at once
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        if version < _SCHEMA_VERSION:
            writer.execute("DROP TABLE IF EXISTS token")
            writer.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        for statement in _SCHEMA.split(";"):
            writer.execute(statement)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, check_same_thread=False)
    try:
        # Readers and one writer at a time, in any number of processes; a crash of the machine may
        # cost the last facts, which can be asked again.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection
