"""Migrations, several writers, and databases that cannot be used."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from src.decision.tokens import TokenView
from src.service.database import alerts, cases, chain, decisions, engine, jobs
from src.service.database.engine import (
    MIGRATIONS,
    Database,
    DatabaseError,
    DatabaseLost,
    Page,
    alembic_config,
)
from src.service.database.screenings import (
    NewScreening,
    ScreeningFilter,
    add_screenings,
    list_screenings,
    store_screening,
)
from src.service.database.tables import metadata
from tests.conftest import TX_HASH, USDC
from tests.service.database.rows import (
    BLOCK_HASH,
    NEW_BLOCK_HASH,
    OTHER_HASH,
    alert,
    decision,
    listed,
    store,
    store_alert,
    transaction,
)
from tests.service.databases import KINDS, database_url, migrated_url
from tests.support.waiting import wait_until

WAITING = text(
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
)
ANALYSIS_OF_0017 = (
    "INSERT INTO models VALUES (1, 1.0, 'a', '[]', 0.0, '{}', 'x')",
    "INSERT INTO analyses VALUES ('b', 1, 5, 6, '0x', 1, 1, 1, 1.0)",
    "INSERT INTO analysis_rows VALUES ('b', 0, '0x', '0x', 'T', 1.0, 1.0, 1.0, 1.0, true)",
    "INSERT INTO jobs (id, request, status, done, total, analysis, created_at, attempts, chain_id)"
    " VALUES ('j', '{}', 'done', 1, 1, 'b', 1.0, 1, 1)",
)


def test_migrations_make_the_tables_that_the_code_describes(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_each_migration_follows_the_one_before() -> None:
    files = sorted(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py"))
    assert [name.split("_")[0] for name in files] == [f"{n + 1:04}" for n in range(len(files))]


def test_feedback_is_kept_when_its_column_is_renamed(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        alembic.command.downgrade(alembic_config(connection), "0004")
        connection.execute(
            text("INSERT INTO feedback VALUES (:alert, 'ann', :verdict, 'bot', 3.0)"),
            {"alert": number, "verdict": True},
        )
        assert connection.scalar(text("SELECT is_true_alarm FROM feedback"))
    database.migrate()
    (found,) = listed(database)
    assert found.feedback == (alerts.Feedback("ann", True, "bot", 3.0),)


def test_screenings_are_kept_when_their_table_is_made_anew(database: Database) -> None:
    new = NewScreening(
        uuid="u", chain_id=1, tx_hash=TX_HASH, from_address=None, screened_at=1.5,
        block_number=None, status="unknown", action=1, reasons=["odd"], summary="", problem="why",
    )  # fmt: skip
    with database.writing() as connection:
        store_screening(connection, new)
        add_screenings(connection, [replace(new, uuid="guard's", source="guard")])
        alembic.command.downgrade(alembic_config(connection), "0014")
    database.migrate()
    with database.reading() as connection:
        (found,), _ = list_screenings(connection, ScreeningFilter(), Page(50))
    assert (found.uuid, found.source, found.reasons, found.told) == ("u", "pending", ["odd"], {})


def test_a_token_without_decimals_is_stored(database: Database) -> None:
    token = TokenView(USDC, "Points", "PNTS", None)
    with database.writing() as connection:
        chain.store_tokens(connection, 1, [token])
        assert chain.find_tokens(connection, 1, [USDC]) == {USDC: token}
        alembic.command.downgrade(alembic_config(connection), "0006")
        assert chain.find_tokens(connection, 1, [USDC]) == {}
    database.migrate()


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_earlier_version_stored_is_kept_but_for_analyses(kind: str, tmp_path: Path) -> None:
    opened = Database(database_url(kind, tmp_path))
    with opened.writing() as connection:
        alembic.command.upgrade(alembic_config(connection), "0017")
        for statement in ANALYSIS_OF_0017:
            connection.execute(text(statement))
    store(opened, transaction())
    number = store_alert(opened)
    with opened.writing() as connection:
        decisions.store_decision(connection, decision(), {"density": 1.0})
        cases.set_triage(
            connection, [(1, TX_HASH)], "done", author="ann", note="seen", now=3.0,
            is_true_positive=True,
        )  # fmt: skip
    opened.migrate()
    with opened.reading() as connection:
        (case,) = cases.list_cases(connection, alerts.AlertFilter(), sort="time")
        (change,) = cases.triage_history(connection, 1, TX_HASH)
        assert chain.find_transaction(connection, 1, TX_HASH) == (transaction(), False)
        assert decisions.newest_decision(connection, 1, TX_HASH) == decision()
        assert jobs.list_jobs(connection, 1, Page(50)) == ([], 0)
    assert [one.id for one in case.alerts] == [number]
    assert case.top.feedback == (alerts.Feedback("ann", True, "seen", 3.0),)
    assert case.verdicts == {"ann": True}
    assert case.triage == cases.Triage("done", "ann", "seen", 3.0)
    assert change == cases.TriageChange("done", True, "ann", "seen", 3.0)
    opened.close()


def test_a_database_of_a_later_version_is_refused_and_left_alone(database: Database) -> None:
    store(database, transaction())
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    with pytest.raises(DatabaseError, match="written by a newer version of this program"):
        database.migrate()
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (transaction(), False)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "service.db")) as other:
        other.execute("CREATE TABLE alerts (title TEXT)")
    opened = Database(database_url("sqlite", tmp_path))
    with pytest.raises(DatabaseError, match="table alerts already exists"):
        opened.migrate()
    assert not opened.is_ready()
    opened.close()


def test_a_database_that_is_up_to_date_is_left_as_it_is(database: Database) -> None:
    store(database, transaction())
    database.migrate()
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (transaction(), False)


@pytest.mark.parametrize("kind", KINDS)
def test_several_processes_may_migrate_at_once(kind: str, tmp_path: Path) -> None:
    url = database_url(kind, tmp_path)
    opened = [Database(url) for _ in range(4)]
    threads = [threading.Thread(target=one.migrate) for one in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.is_ready() for one in opened)
    for one in opened:
        one.close()


@pytest.mark.integration
def test_a_migration_may_take_longer_than_a_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_STATEMENT_MS", 50)
    opened = Database(database_url("postgresql", tmp_path))
    with opened.engine.connect() as another:
        another.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": engine._MIGRATION_LOCK})
        migrating = threading.Thread(target=opened.migrate)
        migrating.start()
        wait_until(lambda: another.scalar(WAITING))
        with pytest.raises(OperationalError, match="statement timeout"), opened.reading() as other:
            other.execute(text("SELECT pg_sleep(10)"))
    migrating.join()
    assert opened.is_ready()
    opened.close()


def test_an_unknown_kind_of_database_is_refused_by_name() -> None:
    with pytest.raises(DatabaseError, match="mysql"):
        Database("mysql://u:hunter2@h/db")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=u&password=hunter2",
        "postgresql:///db?host=127.0.0.1&port=1&password=hunter2&sslpassword=hunter2",
        "postgresql://hunter2@127.0.0.1:1/hunter2?passfile=/hunter2",
        "postgresql+asyncpg://u:hunter2@127.0.0.1:1/db",
        "postgresql+psycopg2://u:hunter2@127.0.0.1:1/db",
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_password(url: str) -> None:
    opened = Database(url)
    with pytest.raises(DatabaseError, match=r"on 127\.0\.0\.1 does not answer") as caught:
        opened.migrate()
    assert "hunter2" not in str(caught.value)
    assert not opened.is_ready()


@pytest.mark.integration
@pytest.mark.parametrize("is_replaced", [False, True], ids=["moved", "orphaned"])
def test_writers_of_one_transaction_wait_for_each_other(is_replaced: bool, tmp_path: Path) -> None:
    opened = Database(migrated_url("postgresql", tmp_path))
    store(opened, transaction())
    store_alert(opened)

    def reorganise() -> None:
        with opened.writing() as connection:
            if is_replaced:
                chain.mark_orphaned(connection, 1, [BLOCK_HASH])
            else:
                moved = transaction(block_hash=NEW_BLOCK_HASH)
                chain.store_transactions(connection, 1, [moved], 1.0)

    def is_waiting() -> bool:
        with opened.reading() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    with ThreadPoolExecutor() as pool:
        with opened.writing() as connection:
            chain.store_transactions(connection, 1, [transaction()], 1.0)
            other = pool.submit(reorganise)
            wait_until(is_waiting)
            alerts.store_alerts(connection, [alert()], 1.0)
        other.result()
    with opened.reading() as connection:
        (found,), _ = alerts.list_alerts(connection, alerts.AlertFilter())
    assert found.orphaned
    opened.close()


def test_no_write_is_lost_with_several_writers(database: Database) -> None:
    store(database, transaction())

    def write(author: int) -> None:
        for number in range(20):
            with database.writing() as connection:
                alerts.give_feedback(
                    connection, 1, f"{author}-{number}", is_true_positive=True, note="", now=1.0
                )

    store_alert(database)
    threads = [threading.Thread(target=write, args=(author,)) for author in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found,) = listed(database)
    assert len(found.feedback) == 80


def test_a_reading_transaction_has_one_view(database: Database) -> None:
    store(database, transaction())
    with database.reading() as connection:
        before = chain.find_transaction(connection, 1, TX_HASH)
        store(database, transaction(block_number=101))
        assert chain.find_transaction(connection, 1, TX_HASH) == before
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) != before


def test_tokens_of_several_transactions_do_not_wait_for_each_other(database: Database) -> None:
    tokens = [TokenView(f"0x{number:040x}", "", "", 18) for number in range(50)]
    failures: list[OperationalError] = []

    def write(ordered: list[TokenView]) -> None:
        for number in range(10):
            renamed = [replace(token, name=str(number)) for token in ordered]
            try:
                with database.writing() as connection:
                    chain.store_tokens(connection, 1, renamed)
            except OperationalError as error:
                failures.append(error)

    orders = (tokens, tokens[::-1], tokens[25:] + tokens[:25])
    threads = [threading.Thread(target=write, args=(ordered,)) for ordered in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            chain.store_transactions(connection, 1, [transaction()], now=1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) is None


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_is_deleted_or_replaced_in_use_is_noticed(
    tmp_path: Path, is_replaced: bool
) -> None:
    opened = Database(database_url("sqlite", tmp_path))
    opened.migrate()
    store(opened, transaction())
    file = Path(str(opened.engine.url.database))
    other = file.with_name("other")
    file.rename(other)
    if is_replaced:
        file.write_bytes(other.read_bytes())
    with pytest.raises(DatabaseLost, match="was deleted or replaced"):
        store(opened, transaction())
    with pytest.raises(DatabaseLost), opened.reading() as connection:
        connection.execute(text("SELECT 1"))
    assert not opened.is_ready()
    assert file.exists() == is_replaced  # no empty file was created
    opened.close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_beside_the_database_that_is_deleted_or_replaced_is_noticed(
    tmp_path: Path, suffix: str, is_replaced: bool
) -> None:
    opened = Database(database_url("sqlite", tmp_path))
    opened.migrate()
    store(opened, transaction())
    beside = Path(f"{opened.engine.url.database}{suffix}")
    other = beside.with_name("other")
    beside.rename(other)
    if is_replaced:
        beside.write_bytes(other.read_bytes())
    with pytest.raises(DatabaseLost, match=f"{suffix} was deleted or replaced"):
        store(opened, transaction())
    assert not opened.is_ready()
    opened.close()


def test_a_deleted_log_is_noticed_by_those_who_have_written_nothing(tmp_path: Path) -> None:
    opened = Database(database_url("sqlite", tmp_path))
    opened.migrate()
    opened.engine.dispose()
    assert opened.is_ready()
    Path(f"{opened.engine.url.database}-wal").unlink()
    with pytest.raises(DatabaseLost, match="-wal was deleted or replaced"):
        opened.ask()
    opened.close()


def test_a_log_that_sqlite_has_emptied_is_no_loss(tmp_path: Path) -> None:
    opened = Database(database_url("sqlite", tmp_path))
    opened.migrate()
    store(opened, transaction())
    file = str(opened.engine.url.database)
    with closing(sqlite3.connect(file)) as backup:
        assert backup.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert Path(f"{file}-wal").stat().st_size == 0
    assert opened.is_ready()
    store(opened, transaction(tx_hash=OTHER_HASH))
    with opened.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) is not None
        assert chain.find_transaction(connection, 1, OTHER_HASH) is not None
    opened.close()


def test_the_files_beside_the_database_come_and_go_with_the_connections(tmp_path: Path) -> None:
    url = database_url("sqlite", tmp_path)
    opened, other = Database(url), Database(url)
    opened.migrate()
    assert other.is_ready()
    for _ in range(3):
        opened.engine.dispose()
        other.engine.dispose()
        assert not Path(f"{opened.engine.url.database}-wal").exists()
        store(opened, transaction())
        store(other, transaction())
    opened.close()
    assert other.is_ready()
    other.close()
