"""Runs jobs in the background of a worker process, one at a time."""

import logging
import os
import socket
import threading
import time
import uuid

from sqlalchemy.exc import SQLAlchemyError

from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.service.analysis.batch import Analyst, Cancelled, RangeRequest
from src.service.database import jobs
from src.service.database.engine import Database
from src.service.http.problems import Problem

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 0.5


class JobRunner:
    """Claims jobs from the database and runs them until stopped.

    Args:
        database: holds the queue.
        analyst: runs the analyses.
        chain_id: of the jobs to run.
    """

    def __init__(self, database: Database, analyst: Analyst, chain_id: int) -> None:
        self._database = database
        self._analyst = analyst
        self._chain_id = chain_id
        self._worker = f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._running = Periodic("jobs", _POLL_SECONDS, self._work_off)

    def start(self) -> None:
        """Start the background thread."""
        self._running.start()

    def wake(self) -> None:
        """Check the queue now, because a job was added."""
        self._running.wake()

    def stop(self) -> None:
        """Stop; a running job returns to the queue."""
        self._running.stop()

    def _work_off(self) -> None:
        while not self._running.stopping.is_set() and (job := self._claim()) is not None:
            self._work(job)

    def _claim(self) -> jobs.Job | None:
        with self._database.reading() as connection:  # mostly the queue is empty: take no lock
            if not jobs.count_active_jobs(connection, self._chain_id):
                return None
        with self._database.writing() as connection:
            return jobs.claim_job(connection, self._worker, self._chain_id, time.time())

    def _work(self, job: jobs.Job) -> None:
        logger.info("job %s: %s", job.id, job.request)
        reporter = _Reporter(self._database, job.id, self._worker, self._running.stopping)
        status: jobs.Status = "done"
        analysis, problem = None, None
        try:
            analysis = self._analyst.analyse(RangeRequest(**job.request), reporter.report).id
        except Cancelled:
            if self._running.stopping.is_set():
                with self._database.writing() as connection:
                    jobs.release_job(connection, job.id, self._worker)
                return
            status = "cancelled"
        except Problem as known:
            status, problem = "failed", known.document()
        except SQLAlchemyError:
            raise  # the database is unavailable; another worker takes over later
        except Exception as error:
            logger.exception("job %s failed", job.id)
            metrics.error_occurred(error)
            detail = f"Internal error. Quote job {job.id} when you report it."
            status, problem = "failed", Problem(500, detail).document()
        finally:
            reporter.close()
        with self._database.writing() as connection:
            jobs.finish_job(
                connection,
                job.id,
                self._worker,
                status,
                time.time(),
                analysis=analysis,
                problem=problem,
            )


class _Reporter:
    """Writes a job's progress and its worker's heartbeat, also during training."""

    def __init__(self, database: Database, job_id: str, worker: str, stop: threading.Event) -> None:
        self._database = database
        self._job_id = job_id
        self._worker = worker
        self._stop = stop
        self._done = 0
        self._cancelled = threading.Event()
        self._beating = Periodic("job-progress", _REPORT_SECONDS, self._beat).start()

    def report(self, done: int) -> None:
        self._done = done
        if self._cancelled.is_set() or self._stop.is_set():
            raise Cancelled

    def close(self) -> None:
        self._beating.stop()

    def _beat(self) -> None:
        try:
            with self._database.writing() as connection:
                goes_on = jobs.report_progress(
                    connection, self._job_id, self._worker, self._done, time.time()
                )
        except SQLAlchemyError:
            logger.warning("job %s: progress could not be written", self._job_id)
            return
        if not goes_on:
            self._cancelled.set()
