"""Apache Spark as the engine of an import: `--engine spark`.

Spark reads the files (with its own readers, so also from HDFS or s3a), joins them by the same SQL
as DuckDB, and brings the transfers of each slice together in one task, which writes its file of the
store with the code of the local import. So the store is the same byte for byte.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from src.cli import CommandError
from src.datasets.store import StoredSlice
from src.datasets.tables import TableError
from src.history.canonical import Damaged, write_rows
from src.settings import PROJECT_ROOT

PROJECT_ARCHIVE: Final = "project.tar.gz"
DEPENDENCIES_ARCHIVE: Final = "dependencies.tar.gz"

_WRITTEN = "position int, transfers long, orphans long, problem string"
_DAMAGED = "damaged"
_JAVA = "Java 17 or newer on PATH or in JAVA_HOME; Debian: apt-get install default-jre-headless"
_OPTIONS = {
    "spark.task.maxFailures": "8",  # retry after the loss of a machine
    "spark.ui.showConsoleProgress": "true",
    # As DuckDB understands our SQL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.session.timeZone": "UTC",
}


@contextmanager
def spark_session(name: str, master: str | None, archives: Path | None) -> Iterator[Any]:
    """A session that ends with the context.

    Args:
        name: of the application.
        master: Spark's master; None for that of its configuration.
        archives: the folder that `npm run package:spark` wrote, whose code the workers run; None
            where they have this project at the same path.

    Raises:
        CommandError: PySpark, Java or an archive is missing.
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
    # Of parts of PySpark that are not used.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    builder = SparkSession.builder.appName(name)
    for option, value in {**_OPTIONS, **_code(archives)}.items():
        builder = builder.config(option, value)
    if master is not None:
        builder = builder.master(master)
    try:
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            session.stop()
    except PySparkException as error:
        if "JAVA_GATEWAY_EXITED" in str(error):
            raise CommandError(f"--engine spark needs {_JAVA}") from error
        raise RuntimeError(f"the Spark job failed: {str(error)[:2000]}") from error


def show(session: Any, name: str, paths: Sequence[str]) -> None:
    """Make parquet files a view of this name."""
    session.read.parquet(*map(_url, paths)).createOrReplaceTempView(name)


def write_slices(
    session: Any,
    statement: str,
    blocks: NDArray[np.int64],
    ranges: Sequence[tuple[int, int]],
    pending: Sequence[tuple[int, int]],
    out: Path,
) -> list[StoredSlice]:
    """Write the files of some slices.

    Args:
        session: with the views that the statement reads.
        statement: gives the rows of all transfers, see `sql.statement`.
        blocks: all that have transfers, or transactions.
        ranges: the slices, in order; transfers of unknown blocks count with the last one.
        pending: those that are to be written.
        out: the folder of the store, which has this path on all machines.

    Returns:
        Those that have transfers, in any order.

    Raises:
        Damaged, TableError: see `canonical.canonical`.
    """
    position = np.searchsorted([last for _, last in ranges], blocks)
    wanted = np.isin(position, [i for i, part in enumerate(ranges) if part in set(pending)])
    table = {"block_number": blocks[wanted], "position": position[wanted].astype(np.int32)}
    session.createDataFrame(pa.table(table)).createOrReplaceTempView("slices")
    unknown = "r.block_number IS NULL" if ranges[-1] in pending else "false"
    rows = session.sql(
        f"SELECT r.*, coalesce(s.position, {len(ranges) - 1}) AS position FROM ({statement}) r "
        "LEFT JOIN slices s ON r.block_number = s.block_number "
        f"WHERE s.position IS NOT NULL OR {unknown}"
    )
    writer = _writer(list(ranges), out)
    try:
        found = rows.groupBy("position").applyInArrow(writer, _WRITTEN).collect()
    except Exception as error:
        if "CAST_INVALID_INPUT" in str(error):
            raise Damaged from error
        raise
    for row in found:
        if row.problem == _DAMAGED:
            raise Damaged
        if row.problem:
            raise TableError(row.problem)
    return [
        StoredSlice(first, last, row.transfers, row.orphans)
        for row in found
        for first, last in [ranges[row.position]]
    ]


def _writer(ranges: Sequence[tuple[int, int]], out: Path) -> Callable[[pa.Table], pa.Table]:
    """Writes the slice of a group of rows, on a worker."""

    def write(rows: pa.Table) -> pa.Table:
        position, transfers, orphans, problem = rows["position"][0].as_py(), 0, 0, ""
        try:
            part = write_rows(rows.drop_columns("position"), out, *ranges[position])
            transfers, orphans = part.transfers, part.orphans
        except Damaged:
            problem = _DAMAGED
        except TableError as error:  # not for Spark to try again
            problem = str(error)
        return pa.table(
            {
                "position": pa.array([position], pa.int32()),
                "transfers": [transfers],
                "orphans": [orphans],
                "problem": [problem],
            }
        )

    return write


def _code(archives: Path | None) -> dict[str, str]:
    """The options by which workers find Python and our code."""
    if archives is None:
        # Spark only reads this variable; the driver's interpreter has the dependencies.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        return {"spark.executorEnv.PYTHONPATH": str(PROJECT_ROOT)}
    os.environ.setdefault("PYSPARK_PYTHON", f"python3.{sys.version_info.minor}")
    paths = {name: archives / name for name in (PROJECT_ARCHIVE, DEPENDENCIES_ARCHIVE)}
    for path in paths.values():
        if not path.is_file():
            raise CommandError(f"{path}: no such file; npm run package:spark writes it")
    named = [f"{path.resolve().as_uri()}#{path.name.partition('.')[0]}" for path in paths.values()]
    return {
        "spark.archives": ",".join(named),
        "spark.executorEnv.PYTHONPATH": "project:dependencies",
    }


def _url(path: str) -> str:
    """A path for Spark's readers, of this file alone."""
    literal = re.sub(r"([{}\[\]*?\\])", r"\\\1", path)
    if "://" in path:
        return re.sub("^s3://", "s3a://", literal)
    return f"file://{Path.cwd() / literal}"
