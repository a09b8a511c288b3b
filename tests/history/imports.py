"""Import data and read what the store holds."""

import tempfile
from pathlib import Path
from typing import Any

from src.datasets.store import Store, read_slice
from src.history.importing import ImportOptions, import_history


def imported(source: Path | str, **options: Any) -> Store:
    """The store of an export, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    return import_history(str(source), folder, ImportOptions(**options), lambda _: lambda _: None)


def rows_of(store: Store) -> list[dict[str, Any]]:
    """All transactions of a store."""
    return [row for part in store.slices for row in read_slice(store.path(part)).to_pylist()]
