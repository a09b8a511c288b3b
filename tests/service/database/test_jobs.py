"""The queue of jobs: one worker has each until it is done."""

from src.service.database import (
    jobs,
)
from src.service.database.engine import Database, Page


def add_job(
    database: Database, identity: str = "j1", chain_id: int = 1, *, now: float = 1.0
) -> None:
    with database.writing() as connection:
        jobs.add_job(connection, identity, chain_id, {"start_block": 1}, total=10, now=now)


def claim(database: Database, worker: str, now: float = 2.0, chain_id: int = 1) -> jobs.Job | None:
    with database.writing() as connection:
        return jobs.claim_job(connection, worker, chain_id, now)


def test_a_worker_takes_lists_and_counts_only_jobs_of_its_chain(database: Database) -> None:
    add_job(database, "on base", 8453)
    add_job(database, "on mainnet", 1)
    claimed = claim(database, "one")
    assert claimed is not None
    assert claimed.id == "on mainnet"
    assert claim(database, "one") is None
    with database.reading() as connection:
        listed, total = jobs.list_jobs(connection, 8453, Page(50))
        waiting = [jobs.count_active_jobs(connection, chain_id) for chain_id in (8453, 1, 10)]
    assert ([job.id for job in listed], total) == (["on base"], 1)
    assert waiting == [1, 1, 0]


def test_jobs_wait_and_are_listed_in_the_order_in_which_they_came(database: Database) -> None:
    add_job(database, "first", now=9.0)
    add_job(database, "second", now=3.0)  # the clock was set back
    with database.reading() as connection:
        listed, _ = jobs.list_jobs(connection, 1, Page(50))
        older, total = jobs.list_jobs(connection, 1, Page(50, before=listed[0].number))
    assert [job.id for job in listed] == ["second", "first"]
    assert ([job.id for job in older], total) == (["first"], 2)
    claimed = claim(database, "one")
    assert claimed is not None
    assert claimed.id == "first"


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


def test_a_dead_workers_job_is_taken_over_although_the_clock_is_set_back(
    database: Database,
) -> None:
    add_job(database)
    assert claim(database, "before", 1_000_000.0) is not None
    assert claim(database, "at the same time", 1_000_000.0 - 1.0) is None
    assert claim(database, "after", 1_000.0) is not None


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
