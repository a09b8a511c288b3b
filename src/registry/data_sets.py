"""Data sets in the store, so that a challenger is trained on old and new data together.

  data/<id>/transactions.parquet, transfers.parquet, ...; entry.json is written last

A model trained on new data alone would lose what the old data taught.
"""

import hashlib
import json
from pathlib import Path

from src.chain.recording.dataset import (
    TRANSACTIONS_FILE,
    TRANSFERS_FILE,
    is_dataset,
)
from src.datasets.tables import TableError
from src.datasets.training_set import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE
from src.files import write_file
from src.registry.store import Store

ENTRY_FILE = "entry.json"
GOLDEN_CASES_FILE = "golden_cases.csv"
FILES = (
    TRANSACTIONS_FILE,
    TRANSFERS_FILE,
    EXPLOITS_FILE,
    EXPLOIT_TRANSFERS_FILE,
    GOLDEN_CASES_FILE,
)


def put_data(store: Store, folder: Path) -> str:
    """Add a folder's data set to the store; equal files are the same data set.

    Returns:
        Its id, derived from its content.

    Raises:
        TableError: the folder is not a data set.
        StoreError: the store failed.
    """
    if not is_dataset(folder):
        raise TableError(f"{folder}: not a data set ({TRANSACTIONS_FILE}, {TRANSFERS_FILE})")
    contents = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    entry = (json.dumps({"files": files}, indent=1, sort_keys=True) + "\n").encode()
    data_id = hashlib.sha256(entry).hexdigest()[:16]
    for name, content in contents.items():
        store.create(f"data/{data_id}/{name}", content)
    store.create(f"data/{data_id}/{ENTRY_FILE}", entry)
    return data_id


def fetch_data(store: Store, folder: Path) -> list[Path]:
    """Download every complete data set of the store that is not in `folder` yet.

    Returns:
        One folder per data set, ordered by id.

    Raises:
        TableError: a data set is truncated or was modified.
        StoreError: the store failed.
    """
    return [
        found
        for data_id in store.children("data")
        if (found := _fetch(store, data_id, folder / data_id)) is not None
    ]


def _fetch(store: Store, data_id: str, target: Path) -> Path | None:
    try:
        entry = store.read(f"data/{data_id}/{ENTRY_FILE}")
    except FileNotFoundError:
        return None  # an upload that was never finished
    if hashlib.sha256(entry).hexdigest()[:16] != data_id:
        raise TableError(f"{store.name}/data/{data_id}: {ENTRY_FILE} was modified")
    target.mkdir(parents=True, exist_ok=True)
    for name, digest in json.loads(entry)["files"].items():
        path = target / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            continue
        content = store.read(f"data/{data_id}/{name}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise TableError(f"{store.name}/data/{data_id}/{name} is truncated or was modified")
        write_file(path, content)
    return target
