"""Data sets in the store, so that a challenger is trained on old and new data together.

  data/<id>/transactions.parquet, transfers.parquet, ...; entry.json is written last
  data/<id>/steps/000000000001.json   withdrawn, or added again; the last step counts

There are two kinds: `transactions`, for the isolation forest and the attack model, and `labelled`,
a table for the fraud model. Nothing is deleted: a withdrawn data set stays, and is not trained on.
A model trained on new data alone would lose what the old data taught.
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.chain.networks import described
from src.datasets.checks import check_data_set, check_share
from src.datasets.columns import Columns
from src.datasets.labelled import load_labelled
from src.datasets.location import DATA_SET_FILES
from src.datasets.tables import TableError
from src.datasets.training_set import chain_id_of
from src.files import read_file, write_file
from src.registry.records import (
    MAX_RECORD_BYTES,
    DataEntry,
    DataKind,
    DataStep,
    RecordMalformed,
    parse_record,
    step_name,
    step_names,
)
from src.registry.store import ObjectTooLarge, Store

ENTRY_FILE = "entry.json"
_TABLES = {".parquet": "table.parquet", ".csv": "table.csv", ".gz": "table.csv.gz"}
_FILES: Mapping[DataKind, tuple[str, ...]] = {
    "transactions": DATA_SET_FILES,
    "labelled": tuple(_TABLES.values()),
}
_MAX_TABLE_BYTES = 8 * 2**30
_ID_DIGITS = 16
_ID = re.compile(f"[0-9a-f]{{{_ID_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set of the store."""

    id: str  # derived from its content
    entry: DataEntry  # its files and kind
    withdrawn: str | None = None  # why it is not trained on; None if it is


@dataclass(frozen=True, slots=True)
class CheckedData:
    """A data set on this machine that has been checked and may be stored."""

    id: str  # of the data set in every store
    path: Path  # its folder; of a labelled table the file
    entry: DataEntry  # its files and kind
    notes: tuple[str, ...] = ()  # what the check found that is no error, one sentence each


def checked(path: Path, columns: Columns | None = None) -> CheckedData:
    """Check a data set before it is stored or trained on.

    A folder in the data-set layout, or, with `columns`, a labelled table.

    Raises:
        TableError: it is unusable; the message names column and row.
    """
    notes: tuple[str, ...] = ()
    if columns is None:
        check_data_set(path)
        found = {name: path / name for name in _FILES["transactions"] if (path / name).is_file()}
        entry = DataEntry(files=_digests(found))
    else:
        table = load_labelled(path, columns)
        frauds, rows = int(table.labels.sum()), len(table.rows)
        check_share(frauds / rows, f"{path}: column {columns.label}", "rows fraud")
        notes = (f"{rows:,} rows, {frauds:,} of them fraud ({frauds / rows:.2%}).", *table.notes)
        entry = DataEntry(
            files=_digests({_TABLES[path.suffix.lower()]: path}), kind="labelled", columns=columns
        )
    return CheckedData(_id(entry.to_bytes()), path, entry, notes)


def check_chain(path: Path, chain_id: int) -> None:
    """Raise TableError if a data set states another chain than the champion was trained on."""
    stated = chain_id_of(path)
    if stated is not None and stated != chain_id:
        raise TableError(
            f"{path} is of {described(stated)}, the champion of {described(chain_id)}: "
            "each chain needs a store of its own"
        )


class DataSets:
    """The data sets of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, data: CheckedData) -> str:
        """Add a data set; equal files are the same one. A withdrawn one is trained on again.

        Returns:
            Its id.

        Raises:
            StoreError: the store failed.
            OSError: a file is unreadable or too large.
        """
        is_folder = data.entry.kind == "transactions"
        for name in data.entry.files:
            content = read_file(data.path / name if is_folder else data.path, _MAX_TABLE_BYTES)
            self._store.create(f"data/{data.id}/{name}", content)
        self._store.create(f"data/{data.id}/{ENTRY_FILE}", data.entry.to_bytes())
        if self._withdrawn(data.id) is not None:
            self._step(data.id, withdrawn=False, reason="added again")
        return data.id

    def list(self, kind: DataKind | None = None) -> list[DataSet]:
        """The complete data sets, withdrawn ones too, ordered by id.

        Raises:
            TableError: an entry was modified.
            StoreError: the store failed.
        """
        found = []
        for data_id in self._ids():
            withdrawn = self._withdrawn(data_id)
            try:
                entry = self._entry(data_id)
            except FileNotFoundError:
                continue  # an upload that was never finished
            except TableError:
                if withdrawn is None:
                    raise
                continue
            if kind in (None, entry.kind):
                found.append(DataSet(data_id, entry, withdrawn))
        return found

    def withdraw(self, data: str, *, reason: str) -> str:
        """Train on a data set no longer, be it damaged.

        `data` is its id, or the unique beginning of one.

        Returns:
            Its id.

        Raises:
            TableError: there is no such data set.
        """
        found = [data_id for data_id in self._ids() if data and data_id.startswith(data)]
        if len(found) != 1:
            which = f"{len(found)} begin with {data}" if found else "npm run models -- data list"
            raise TableError(f"there is no data set {data!r} in {self._store.name}: {which}")
        if self._withdrawn(found[0]) is None:
            self._step(found[0], withdrawn=True, reason=reason)
        return found[0]

    def fetch(self, kind: DataKind, folder: Path) -> dict[Path, DataEntry]:
        """Download every data set of a kind, without the withdrawn ones.

        Returns:
            One folder per data set, named by its id, with its entry.

        Raises:
            TableError: a data set is truncated or was modified.
            StoreError: the store failed.
        """
        kept = [one for one in self.list(kind) if one.withdrawn is None]
        return {self._fetch(one, folder / one.id): one.entry for one in kept}

    def _ids(self) -> Sequence[str]:
        return [*filter(_ID.fullmatch, self._store.children("data"))]

    def _fetch(self, data: DataSet, target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        for name, digest in data.entry.files.items():
            try:
                content = self._store.read(f"data/{data.id}/{name}", _MAX_TABLE_BYTES)
            except FileNotFoundError as error:
                raise TableError(f"{error} is missing") from None
            if hashlib.sha256(content).hexdigest() != digest:
                raise TableError(
                    f"{self._store.name}/data/{data.id}/{name} is truncated or was modified"
                )
            write_file(target / name, content)
        return target

    def _entry(self, data_id: str) -> DataEntry:
        where = f"{self._store.name}/data/{data_id}"
        try:
            content = self._store.read(f"data/{data_id}/{ENTRY_FILE}", MAX_RECORD_BYTES)
        except ObjectTooLarge as error:
            raise TableError(f"{error}: restore or withdraw it") from None
        if _id(content) != data_id:
            raise TableError(f"{where}: {ENTRY_FILE} was modified: restore or withdraw it")
        try:
            entry = parse_record(DataEntry, content)
        except RecordMalformed as error:
            raise TableError(f"{where}: {ENTRY_FILE} is malformed: {error}") from None
        # The names become those of files.
        if not set(entry.files) <= set(_FILES[entry.kind]):
            raise TableError(f"{where}: {ENTRY_FILE} is malformed: its list of files")
        return entry

    def _withdrawn(self, data_id: str) -> str | None:
        names = self._steps(data_id)
        if not names:
            return None
        try:
            content = self._store.read(f"data/{data_id}/steps/{names[-1]}", MAX_RECORD_BYTES)
            step = parse_record(DataStep, content)
        except RecordMalformed as error:
            raise TableError(f"data set {data_id}: {names[-1]} is malformed: {error}") from None
        return step.reason if step.withdrawn else None

    def _step(self, data_id: str, *, withdrawn: bool, reason: str) -> None:
        step = DataStep(withdrawn=withdrawn, reason=reason, at=int(time.time()))
        number = len(self._steps(data_id))
        while True:  # another writer may have taken the number
            number += 1
            name = f"data/{data_id}/steps/{step_name(number)}"
            if self._store.create(name, step.to_bytes()):
                return

    def _steps(self, data_id: str) -> Sequence[str]:
        folder = f"data/{data_id}/steps"
        try:
            return step_names(self._store.children(folder))
        except RecordMalformed as error:
            raise TableError(f"{self._store.name}/{folder}: {error}") from None


def table_of(folder: Path, entry: DataEntry) -> Path:
    """The file of a labelled data set that was fetched into `folder`."""
    (name,) = entry.files
    return folder / name


def _digests(paths: Mapping[str, Path]) -> dict[str, str]:
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}


def _id(entry: bytes) -> str:
    return hashlib.sha256(entry).hexdigest()[:_ID_DIGITS]
