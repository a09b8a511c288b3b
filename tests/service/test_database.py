"""The database layer, the same on SQLite and PostgreSQL."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from src.chain.transfers import Transfer
from src.decision.tokens import TokenView
from src.service.database import (
    alerts,
    analyses,
    chain,
    decisions,
    jobs,
    registry,
    statistics,
    watching,
)
from src.service.database.engine import Database, DatabaseError, alembic_config
from src.service.database.tables import metadata
from src.service.records import LoadedTransaction
from tests.conftest import ALICE, BOB, TIMESTAMP, TX_HASH, USDC
from tests.service.databases import KINDS, database_url

OTHER_HASH = "0x" + "cd" * 32
BLOCK_HASH, NEW_BLOCK_HASH = "0x" + "b1" * 32, "0x" + "b2" * 32
LARGEST = 2**256 - 1


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    opened = Database(database_url(request.param, tmp_path))
    opened.migrate()
    yield opened
    opened.close()


def transaction(**changes: object) -> LoadedTransaction:
    usual = LoadedTransaction(
        tx_hash=TX_HASH,
        block_number=100,
        block_hash=BLOCK_HASH,
        block_timestamp=TIMESTAMP,
        tx_index=0,
        sender=ALICE,
        to=USDC,
        nonce=7,
        gas_used=50_000,
        gas_price=10**9,
        transfers=(Transfer(USDC, ALICE, BOB, LARGEST, 3),),
    )
    return replace(usual, **changes)


def decision(**changes: object) -> decisions.StoredDecision:
    usual = decisions.StoredDecision(
        chain_id=1,
        tx_hash=TX_HASH,
        decider="d1",
        model_version="1650000000",
        action=2,
        reasons=[{"detector": "forest", "action": "BLOCK", "reason": "high", "status": "decided"}],
        shadow=[],
        score=0.75,
        percentile=99.9,
        threshold=0.5,
        prediction="ANOMALY",
        explanation=[],
        attack_score=0.9997,
        attack_model_version="1660000000",
        attack_explanation=[{"feature": "density", "value": 2.0, "weight": 0.5}],
        invalid_reason=None,
        decided_at=5.5,
    )
    return replace(usual, **changes)


def alert(**changes: object) -> alerts.NewAlert:
    usual = alerts.NewAlert(
        chain_id=1,
        tx_hash=TX_HASH,
        alert_id="ANOMALOUS-TOKEN-TRANSFERS-TX",
        name="Anomalous Transaction",
        description="",
        reason="",
        severity="Critical",
        action=2,
        score=0.75,
        attack_score=0.9997,
        model_version="1650000000",
        from_address=ALICE,
        block_number=100,
        block_timestamp=TIMESTAMP,
    )
    return replace(usual, **changes)


def store(database: Database, *loaded: LoadedTransaction) -> None:
    with database.writing() as connection:
        chain.store_transactions(connection, 1, loaded, now=1.0)


def store_alert(database: Database, **changes: object) -> int:
    with database.writing() as connection:
        return alerts.store_alerts(connection, [alert(**changes)], now=2.0)[0]


def listed(database: Database, **wanted: object) -> list[alerts.Alert]:
    with database.reading() as connection:
        return alerts.list_alerts(connection, alerts.AlertFilter(**wanted))[0]


def test_migrations_make_the_tables_that_the_code_describes(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_feedback_is_kept_when_its_column_is_renamed(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        alembic.command.downgrade(alembic_config(connection), "0003")
        connection.execute(
            text("INSERT INTO feedback VALUES (:alert, 'ann', :verdict, 'bot', 3.0)"),
            {"alert": number, "verdict": True},
        )
        assert connection.scalar(text("SELECT is_true_alarm FROM feedback"))
    database.migrate()
    (found,) = listed(database)
    assert found.feedback == (alerts.Feedback("ann", True, "bot", 3.0),)


def test_several_processes_may_migrate_at_once(tmp_path: Path) -> None:
    opened = [Database(database_url("sqlite", tmp_path)) for _ in range(4)]
    threads = [threading.Thread(target=one.migrate) for one in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.is_ready() for one in opened)
    for one in opened:
        one.close()


def test_an_unknown_kind_of_database_is_refused_by_name() -> None:
    with pytest.raises(DatabaseError, match="mysql"):
        Database("mysql://u:hunter2@h/db")


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    opened = Database("postgresql://u:hunter2@127.0.0.1:1/db")
    with pytest.raises(DatabaseError, match="does not answer") as caught:
        opened.migrate()
    assert "hunter2" not in str(caught.value)
    assert not opened.is_ready()


def test_a_transaction_stored_twice_stands_once_with_exact_amounts(database: Database) -> None:
    store(database, transaction())
    store(database, transaction())
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (transaction(), False)


def test_a_reorganised_transaction_moves_with_its_alerts_and_transfers(database: Database) -> None:
    store(database, transaction())
    store_alert(database)
    with database.writing() as connection:
        assert chain.mark_orphaned(connection, 1, [BLOCK_HASH]) == 1
    assert [one.orphaned for one in listed(database)] == [True]
    moved = transaction(
        block_hash=NEW_BLOCK_HASH, block_number=101, transfers=(Transfer(USDC, ALICE, BOB, 5, 9),)
    )
    store(database, moved)
    store_alert(database, block_number=101)  # decided anew
    assert [(one.orphaned, one.block_number) for one in listed(database)] == [(False, 101)]
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (moved, False)


def test_an_orphaned_transaction_has_no_decision(database: Database) -> None:
    store(database, transaction())
    with database.writing() as connection:
        decisions.store_decision(connection, decision(), {"density": 1.0, "age": None})
        decisions.store_decision(connection, decision(), {"density": 1.0, "age": None})
    with database.reading() as connection:
        assert decisions.find_decision(connection, 1, TX_HASH, "d1") == decision()
        assert decisions.find_decision(connection, 1, TX_HASH, "d2") is None
        found = decisions.find_features(connection, 1, TX_HASH, "1650000000")
        assert found == {"density": 1.0, "age": None}
    with database.writing() as connection:
        chain.mark_orphaned(connection, 1, [BLOCK_HASH])
        assert decisions.find_decision(connection, 1, TX_HASH, "d1") is None


def test_an_alert_stored_twice_keeps_its_id_and_feedback(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        for verdict in (True, False):
            alerts.give_feedback(
                connection, number, "ann", is_true_positive=verdict, note="bot", now=3.0
            )
    assert store_alert(database) == number
    (found,) = listed(database)
    assert found.feedback == (alerts.Feedback("ann", False, "bot", 3.0),)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"a", "b"}),
        ({"since": TIMESTAMP + 1}, {"b"}),
        ({"until": TIMESTAMP}, {"a"}),
        ({"action": 2}, {"a"}),
        ({"severity": "Low"}, {"b"}),
        ({"token": USDC}, {"a"}),
        ({"sender": BOB}, {"b"}),
        ({"alert_id": "LOW"}, {"b"}),
        ({"tx_hash": TX_HASH}, {"a"}),
        ({"with_feedback": True}, {"a"}),
        ({"with_feedback": False}, {"b"}),
        ({"orphaned": True}, set()),
    ],
)
def test_alerts_are_filtered(
    database: Database, wanted: dict[str, object], expected: set[str]
) -> None:
    later = transaction(tx_hash=OTHER_HASH, transfers=())
    store(database, transaction(), later)
    first = store_alert(database)
    store_alert(
        database,
        tx_hash=OTHER_HASH,
        alert_id="LOW",
        severity="Low",
        action=1,
        from_address=BOB,
        block_timestamp=TIMESTAMP + 9,
    )
    with database.writing() as connection:
        alerts.give_feedback(connection, first, "ann", is_true_positive=True, note="", now=3.0)
    names = {TX_HASH: "a", OTHER_HASH: "b"}
    assert {names[one.tx_hash] for one in listed(database, **wanted)} == expected


@pytest.mark.parametrize("sort", ["time", "score", "severity", "action"])
def test_alerts_are_sorted_both_ways_and_paged(database: Database, sort: alerts.SortKey) -> None:
    store(database, transaction(), transaction(tx_hash=OTHER_HASH))
    low = store_alert(
        database, alert_id="LOW", severity="Low", score=None, action=1, block_timestamp=1
    )
    high = store_alert(database, tx_hash=OTHER_HASH)
    with database.reading() as connection:
        for descending, order in ((True, [high, low]), (False, [low, high])):
            pages = [
                alerts.list_alerts(
                    connection,
                    alerts.AlertFilter(),
                    sort=sort,
                    descending=descending,
                    limit=1,
                    offset=offset,
                )
                for offset in (0, 1, 2)
            ]
            ids = [one.id for page, _ in pages for one in page]
            expected = [high, low] if sort == "score" else order
            assert ids == expected  # no score comes last either way
            assert {total for _, total in pages} == {2}


def test_the_overview_counts_what_is_in_the_chain(database: Database) -> None:
    store(database, transaction(), transaction(tx_hash=OTHER_HASH, block_hash=NEW_BLOCK_HASH))
    store_alert(database)
    store_alert(database, tx_hash=OTHER_HASH)
    with database.writing() as connection:
        chain.store_tokens(connection, 1, [TokenView(USDC, "USD Coin", "USDC", 6)])
        decisions.store_decision(connection, decision(score=1.0), {})
        decisions.store_decision(connection, decision(tx_hash=OTHER_HASH), {})
        chain.mark_orphaned(connection, 1, [NEW_BLOCK_HASH])
        found = statistics.overview(
            connection, 1, "d1", since=TIMESTAMP, until=TIMESTAMP, bucket_seconds=3600
        )
        assert statistics.block_times(connection, 1) == (TIMESTAMP, TIMESTAMP)
    assert (found.transactions, found.anomalies, found.invalid) == (1, 1, 0)
    assert found.anomaly_rate == 1.0
    assert found.alerts_over_time == [(TIMESTAMP - TIMESTAMP % 3600, "Critical", 1)]
    assert found.score_histogram == [0] * 49 + [1]
    assert found.actions == {2: 1}
    assert found.top_tokens == [statistics.Count(USDC, "USDC", 1)]
    assert found.top_senders == [statistics.Count(ALICE, ALICE, 1)]


def test_two_trainings_at_the_same_moment_are_two_models(database: Database) -> None:
    with database.writing() as connection:
        ids = [
            registry.register_model(
                connection,
                content=content,
                sha256=content.hex(),
                inputs=["value"],
                offset=-0.5,
                training={},
                now=7.0,
            )
            for content in (b"a", b"b")
        ]
        latest = registry.latest_model(connection)
        listed_models, total = registry.list_models(connection)
    assert latest is not None
    assert latest[1] == b"b"
    assert [one.id for one in listed_models] == ids[::-1]
    assert total == 2


def test_an_analysis_stored_twice_stands_once(database: Database) -> None:
    with database.writing() as connection:
        model = registry.register_model(
            connection, content=b"", sha256="", inputs=[], offset=0.0, training={}, now=1.0
        )
        analysis = analyses.Analysis("f" * 64, 1, 5, 6, BLOCK_HASH, model, 2, 1, 1.0)
        rows = [
            analyses.AnalysisRow(0, USDC, TX_HASH, "USDC", 1.5, 0.01, 0.7, 0.7, True),
            analyses.AnalysisRow(1, USDC, OTHER_HASH, "USDC", 1.0, 0.01, 0.4, 0.4, False),
        ]
        for _ in range(2):
            analyses.store_analysis(connection, analysis, rows)
        found = analyses.analysis_rows_of(connection, analysis.id, anomalies_only=False)
        page = analyses.analysis_rows_of(
            connection, analysis.id, anomalies_only=False, limit=1, offset=1
        )
        marked = analyses.analysis_rows_of(connection, analysis.id, anomalies_only=True)
        assert analyses.latest_analyses(connection, 10) == [analysis]
    assert (found, page, marked) == (rows, rows[1:], rows[:1])


def add_job(database: Database, identity: str = "j1") -> None:
    with database.writing() as connection:
        jobs.add_job(connection, identity, {"start_block": 1}, total=10, now=1.0)


def claim(database: Database, worker: str, now: float = 2.0) -> jobs.Job | None:
    with database.writing() as connection:
        return jobs.claim_job(connection, worker, now)


def test_one_worker_has_a_job_until_it_is_done(database: Database) -> None:
    add_job(database)
    claimed = claim(database, "one")
    assert claimed is not None
    assert claim(database, "two") is None
    with database.writing() as connection:
        assert jobs.report_progress(connection, "j1", "one", 5, 3.0)
        jobs.finish_job(connection, "j1", "two", "failed", 4.0)  # not its job
        jobs.finish_job(connection, "j1", "one", "done", 4.0)
        found = jobs.find_job(connection, "j1")
    assert found is not None
    assert (found.status, found.done, found.finished_at) == ("done", 10, 4.0)


def test_a_dead_workers_job_is_taken_over_and_given_up_in_the_end(database: Database) -> None:
    add_job(database)
    now = 0.0
    for attempt in range(jobs.MAX_ATTEMPTS):
        claimed = claim(database, f"worker {attempt}", now)
        assert claimed is not None
        now += jobs.DEAD_AFTER_SECONDS + 1
    assert claim(database, "last", now) is None
    with database.writing() as connection:
        assert not jobs.report_progress(connection, "j1", "worker 0", 5, now)
        found = jobs.find_job(connection, "j1")
    assert found is not None
    assert found.status == "failed"


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_told(database: Database) -> None:
    add_job(database, "running")
    claim(database, "one")
    add_job(database, "waiting")
    with database.writing() as connection:
        waiting = jobs.cancel_job(connection, "waiting", 3.0)
        running = jobs.cancel_job(connection, "running", 3.0)
        goes_on = jobs.report_progress(connection, "running", "one", 5, 3.0)
    assert waiting is not None
    assert running is not None
    assert (waiting.status, running.status, goes_on) == ("cancelled", "running", False)


def test_a_released_job_waits_again(database: Database) -> None:
    add_job(database)
    claim(database, "one")
    with database.writing() as connection:
        jobs.release_job(connection, "j1", "one")
    again = claim(database, "two")
    assert again is not None
    assert again.attempts == 1


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


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            chain.store_transactions(connection, 1, [transaction()], now=1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) is None


def test_watched_blocks_and_notifications_are_kept(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        for height in (1, 2, 3):
            block = watching.WatchedBlock(height, f"0x{height}", f"0x{height - 1}")
            watching.add_watched(connection, 1, block, keep=2)
        watching.forget_watched(connection, 1, block)
        last = watching.last_watched(connection, 1)
        for _ in range(2):
            watching.queue_notifications(connection, [number], "c", now=1.0)
        (due,) = watching.due_notifications(connection, "c", 1.0, max_attempts=2)
        watching.note_attempt(connection, due, sent_at=None, failure="HTTP 500", next_at=5.0)
        assert watching.due_notifications(connection, "c", 4.0, max_attempts=2) == []
        (due,) = watching.due_notifications(connection, "c", 5.0, max_attempts=2)
        watching.note_attempt(connection, due, sent_at=6.0, failure=None, next_at=6.0)
        assert watching.due_notifications(connection, "c", math.inf, max_attempts=9) == []
    assert last == watching.WatchedBlock(2, "0x2", "0x1")
