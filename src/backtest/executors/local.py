"""Runs slices on this machine: a process a core, since detectors and tables are made in Python."""

import gc
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Literal

from src.backtest.executors.job import Job
from src.backtest.executors.shares import Shares
from src.backtest.executors.worker import work
from src.backtest.reading.plan import Slice
from src.backtest.reading.reading import SliceReader

Done = Callable[[dict[str, Any]], None]
Method = Literal["fork", "spawn"]

METHOD: Final[Method] = "fork" if sys.platform == "linux" else "spawn"
"""A forked worker has the loaded model and the compiled kernels at once and shares their memory;
elsewhere system libraries do not allow it, and each worker takes two seconds to start."""

_GRACE_SECONDS = 10.0
"""How long workers may go on with the slices that they are at, after an error or an interrupt."""


def run_locally(
    job: Job, slices: Sequence[Slice], workers: int, done: Done, method: Method = METHOD
) -> None:
    """Do all slices, `workers` at a time; `done` is called with the journal entry of each.

    Raises:
        BacktestError: the data.
        OSError: the disk.
        RuntimeError: a worker was killed.
    """
    job.prepare()
    workers = min(workers, len(slices))
    # What a slice leaves behind is freed without the collector, which is set off again and again by
    # records that are in use: looking through them takes longer than making them.
    gc.disable()
    try:
        if workers > 1:
            with _crew(job, workers, method) as crew:
                _deal(Shares(slices, workers), crew, done)
        else:
            reader = SliceReader(job.export)
            for part in slices:
                done(job.run(part, reader.read(part)))
    finally:
        gc.enable()


def _deal(shares: Shares, crew: dict[Connection, BaseProcess], done: Done) -> None:
    """Give each worker a slice whenever it has none, until all are done."""
    numbers = {pipe: number for number, pipe in enumerate(crew)}
    busy = set(crew)
    while busy:
        for pipe in wait(list(busy)):
            assert isinstance(pipe, Connection)  # noqa: S101  nothing else is waited for
            try:
                answer = pipe.recv()
                if isinstance(answer, Exception):
                    raise answer
                if answer is not None:
                    done(answer)
                part = shares.take(numbers[pipe])
                if part is None:
                    busy.discard(pipe)
                else:
                    pipe.send(part)
            except (EOFError, ConnectionError) as error:
                raise _ended(crew[pipe]) from error


def _ended(process: BaseProcess) -> RuntimeError:
    """What to say of a worker that is gone."""
    process.join(_GRACE_SECONDS)
    code = process.exitcode
    how = f"with exit code {code}"
    if code is not None and code < 0:
        how = f"by {signal.Signals(-code).name}"
    hint = ""
    if code == -signal.SIGKILL:
        hint = " (as where memory runs out: fewer --workers or less --slice-rows take less)"
    return RuntimeError(f"a worker process was ended {how}{hint}; the same command resumes")


@contextmanager
def _crew(job: Job, workers: int, method: Method) -> Iterator[dict[Connection, BaseProcess]]:
    """Worker processes by the pipes to them; they are gone at the end, whatever happened."""
    context: Any = multiprocessing.get_context(method)
    crew: dict[Connection, BaseProcess] = {}
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            inherited = (ours, *crew) if method == "fork" else ()
            process = context.Process(
                target=work,
                args=(job, number, os.getpid(), theirs, inherited),
                name=f"backtest-{number}",
                daemon=True,
            )
            with warnings.catch_warnings():
                # Native threads of numpy's libraries, which are made for being forked.
                warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
                process.start()
            theirs.close()  # else the end of the worker would not be seen
            crew[ours] = process
        yield crew
    finally:
        try:
            for pipe in crew:
                pipe.close()  # who is at a slice ends after it
            for process in crew.values():
                process.join(_GRACE_SECONDS)
        finally:
            for process in crew.values():
                process.kill()
                process.join()
