"""Regular work that one worker at a time does for all workers.

A claim moves the due time on, so it is a lease as well: whoever claims and dies is followed by
another worker when the work is due next.
"""

from typing import Any

from sqlalchemy import Connection, update

from src.service.database.engine import insert_missing
from src.service.database.tables import chores

Json = dict[str, Any]


def claim_chore(connection: Connection, name: str, now: float, every_seconds: float) -> bool:
    """Take a chore that is due; False when it is not, or another worker has just taken it.

    Args:
        connection: one that writes.
        name: of the chore.
        now: Unix seconds.
        every_seconds: until it is due again. A due time further away, from a longer interval that
            was set before, does not count.
    """
    insert_missing(connection, chores, [{"name": name, "due_at": now}])
    is_due = (chores.c.due_at <= now) | (chores.c.due_at > now + every_seconds)
    claimed = connection.execute(
        update(chores).where(chores.c.name == name, is_due).values(due_at=now + every_seconds)
    )
    return claimed.rowcount == 1


def finish_chore(connection: Connection, name: str, now: float, outcome: Json) -> None:
    """Store what came of a chore."""
    connection.execute(
        update(chores).where(chores.c.name == name).values(finished_at=now, outcome=outcome)
    )
