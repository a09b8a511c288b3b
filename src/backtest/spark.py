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
import warnings
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from src.backtest.job import Job
from src.cli import CommandError
from src.datasets.store import StoredSlice
from src.settings import PROJECT_ROOT

_SCHEMA = "position long"
_MAX_FAILURES = "8"
_JAVA = "Java 17 or newer on PATH or in JAVA_HOME; Debian: apt-get install default-jre-headless"


def run_on_spark(
    job: Job, slices: Sequence[StoredSlice], _done: object = None, *, master: str | None
) -> None:
    """Process all slices on a cluster, which shows its progress itself.

    Raises:
        CommandError: PySpark or Java is not installed, or the data is unusable.
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
        raise CommandError(
            f"--engine spark needs PySpark: npm run setup:spark (and {_JAVA})"
        ) from error
    # Of parts of PySpark that this job does not use.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    builder = SparkSession.builder.appName("backtest")
    # Retry after the loss of a machine.
    builder = builder.config("spark.task.maxFailures", _MAX_FAILURES)
    builder = builder.config("spark.ui.showConsoleProgress", "true")
    # A task starts no thread of its own and holds one slice: about 600 MB.
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "1")
    builder = builder.config("spark.executorEnv.PYTHONPATH", str(PROJECT_ROOT))
    # Spark only reads this variable; the driver's interpreter has the dependencies.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master is not None:
        builder = builder.master(master)
    try:
        session = builder.getOrCreate()
        try:
            # One partition per slice, so that a lost machine loses one slice per core.
            positions = session.range(0, len(slices), 1, numPartitions=len(slices))
            positions.mapInArrow(_work(job, list(slices)), _SCHEMA).collect()
        finally:
            session.stop()
    except PySparkException as error:
        if "JAVA_GATEWAY_EXITED" in str(error):
            raise CommandError(f"--engine spark needs {_JAVA}") from error
        raise RuntimeError(f"the Spark job failed: {str(error)[:2000]}") from error


def _work(
    job: Job, slices: list[StoredSlice]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Processes a task's batches of slice positions."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for position in batch.column("id").to_pylist():
                job.run(slices[position])
                yield pa.RecordBatch.from_pydict({"position": [position]})

    return work
