"""An import as a command: its progress and its summary."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from src.datasets.store import Store
from src.history.importing import Done, ImportOptions, import_history
from src.history.spark import spark_session

_SHOWN = 8
LAST_BLOCK = 2**62


class Bar(tqdm):  # type: ignore[type-arg]  # a class of strings alone at run time
    """A progress bar without a monitor thread, since workers are forked from this process."""

    monitor_interval = 0


def interval() -> float:
    """Seconds between two progress lines; longer if they go to a file."""
    return 0.1 if sys.stderr.isatty() else 10.0


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], Done]]:
    """A bar over transfers: started with how many there are and are done, called for more."""
    with ExitStack() as stack:

        def start(total: int, done: int) -> Done:
            bar = stack.enter_context(
                Bar(
                    desc=what, total=total, initial=done, unit=" transfers", unit_scale=True,
                    mininterval=interval(),
                )
            )  # fmt: skip
            return bar.update

        yield start


def unseen(_total: int, _done: int = 0) -> Done:
    """Instead of a bar where Spark shows one."""
    return lambda _count: None


@contextmanager
def engine(options: argparse.Namespace, name: str) -> Iterator[Any]:
    """The session of Spark that a command asks for; None where it runs on this machine."""
    if options.engine == "spark":
        with spark_session(name, options.master, options.archives) as session:
            yield session
    else:
        yield None


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    with engine(options, "import") as session:
        store = imported(options.data, options.out, options, session)
    sys.stdout.write(f"{said(store)}Next: npm run backtest -- --data {store.folder} --out OUT\n")
    return 0


def imported(source: str, out: Path, options: argparse.Namespace, session: Any) -> Store:
    """Import with the options of a command, with a bar."""
    first, last = options.from_block, options.to_block
    is_range = first is not None or last is not None
    asked = ImportOptions(
        columns=options.columns,
        blocks=(first or 0, LAST_BLOCK if last is None else last) if is_range else None,
        slice_transfers=options.slice_transfers,
        workers=options.workers,
        memory=options.memory,
        remedy="use a larger --memory or fewer --workers",
    )
    if session is not None:
        return import_history(source, out, asked, unseen, session)
    with progress("import") as start:
        return import_history(source, out, asked, lambda total: start(total, 0))


def said(store: Store) -> str:
    """What was imported, left out and not known, for the user."""
    transfers = sum(part.transfers for part in store.slices)
    orphans = sum(part.orphans for part in store.slices)
    lines = [f"{store.folder} holds {transfers:,} transfers ({store.layout})."]
    if orphans:
        lines.append(f"  {orphans:,} transfers are ignored: their transactions are not in the data")
    lines += [f"  {note}" for note in store.facts["notes"][:_SHOWN]]
    left_out = list(store.facts["left_out"].items())
    lines += [f"  left out: {name} ({why})" for name, why in left_out[:_SHOWN]]
    if len(left_out) > _SHOWN:
        lines.append(f"  left out: {len(left_out) - _SHOWN} more files, see store.json")
    return "\n".join(lines) + "\n"
