"""Runs slices on Apache Spark: `--engine spark`.

Spark schedules the slices and reschedules them when an executor is lost. Each task gets slices as
Arrow batches (`mapInArrow`), reads their files of the store, and writes their part files and
journal entries with the code of the local engine, so the output is the same, and a slice that runs
twice is written twice with the same content. There is no shuffle.

The data, the model and the output folder must have the same paths on all machines (NFS, a mounted
bucket), and the project with its dependencies must be installed on all of them.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from src.backtest.errors import BacktestError
from src.backtest.executors.job import Job, Slice
from src.backtest.output.output import Output
from src.settings import PROJECT_ROOT

_POLL_SECONDS = 0.5
_SCHEMA = "position long, transfers long"
_MAX_FAILURES = "8"
_JAVA = "Java 17 or newer on PATH or in JAVA_HOME; Debian: apt-get install default-jre-headless"

Done = Callable[[dict[str, Any]], None]


def run_on_spark(job: Job, slices: Sequence[Slice], master: str | None, done: Done) -> None:
    """Process all slices on a cluster; calls `done` with each journal entry.

    Raises:
        BacktestError: PySpark or Java is not installed, or the data is unusable.
        RuntimeError: the Spark job failed.
    """
    try:
        # Installed on demand: hundreds of megabytes that only this engine needs.
        from pyspark.errors import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
            PySparkException,
        )
        from pyspark.sql import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
            SparkSession,
        )
    except ImportError as error:
        raise BacktestError(
            f"--engine spark needs PySpark: npm run setup:spark (and {_JAVA})"
        ) from error
    # Of parts of PySpark that this job does not use.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    builder = SparkSession.builder.appName("backtest")
    # Retry after the loss of a machine; corrupt data fails immediately, see `_work`.
    builder = builder.config("spark.task.maxFailures", _MAX_FAILURES)
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    # A task starts no thread of its own and holds one slice: about 600 MB.
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "1")
    builder = builder.config("spark.executorEnv.PYTHONPATH", str(PROJECT_ROOT))
    # Spark only reads this variable; the driver's interpreter has the dependencies.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master is not None:
        builder = builder.master(master)
    watch = _Watch(Output(job.out), {part.name for part in slices}, done)
    try:
        session = builder.getOrCreate()
        try:
            with watch:
                # One partition per slice, so that a lost machine loses one slice per core.
                positions = session.range(0, len(slices), 1, numPartitions=len(slices))
                positions.mapInArrow(_work(job, list(slices)), _SCHEMA).collect()
        finally:
            session.stop()
    except PySparkException as error:
        if "JAVA_GATEWAY_EXITED" in str(error):
            raise BacktestError(f"--engine spark needs {_JAVA}") from error
        raise RuntimeError(f"the Spark job failed: {str(error)[:2000]}") from error


def _work(
    job: Job, slices: list[Slice]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Processes a task's batches of slice positions."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for position in batch.column("id").to_pylist():
                part = slices[position]
                entry = job.run(part)
                yield pa.RecordBatch.from_pydict(
                    {"position": [position], "transfers": [entry["transfers"]]}
                )

    return work


class _Watch:
    """Reports slices as their journal entries appear."""

    def __init__(self, output: Output, names: set[str], done: Done) -> None:
        self._output = output
        self._names = names
        self._done = done
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="journal", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _look_on(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        for name in self._output.done().intersection(self._names):
            self._names.discard(name)
            self._done(self._output.entry(name))
