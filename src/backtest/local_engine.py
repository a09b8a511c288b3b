"""Runs slices on this machine: threads, since the kernels and Arrow release the GIL."""

import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from src.backtest.job import Job
from src.backtest.plan import Slice
from src.backtest.reading import SliceReader

Done = Callable[[dict[str, Any]], None]


def run_locally(job: Job, slices: Sequence[Slice], workers: int, done: Done) -> None:
    """Do all slices, `workers` at a time; `done` is called with the journal entry of each.

    Raises:
        BacktestError: the data.
        OSError: the disk.
    """
    job.prepare()
    # What a slice leaves behind is freed without the collector, which is set off again and again by
    # records that are in use: looking through them takes longer than making them.
    gc.disable()
    try:
        _run(_Engine(job, slices, done), workers)
    finally:
        gc.enable()


def _run(engine: "_Engine", workers: int) -> None:
    with ThreadPoolExecutor(workers, "backtest") as pool:
        futures = [pool.submit(engine.work) for _ in range(workers)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            engine.stop.set()
    for future in futures:
        future.result()


class _Engine:
    def __init__(self, job: Job, slices: Sequence[Slice], done: Done) -> None:
        self.stop = threading.Event()
        self._job = job
        self._done = done
        self._remaining = iter(slices)
        self._reader = SliceReader(job.export)
        self._reading = threading.Lock()
        self._reporting = threading.Lock()

    def work(self) -> None:
        """Take slices in their order, until there is none."""
        while not self.stop.is_set():
            with self._reading:  # in order, so that each row is decoded once
                part = next(self._remaining, None)
                if part is None:
                    return
                tables = self._reader.read(part)
            entry = self._job.run(part, tables)
            del tables
            with self._reporting:
                self._done(entry)
