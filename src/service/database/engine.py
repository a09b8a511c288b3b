"""Opening and migrating the database; read and write transactions."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import alembic.command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Insert,
    Row,
    Select,
    Table,
    create_engine,
    event,
    func,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from src.files import reason

MIGRATIONS: Final = Path(__file__).parent / "migrations"

T = TypeVar("T")

_BUSY_SECONDS: Final = 30
_POOL_SIZE: Final = 20
_POOL_WAIT_SECONDS: Final = 10
_CONNECT_SECONDS: Final = 5
_STATEMENT_MS: Final = 30_000
_MIGRATION_LOCK: Final = 5_316_201
_CHUNK: Final = 500
_WRITES: Final = "writes"
_READ_ONLY: Final = "25006"


class DatabaseError(RuntimeError):
    """The database cannot be opened. The message says what to do and holds no password."""


class DatabaseLost(DatabaseError):
    """A file of SQLite's was deleted or replaced while it was open: what is written is lost."""


def is_unavailable(error: Exception) -> bool:
    """Whether an error says that the database cannot work now, rather than that we are wrong."""
    if isinstance(error, OperationalError | NoConnection):
        return True
    # PostgreSQL as a standby, such as after a failover; no operational error to its driver.
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") == _READ_ONLY


class Database:
    """Connections to SQLite or PostgreSQL. Thread-safe; open one in each process.

    SQLite runs in WAL mode: readers and the one writer do not block each other. A writing
    transaction takes the write lock when it begins, so that it waits for its turn instead of
    failing half-way.
    """

    def __init__(self, url: str) -> None:
        """Open the database at an SQLAlchemy URL; PostgreSQL's driver is psycopg 3.

        Raises:
            DatabaseError: the URL is not for SQLite or PostgreSQL.
        """
        self.engine = _engine(url)
        # SQLite's transactions have one view anyway, PostgreSQL's usually one a statement.
        one_view = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._for_reading = self.engine.execution_options(**one_view)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, with one consistent view."""
        with self._for_reading.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back on an exception."""
        with (
            self.engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def first(self, query: Select[Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The first row of a query that is asked often, by column; None if there is none.

        Without SQLAlchemy's part, which takes ten times as long as the database's. What goes wrong
        is asked again with it, which knows what to do.

        Args:
            query: one object for all calls.
            values: of its bound parameters.
        """
        asked = _prepared(query, self.engine.dialect)
        with (
            suppress(self.engine.dialect.loaded_dbapi.Error),
            closing(self.engine.raw_connection()) as connection,
            closing(connection.cursor()) as cursor,
        ):
            cursor.execute(asked.sql, asked.parameters(values))
            return asked.by_column(cursor)
        with self.reading() as opened:
            found = opened.execute(query, values).first()
        return None if found is None else dict(found._mapping)

    def migrate(self) -> None:
        """Make the tables, or bring them up to date. Safe if several processes do it at once.

        Raises:
            DatabaseError: the database does not answer, is invalid, or is newer than this code.
        """
        try:
            with self.writing() as connection:
                if not self.is_sqlite:  # both may take long
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    lock = text("SELECT pg_advisory_xact_lock(:key)")
                    connection.execute(lock, {"key": _MIGRATION_LOCK})
                alembic.command.upgrade(alembic_config(connection), "head")
        except CommandError:  # only newer code writes a revision that this one does not know
            raise DatabaseError(
                f"{self._where} was written by a newer version of this program: update the program,"
                " or name another database in DATABASE_URL"
            ) from None
        except DBAPIError as error:
            cause = str(error.orig).splitlines()[0] if error.orig else "no reason given"
            problem = "does not answer" if isinstance(error, OperationalError) else "cannot be used"
            raise DatabaseError(f"{self._where} {problem} ({cause}); see DATABASE_URL") from None

    @property
    def _where(self) -> str:
        """The database without anything that may be a secret: a query holds passwords too."""
        url = self.engine.url
        if self.is_sqlite:
            return f"sqlite:///{url.database}"
        host = url.host or url.query.get("host") or "this machine"
        return f"the PostgreSQL database on {host}"

    def ask(self) -> None:
        """Raise whatever is wrong, if the database does not answer or lacks the tables."""
        with self.reading() as connection:
            connection.execute(text("SELECT 1 FROM alembic_version"))

    def is_ready(self) -> bool:
        """Whether the database answers and has the service's tables."""
        try:
            self.ask()
        except Exception:  # noqa: BLE001 - whatever is wrong, it is not ready
            return False
        return True

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class _Prepared:
    """A query in a dialect's words."""

    def __init__(self, query: Select[Any], dialect: Dialect) -> None:
        self._compiled = query.compile(dialect=dialect)
        self.sql = str(self._compiled)
        self._order = getattr(self._compiled, "positiontup", None)
        self._dialect = dialect
        self._types = {one.name: one.type.dialect_impl(dialect) for one in query.selected_columns}
        self._columns: list[tuple[str, Any]] = []

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """As the driver takes them: in order, or by name."""
        named = self._compiled.construct_params(dict(values))
        return named if self._order is None else [named[name] for name in self._order]

    def by_column(self, cursor: DBAPICursor) -> dict[str, Any] | None:
        """The driver's row with the values that SQLAlchemy makes of it; None if there is none."""
        row = cursor.fetchone()
        if row is None:
            return None
        self._columns = self._columns or [
            (name, kind.result_processor(self._dialect, described[1]))
            for (name, kind), described in zip(self._types.items(), cursor.description, strict=True)
        ]
        return {
            name: value if process is None else process(value)
            for (name, process), value in zip(self._columns, row, strict=True)
        }


_prepared: Final = functools.lru_cache(maxsize=16)(_Prepared)


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for work on this connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def in_chunks(rows: Iterable[T]) -> Iterator[list[T]]:
    """The rows in lists that are short enough for the values of one statement."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def upsert(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT with ON CONFLICT, in the database's dialect."""
    return sqlite.insert(table) if _is_sqlite(connection) else postgresql.insert(table)


def insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows that do not exist yet; existing rows stay unchanged."""
    if rows:
        connection.execute(upsert(connection, table).on_conflict_do_nothing(), rows)


def put(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; if the primary key exists, replace the other columns."""
    if rows:
        connection.execute(_replacing(table, tuple(rows[0]), _is_sqlite(connection)), rows)


@functools.cache  # to build it takes longer than to execute it
def _replacing(table: Table, names: tuple[str, ...], is_sqlite: bool) -> Insert:
    statement = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    keys = [column.name for column in table.primary_key]
    changes = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)


class Page(NamedTuple):
    """A page of rows, the highest key first."""

    limit: int
    offset: int = 0  # rows before it
    before: int | None = None  # the key that all of its rows are below; None for any


def newest_first(
    connection: Connection, kind: type[T], query: Select[Any], key: ColumnElement[int], page: Page
) -> tuple[list[T], int]:
    """A page of a query's rows as dataclasses, and how many rows it has in all."""
    total = connection.scalar(query.with_only_columns(func.count(), maintain_column_froms=True))
    selected = query.order_by(key.desc()).limit(page.limit).offset(page.offset)
    if page.before is not None:
        selected = selected.where(key < page.before)
    return records(connection, kind, selected), total or 0


def records(connection: Connection, kind: type[T], query: Select[Any]) -> list[T]:
    """The rows of a query as dataclasses."""
    return [record(kind, row) for row in connection.execute(query)]


def first_record(connection: Connection, kind: type[T], query: Select[Any]) -> T | None:
    """The first row of a query as a dataclass; None if there is none."""
    row = connection.execute(query).first()
    return None if row is None else record(kind, row)


def record(kind: type[T], row: Row[Any]) -> T:
    """A row as a dataclass, from the columns of these names."""
    return kind(**{one.name: getattr(row, one.name) for one in fields(kind)})  # type: ignore[arg-type]


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise DatabaseError(
            "DATABASE_URL is not a URL: use sqlite:///FILE or postgresql://..."
        ) from None
    if "@" in (parsed.host or ""):  # half of the password, which no message may repeat
        raise DatabaseError("DATABASE_URL: write an @ in the user or the password as %40")
    if parsed.drivername.partition("+")[0] in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")  # whichever driver it names
    match parsed.get_backend_name():
        case "postgresql":
            return create_engine(
                parsed,
                pool_size=_POOL_SIZE,
                pool_timeout=_POOL_WAIT_SECONDS,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": _CONNECT_SECONDS,
                    "options": f"-c statement_timeout={_STATEMENT_MS}",
                },
            )
        case "sqlite":
            return _sqlite_engine(str(parsed.database or ""))
        case other:
            raise DatabaseError(
                f"DATABASE_URL names {other}: only SQLite and PostgreSQL are supported"
            )


def _sqlite_engine(file: str) -> Engine:
    if file in {"", ":memory:"}:
        raise DatabaseError("DATABASE_URL: SQLite needs a file, since several processes share it")
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(
            f"sqlite:///{file}: cannot create its folder ({reason(error)}); see DATABASE_URL"
        ) from None
    same_files = _SameFiles(file)
    engine = create_engine(
        f"sqlite:///{file}",
        pool_size=_POOL_SIZE,
        pool_timeout=_POOL_WAIT_SECONDS,
        connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None},
    )

    @event.listens_for(engine, "do_connect")
    def _before_connecting(*_: Any) -> None:
        same_files.check()  # SQLite would create an empty file

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        same_files.remember()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "checkout")
    def _before_use(_: Any, record: Any, __: Any) -> None:
        same_files.check(record.info)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:  # takes no lock, so it cannot fail; half the time of a read without SQLAlchemy's part
            connection.connection.cursor().execute("BEGIN")

    return engine


class _SameFiles:
    """Whether the paths of a database still lead to the files that were opened."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._identity: tuple[int, int] | None = None
        self._lost = ""

    def remember(self) -> None:
        if self._identity is None:
            self._identity = _identity(self._file)

    def check(self, opened: dict[str, Any] | None = None) -> None:
        """Raise DatabaseLost if one leads to another file, or to none, or once did.

        Args:
            opened: what an open connection found beside the database, which stays as long as it is
                open: the last connection that is closed deletes it.
        """
        if self._identity is not None and self._identity != _identity(self._file):
            self._lost = self._file
        if opened is not None:
            for path in (f"{self._file}-wal", f"{self._file}-shm"):
                present = _identity(path)
                if opened.get(path) not in (None, present):
                    self._lost = path
                opened[path] = present
        if self._lost:
            raise DatabaseLost(
                f"sqlite:///{self._lost} was deleted or replaced while it was in use: nothing more"
                " is written. Start again, with that file put back or with the new one"
            )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  twice as fast
    except OSError:
        return None
    return status.st_dev, status.st_ino
