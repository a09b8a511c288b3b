"""The output folder of a run, which stays consistent if the run is killed at any moment.

    OUT/
      run.json                              the run's data, model, threshold, policy
      decisions/day=2023-05-01/FIRST-LAST.parquet   one row a transaction, by block and position
      alerts/day=2023-05-01/FIRST-LAST.parquet      one row a transaction that is not simply allowed
      journal/FIRST-LAST.json               a slice is done when this file is there
      summary.json report.html              made of the others when all slices are done

Every file is written under a temporary name, synced to disk, and renamed. A slice's part files are
written first, its journal entry last. Parts without an entry belong to an interrupted slice: they
are removed and the slice is repeated. Nothing depends on the worker or the time, so a run gives the
same files with every engine and after any interruptions.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from src.cli import CommandError
from src.datasets.store import locked
from src.files import UNFINISHED, reason, whole_file

RUN: Final = "run.json"
JOURNAL: Final = "journal"
DECISIONS: Final = "decisions"
ALERTS: Final = "alerts"
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"
UNKNOWN_DAY: Final = "unknown"

_SELDOM_TWICE = ("tx_hash", "from_address", "model_explanations")
"""Columns that a dictionary would not make smaller."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One parquet file of a slice."""

    table: str  # `DECISIONS` or `ALERTS`
    day: str  # of the blocks, UTC, or `UNKNOWN_DAY`
    rows: pa.Table  # what goes in


class Output:
    """The folder of one run. Safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def opened(self, run: Mapping[str, Any]) -> Iterator[None]:
        """Start or resume a run; locks the folder.

        Raises:
            CommandError, TableError: the folder contains another run or something else, or is in
                use.
        """
        with locked(self.folder, "backtest"):
            self._prepare({"format": _FORMAT, **run})
            yield

    def write_slice(self, name: str, parts: Iterable[Part], entry: Mapping[str, Any]) -> None:
        """Write a slice's parts and then its journal entry.

        Raises:
            OSError: the disk; nothing half-written is left under a final name.
        """
        sizes: dict[str, int] = {}
        try:
            for part in parts:
                path = self.folder / part.table / f"day={part.day}" / f"{name}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as unfinished:
                    _write_table(part, unfinished)
                sizes[path.relative_to(self.folder).as_posix()] = path.stat().st_size
            text = json.dumps({"parts": sizes, **entry}, sort_keys=True)
            self.write_text(f"{JOURNAL}/{name}.json", text)
        except BaseException:
            for written in sizes:  # free the space of a full disk
                (self.folder / written).unlink(missing_ok=True)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run.

        Raises:
            OSError: the disk.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    def entries(self) -> dict[str, dict[str, Any]]:
        """The journal: what is known of each slice that is done, by its name, in order of blocks.

        Raises:
            CommandError: an entry is damaged.
        """
        names = sorted(path.name for path in (self.folder / JOURNAL).glob("[0-9]*.json"))
        return {
            name.removesuffix(".json"): self._read(
                f"{JOURNAL}/{name}", f"{name} has vanished", "parts"
            )
            for name in names
        }

    def run(self) -> dict[str, Any]:
        """The options of this run.

        Raises:
            CommandError: the folder does not contain a run.
        """
        return self._read(RUN, f"does not contain a backtest ({RUN} is missing)")

    def summary(self) -> dict[str, Any]:
        """The summary of this run.

        Raises:
            CommandError: the folder does not contain a finished run.
        """
        self.run()
        unfinished = "its backtest is not finished; the same command finishes it"
        return self._read(SUMMARY, unfinished, "run")

    def _read(self, name: str, missing: str, member: str | None = None) -> dict[str, Any]:
        """An object of JSON; with this member, which is one as well."""
        path = self.folder / name
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found if member is None else found[member], dict):
                raise ValueError("of an unexpected form")
        except FileNotFoundError:
            raise CommandError(f"{self.folder}: {missing}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path}: is unreadable: {reason(error)}; delete it") from None
        return found

    def _prepare(self, run: dict[str, Any]) -> None:
        if not (self.folder / RUN).exists():
            if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                raise CommandError(
                    f"{self.folder}: not empty and not a backtest; choose another --out"
                )
            self.write_text(RUN, json.dumps(run, indent=2, sort_keys=True) + "\n")
        before = self.run()
        changed = [key for key in run.keys() | before.keys() if run.get(key) != before.get(key)]
        if changed:
            raise CommandError(
                f"{self.folder}: contains a run with another {', '.join(sorted(changed))}; choose "
                "another --out, or delete the folder"
            )
        self._remove_interrupted()

    def _remove_interrupted(self) -> None:
        """Remove files without a journal entry, and entries without their files."""
        written: set[Path] = set()
        for name, entry in self.entries().items():
            parts = {self.folder / path: size for path, size in entry["parts"].items()}
            if all(path.is_file() and path.stat().st_size == size for path, size in parts.items()):
                written.update(parts)
            else:
                (self.folder / JOURNAL / f"{name}.json").unlink()
        for path in self.folder.glob(f"{UNFINISHED}*"):
            path.unlink()
        for table in (DECISIONS, ALERTS, JOURNAL):
            for path in (self.folder / table).rglob("*"):
                half = path.name.startswith(UNFINISHED)
                if path.is_file() and (half or (table != JOURNAL and path not in written)):
                    path.unlink()


def _write_table(part: Part, path: Path) -> None:
    encoded = [name for name in part.rows.column_names if name not in _SELDOM_TWICE]
    pq.write_table(
        part.rows, path, compression="zstd", compression_level=1, use_dictionary=encoded,
        write_statistics=["block_number", "block_timestamp", "anomaly_score"],
        store_schema=False,
    )  # fmt: skip
