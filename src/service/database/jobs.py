"""The queue of large analyses, shared by all workers.

A worker claims the oldest job and sends heartbeats. If the worker dies, another one claims the job,
for a limited number of attempts, since the job itself may be what kills the workers.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from src.service.database.engine import Page, first_record, newest_first
from src.service.database.tables import jobs

Json = dict[str, Any]
Status = Literal["queued", "running", "done", "failed", "cancelled"]

ACTIVE: Final = ("queued", "running")
DEAD_AFTER_SECONDS: Final = 60.0
MAX_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One large analysis."""

    number: int  # of the row; grows with each job
    id: str  # what clients know it by
    chain_id: int  # of its blocks
    request: Json  # the request, with the resolved range
    status: Status  # queued, running, done, failed or cancelled
    # done, total: blocks.
    done: int
    total: int
    cancel_requested: bool  # a client has cancelled it
    problem: Json | None  # RFC 9457 problem details, if it failed
    analysis: str | None  # id of its result, if it is done
    # created_at, started_at, finished_at: Unix seconds.
    created_at: float
    started_at: float | None
    finished_at: float | None
    attempts: int  # number of workers that have started it

    @property
    def is_active(self) -> bool:
        """Whether it is queued or running."""
        return self.status in ACTIVE


def add_job(
    connection: Connection, identity: str, chain_id: int, request: Json, total: int, now: float
) -> None:
    """Append a job on blocks of that chain to the queue."""
    connection.execute(
        insert(jobs).values(
            id=identity,
            chain_id=chain_id,
            request=request,
            status="queued",
            done=0,
            total=total,
            created_at=now,
            attempts=0,
        )
    )


def count_active_jobs(connection: Connection, chain_id: int) -> int:
    """The number of the chain's queued and running jobs."""
    active = jobs.c.status.in_(ACTIVE), jobs.c.chain_id == chain_id
    query = select(func.count()).select_from(jobs).where(*active)
    return connection.execute(query).scalar_one()


def find_job(connection: Connection, identity: str) -> Job | None:
    """One job."""
    return first_record(connection, Job, select(jobs).where(jobs.c.id == identity))


def list_jobs(connection: Connection, chain_id: int, page: Page) -> tuple[list[Job], int]:
    """A page of the chain's jobs, newest first, and their total number."""
    ours = select(jobs).where(jobs.c.chain_id == chain_id)
    return newest_first(connection, Job, ours, jobs.c.number, page)


def claim_job(connection: Connection, worker: str, chain_id: int, now: float) -> Job | None:
    """Claim the chain's oldest job that is queued or whose worker died; None if there is none."""
    # A sign of life in the future is from before the clock was set back.
    is_recent = jobs.c.alive_at.between(now - DEAD_AFTER_SECONDS, now + DEAD_AFTER_SECONDS)
    dead = and_(jobs.c.status == "running", not_(is_recent))
    row = connection.execute(
        select(jobs)
        .where(or_(jobs.c.status == "queued", dead), jobs.c.chain_id == chain_id)
        .order_by(jobs.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return None
    if row.attempts >= MAX_ATTEMPTS or row.cancel_requested:
        _finish_unclaimed(connection, row, now)
        return None
    connection.execute(
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(
            status="running",
            worker=worker,
            alive_at=now,
            started_at=now,
            done=0,
            attempts=row.attempts + 1,
        )
    )
    return find_job(connection, row.id)


def report_progress(
    connection: Connection, identity: str, worker: str, done: int, now: float
) -> bool:
    """Record a job's progress and its worker's heartbeat.

    Returns:
        Whether to continue: False if it was cancelled or another worker has it.
    """
    ours = _run_by(worker, identity)
    connection.execute(update(jobs).where(ours).values(done=done, alive_at=now))
    return (
        connection.execute(select(jobs.c.cancel_requested).where(ours)).scalar_one_or_none()
        is False
    )


def finish_job(
    connection: Connection,
    identity: str,
    worker: str,
    status: Status,
    now: float,
    *,
    analysis: str | None = None,
    problem: Json | None = None,
) -> None:
    """Finish a job of this worker; does nothing if another worker has it.

    A job that was cancelled in the meantime ends as cancelled, even if its work is done.
    """
    values: Json = {"status": status, "finished_at": now, "analysis": analysis, "problem": problem}
    if status == "done":
        values["done"] = jobs.c.total
    ours = _run_by(worker, identity)
    connection.execute(
        update(jobs)
        .where(ours, jobs.c.cancel_requested.is_(True))
        .values(status="cancelled", finished_at=now)
    )
    connection.execute(update(jobs).where(ours).values(values))


def release_job(connection: Connection, identity: str, worker: str) -> None:
    """Return a job to the queue, because its worker shuts down."""
    connection.execute(
        update(jobs)
        .where(_run_by(worker, identity))
        .values(status="queued", worker=None, attempts=jobs.c.attempts - 1)
    )


def cancel_job(connection: Connection, identity: str, now: float) -> Job | None:
    """Cancel a job; a queued one stops immediately, a finished one stays unchanged."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == identity, jobs.c.status == "queued")
        .values(status="cancelled", finished_at=now)
    )
    connection.execute(
        update(jobs)
        .where(jobs.c.id == identity, jobs.c.status == "running")
        .values(cancel_requested=True)
    )
    return find_job(connection, identity)


def forget_jobs(connection: Connection, chain_id: int, before: float) -> None:
    """Delete the chain's jobs that ended before a time, Unix seconds."""
    connection.execute(
        delete(jobs)
        .where(jobs.c.chain_id == chain_id)
        .where(jobs.c.status.not_in(ACTIVE))
        .where(jobs.c.finished_at < before)
    )


def _run_by(worker: str, identity: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == identity, jobs.c.worker == worker, jobs.c.status == "running")


def _finish_unclaimed(connection: Connection, row: Row[Any], now: float) -> None:
    values: Json = {"status": "cancelled", "finished_at": now}
    if not row.cancel_requested:
        values["status"] = "failed"
        values["problem"] = {
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
            "detail": f"gave up after {row.attempts} workers died while running it",
        }
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(values))
