"""Runs slices on Apache Spark: `--engine spark`.

Spark schedules the slices and reschedules them when an executor is lost. Each task (`mapInArrow`)
reads its file of the store and writes its part files and journal entry with the code of the local
engine, so the output is the same, and a slice that runs twice is written twice with the same
content. There is no shuffle.

The store and the output folder must have the same paths on all machines (NFS, a mounted bucket).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from src.backtest.job import Job
from src.datasets.store import StoredSlice
from src.detection.bundle_files import ATTACK_MODEL_FILE, manifest_path
from src.detection.signature import signature_path

_SCHEMA = "position long"
_MODEL = "isolation_forest.pkl"


def run_on_spark(
    job: Job, slices: Sequence[StoredSlice], _done: object = None, *, session: Any
) -> None:
    """Process all slices on a cluster, which shows its progress itself.

    Raises:
        PySparkException: the Spark job failed.
    """
    with TemporaryDirectory() as folder:
        for name, path in _files(job).items():
            if path.is_file():
                link = Path(folder, name)
                link.symlink_to(path)
                session.sparkContext.addFile(link.as_uri())
        # One partition per slice, so that a lost machine loses one slice per core.
        positions = session.range(0, len(slices), 1, numPartitions=len(slices))
        positions.mapInArrow(_Work(job, list(slices)), _SCHEMA).collect()


@dataclass(frozen=True, slots=True)
class _Work:
    """Processes a task's batches of slice positions, with files that Spark has sent."""

    job: Job
    slices: list[StoredSlice]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        job = replace(
            self.job,
            model_path=_sent(_MODEL),
            attack_model_path=self.job.attack_model_path and _sent(ATTACK_MODEL_FILE),
            address_book=self.job.address_book and _sent(_name_of(self.job.address_book)),
        )
        for batch in batches:
            for position in batch.column("id").to_pylist():
                job.run(self.slices[position])
                yield pa.RecordBatch.from_pydict({"position": [position]})


def _files(job: Job) -> dict[str, Path]:
    """The files to send, by their names on the workers, where all lie in one folder.

    The names are our own, since files of several folders may have the same.
    """
    attack = job.attack_model_path or job.model_path.with_name(ATTACK_MODEL_FILE)
    files: dict[str, Path] = {}
    for name, path in ((_MODEL, job.model_path), (ATTACK_MODEL_FILE, attack)):
        manifest, sent = manifest_path(path), manifest_path(Path(name))
        files |= {
            name: path,
            sent.name: manifest,
            signature_path(sent).name: signature_path(manifest),
        }
    if job.address_book is not None:
        files[_name_of(job.address_book)] = job.address_book
    return files


def _name_of(address_book: Path) -> str:
    return f"address_book{address_book.suffix}"


def _sent(name: str) -> Path:
    """Where a worker has a file that Spark has sent."""
    from pyspark import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
        SparkFiles,
    )

    return Path(SparkFiles.get(name))
