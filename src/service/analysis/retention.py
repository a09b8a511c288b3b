"""Deletes what the batch analysis has stored and nobody needs any more."""

import time
from typing import Final

from src.service.database.analyses import forget_analyses
from src.service.database.engine import Database
from src.service.database.jobs import forget_jobs
from src.service.database.registry import forget_models
from src.service.database.scheduled_tasks import claim_task
from src.service.database.screenings import KEPT_SECONDS

LOOK_SECONDS: Final = 600.0
"""Interval at which a worker checks whether there may be something to delete."""

_EVERY_SECONDS: Final = 3_600.0


def forget_if_due(database: Database, chain_id: int) -> None:
    """Delete the chain's old jobs, analyses and forests, once an hour in one of the workers.

    They are kept as long as screenings are: jobs from their end, analyses from when they were last
    run, and for as long as a job has them; forests from when a newer one replaced them, and for as
    long as an analysis has them.
    """
    now = time.time()
    with database.writing() as connection:
        if not claim_task(connection, f"retention-{chain_id}", now, _EVERY_SECONDS):
            return
    before = now - KEPT_SECONDS
    with database.writing() as connection:
        forget_jobs(connection, chain_id, before)
    forget_analyses(database, chain_id, before)
    with database.writing() as connection:
        forget_models(connection, chain_id, before)
