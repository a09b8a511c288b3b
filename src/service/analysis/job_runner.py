"""Runs jobs in the background of a worker process, one at a time."""

import logging
import os
import socket
import threading
import time
import uuid

from sqlalchemy.exc import SQLAlchemyError

from src.monitoring import metrics
from src.service.analysis.batch import Analyst, Cancelled, RangeRequest
from src.service.database import jobs
from src.service.database.engine import Database
from src.service.http.problems import Problem

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 0.5
_STOP_SECONDS = 10.0


class JobRunner:
    """Claims jobs from the database and runs them until told to stop.

    Args:
        database: holds the queue.
        analyst: does the work.
    """

    def __init__(self, database: Database, analyst: Analyst) -> None:
        self._database = database
        self._analyst = analyst
        self._worker = f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now: a job was added."""
        self._wake.set()

    def stop(self) -> None:
        """Stop; a job under way goes back to the queue."""
        self._stop.set()
        self._wake.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                job = self._claim()
                if job is not None:
                    self._work(job)
                    continue
            # The thread must outlive a database that is away for a while, and any fault of ours.
            except Exception as error:
                logger.exception("the job runner failed")
                metrics.error_occurred(error)
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()

    def _claim(self) -> jobs.Job | None:
        with self._database.reading() as connection:  # most looks find nothing: take no lock
            if not jobs.count_active_jobs(connection):
                return None
        with self._database.writing() as connection:
            return jobs.claim_job(connection, self._worker, time.time())

    def _work(self, job: jobs.Job) -> None:
        logger.info("job %s: %s", job.id, job.request)
        reporter = _Reporter(self._database, job.id, self._worker, self._stop)
        status: jobs.Status = "done"
        analysis, problem = None, None
        try:
            analysis = self._analyst.analyse(RangeRequest(**job.request), reporter.report).id
        except Cancelled:
            if self._stop.is_set():
                with self._database.writing() as connection:
                    jobs.release_job(connection, job.id, self._worker)
                return
            status = "cancelled"
        except Problem as known:
            status, problem = "failed", known.document()
        except SQLAlchemyError:
            raise  # nothing can be written now; another worker takes over later
        except Exception as error:
            logger.exception("job %s failed", job.id)
            metrics.error_occurred(error)
            detail = f"Our mistake, see the log for job {job.id}."
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
    """Tells the database how far a job is and that its worker lives, also while it trains."""

    def __init__(self, database: Database, job_id: str, worker: str, stop: threading.Event) -> None:
        self._database = database
        self._job_id = job_id
        self._worker = worker
        self._stop = stop
        self._done = 0
        self._cancelled = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="job-progress", daemon=True)
        self._thread.start()

    def report(self, done: int) -> None:
        self._done = done
        if self._cancelled.is_set() or self._stop.is_set():
            raise Cancelled

    def close(self) -> None:
        self._closed.set()
        self._thread.join(_STOP_SECONDS)

    def _beat(self) -> None:
        while not self._closed.wait(_REPORT_SECONDS):
            try:
                with self._database.writing() as connection:
                    goes_on = jobs.report_progress(
                        connection, self._job_id, self._worker, self._done, time.time()
                    )
            except SQLAlchemyError:
                logger.warning("job %s: progress could not be written", self._job_id)
                continue
            if not goes_on:
                self._cancelled.set()
