"""What the batch analysis has stored is kept for 30 days, and for as long as it is needed."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from src.service.analysis.retention import forget_if_due
from src.service.app import create_app
from src.service.database import analyses, jobs, registry
from src.service.database.analyses import Analysis, AnalysisRow
from src.service.database.engine import Database
from src.service.database.screenings import KEPT_SECONDS
from src.service.database.tables import analyses as analyses_table
from src.service.database.tables import analysis_rows, forests, models, scheduled_tasks
from src.service.database.tables import jobs as jobs_table
from tests.conftest import TX_HASH, USDC
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url
from tests.support.waiting import wait_until

ROW = AnalysisRow(0, USDC, TX_HASH, "USDC", 1.5, 0.01, 0.7, 0.7, True)
OLD = KEPT_SECONDS + 60.0
RECENT = KEPT_SECONDS - 60.0


def add_model(database: Database, name: str, age: float, chain_id: int = 1) -> int:
    with database.writing() as connection:
        return registry.register_model(
            connection, content=name.encode(), sha256=name, inputs=["value"], offset=-0.5,
            training={"chain_id": chain_id}, now=time.time() - age,
        )  # fmt: skip


def add_analysis(
    database: Database, identity: str, model: int, age: float, chain_id: int = 1
) -> Analysis:
    at = time.time() - age
    analysis = Analysis(identity, chain_id, 5, 6, "0x" + "b1" * 32, model, 1, 1, at)
    analyses.store_analysis(database, analysis, [ROW])
    return analysis


def add_job(
    database: Database,
    identity: str,
    status: jobs.Status,
    age: float,
    *,
    chain_id: int = 1,
    analysis: str | None = None,
) -> None:
    at = time.time() - age
    with database.writing() as connection:
        jobs.add_job(connection, identity, chain_id, {}, total=1, now=at)
        ended = {"finished_at": None if status in jobs.ACTIVE else at, "analysis": analysis}
        job = update(jobs_table).where(jobs_table.c.id == identity)
        connection.execute(job.values(status=status, **ended))


def forget(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(update(scheduled_tasks).values(due_at=0.0))
    forget_if_due(database, 1)


def stored(database: Database, column: object) -> set[object]:
    with database.reading() as connection:
        return set(connection.scalars(select(column)))


def test_old_jobs_are_deleted_but_none_that_waits_or_runs(database: Database) -> None:
    statuses: tuple[jobs.Status, ...] = ("queued", "running", "done", "failed", "cancelled")
    for status in statuses:
        add_job(database, f"old {status}", status, OLD)
        add_job(database, f"recent {status}", status, RECENT)
    add_job(database, "elsewhere", "done", OLD, chain_id=10)
    forget(database)
    kept = stored(database, jobs_table.c.id)
    recent = {f"recent {status}" for status in statuses}
    assert kept == recent | {"old queued", "old running", "elsewhere"}


def test_old_analyses_are_deleted_with_their_rows_but_none_that_a_job_has(
    database: Database,
) -> None:
    model = add_model(database, "a", OLD)
    for name in ("old", "of job", "of old job"):
        add_analysis(database, name, model, OLD)
    add_analysis(database, "recent", model, RECENT)
    add_analysis(database, "elsewhere", model, OLD, chain_id=10)
    again = add_analysis(database, "again", model, OLD)
    analyses.store_analysis(database, replace(again, analysed_at=time.time()), [ROW])
    add_job(database, "kept", "done", RECENT, analysis="of job")
    add_job(database, "gone", "done", OLD, analysis="of old job")
    forget(database)
    kept = {"of job", "recent", "elsewhere", "again"}
    assert stored(database, analyses_table.c.id) == kept
    assert stored(database, analysis_rows.c.analysis) == kept


def test_a_forest_is_deleted_long_after_a_newer_one_replaced_it_unless_an_analysis_has_it(
    database: Database,
) -> None:
    shown = add_model(database, "shown", 9 * OLD)
    add_analysis(database, "kept", shown, RECENT)
    add_model(database, "same", 4 * OLD)
    replaced_lately = add_model(database, "same", 3 * OLD)
    latest = add_model(database, "latest", RECENT)
    elsewhere = add_model(database, "elsewhere", OLD, chain_id=10)
    forget(database)
    assert stored(database, models.c.id) == {shown, replaced_lately, latest, elsewhere}
    assert stored(database, forests.c.sha256) == {"shown", "same", "latest", "elsewhere"}
    with database.writing() as connection:
        connection.execute(update(models).where(models.c.id == latest).values(created_at=1.0))
    forget(database)
    assert stored(database, models.c.id) == {shown, latest, elsewhere}
    assert stored(database, forests.c.sha256) == {"shown", "latest", "elsewhere"}


def test_it_is_done_once_an_hour_by_all_workers_together(database: Database) -> None:
    forget_if_due(database, 1)
    add_job(database, "old", "done", OLD)
    forget_if_due(database, 1)
    assert stored(database, jobs_table.c.id) == {"old"}
    forget(database)
    assert stored(database, jobs_table.c.id) == set()


def test_an_analysis_that_is_run_again_is_whole_while_old_ones_are_deleted(
    database: Database,
) -> None:
    rows = [replace(ROW, rank=rank) for rank in range(600)]
    first = add_analysis(database, "a", add_model(database, "a", OLD), OLD)
    stop = threading.Event()

    def clean() -> None:
        while not stop.is_set():
            analyses.forget_analyses(database, 1, time.time() - KEPT_SECONDS)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for _ in range(20):
            now = replace(first, analysed_at=time.time())
            analyses.store_analysis(database, now, rows)
            with database.reading() as connection:
                found = analyses.analysis_rows_of(connection, "a", anomalies_only=False)
            assert found in (rows, [ROW])
            with database.writing() as connection:
                connection.execute(update(analyses_table).values(analysed_at=1.0))
    finally:
        stop.set()
        cleaner.join()


@pytest.mark.integration
def test_the_service_deletes_what_is_old(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    database.migrate()
    add_analysis(database, "a", add_model(database, "a", OLD), OLD)
    app = create_app(service_settings(sqlite_url(tmp_path)), common_settings())
    with TestClient(app, base_url=BASE_URL) as client:
        wait_until(lambda: not stored(database, analyses_table.c.id))
        assert "kept for 30 days" in client.get("/ui/analyses/a").text
        assert "use the latest model" in client.get("/ui/ranges").text
    database.close()
