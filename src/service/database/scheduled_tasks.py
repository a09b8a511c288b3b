"""Periodic tasks that one worker at a time runs for all workers.

A claim moves the due time forward and so acts as a lease: if the worker dies, another one runs the
task when it is due next.
"""

from typing import Any

from sqlalchemy import Connection, select, update

from src.service.database.engine import insert_missing
from src.service.database.tables import scheduled_tasks

Json = dict[str, Any]


def claim_task(connection: Connection, name: str, now: float, every_seconds: float) -> bool:
    """Claim a task that is due; False if it is not, or another worker has just claimed it.

    Args:
        connection: of a write transaction.
        name: of the task.
        now: Unix seconds.
        every_seconds: until it is due again. A later due time, from a longer interval that was
            configured before, is ignored.
    """
    insert_missing(connection, scheduled_tasks, [{"name": name, "due_at": now}])
    is_due = (scheduled_tasks.c.due_at <= now) | (scheduled_tasks.c.due_at > now + every_seconds)
    claimed = connection.execute(
        update(scheduled_tasks)
        .where(scheduled_tasks.c.name == name, is_due)
        .values(due_at=now + every_seconds)
    )
    return claimed.rowcount == 1


def last_outcome(connection: Connection, name: str) -> tuple[float | None, Json | None]:
    """When a task was finished last, Unix seconds, and its result; None if it never was."""
    row = connection.execute(
        select(scheduled_tasks.c.finished_at, scheduled_tasks.c.outcome).where(
            scheduled_tasks.c.name == name
        )
    ).first()
    return (None, None) if row is None else (row.finished_at, row.outcome)


def finish_task(connection: Connection, name: str, now: float, outcome: Json) -> None:
    """Store the result of a task."""
    connection.execute(
        update(scheduled_tasks)
        .where(scheduled_tasks.c.name == name)
        .values(finished_at=now, outcome=outcome)
    )
