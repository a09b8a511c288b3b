"""Runs slices on this machine, one process per core, since detectors and tables need the GIL."""

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

from src.backtest.executors.job import Job, Slice
from src.backtest.executors.worker import work

Done = Callable[[dict[str, Any]], None]
Method = Literal["fork", "spawn"]

METHOD: Final[Method] = "fork" if sys.platform == "linux" else "spawn"
"""A forked worker shares the loaded model and the compiled kernels with its parent;
elsewhere system libraries do not allow it, and each worker takes two seconds to start."""

_GRACE_SECONDS = 10.0
"""Seconds that workers have to finish their current slices after an error or an interrupt."""


def run_locally(
    job: Job, slices: Sequence[Slice], workers: int, done: Done, method: Method = METHOD
) -> None:
    """Process all slices, `workers` at a time; calls `done` with each journal entry.

    Raises:
        HistoryError: the data is unusable.
        OSError: the disk failed.
        RuntimeError: a worker was killed.
    """
    job.prepare()
    workers = min(workers, len(slices))
    # Slices create no reference cycles, but the many records in use would trigger the garbage
    # collector again and again, and scanning them takes longer than creating them.
    gc.disable()
    try:
        if workers > 1:
            with _crew(job, workers, method) as crew:
                _deal(slices, crew, done)
        else:
            for part in slices:
                done(job.run(part))
    finally:
        gc.enable()


def _deal(slices: Sequence[Slice], crew: dict[Connection, BaseProcess], done: Done) -> None:
    """Send the next slice to each idle worker, until all are done."""
    left = iter(slices)
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
                part = next(left, None)
                if part is None:
                    busy.discard(pipe)
                else:
                    pipe.send(part)
            except (EOFError, ConnectionError) as error:
                raise _ended(crew[pipe]) from error


def _ended(process: BaseProcess) -> RuntimeError:
    """The error for a worker that died."""
    process.join(_GRACE_SECONDS)
    code = process.exitcode
    how = f"with exit code {code}"
    if code is not None and code < 0:
        how = f"by {signal.Signals(-code).name}"
    hint = ""
    if code == -signal.SIGKILL:
        hint = " (out of memory? use fewer --workers, or import with fewer --slice-transfers)"
    return RuntimeError(f"a worker process was ended {how}{hint}; the same command resumes")


@contextmanager
def _crew(job: Job, workers: int, method: Method) -> Iterator[dict[Connection, BaseProcess]]:
    """Worker processes by their pipes; all are ended with the context."""
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
            theirs.close()  # else the end of the worker could not be detected
            crew[ours] = process
        yield crew
    finally:
        try:
            for pipe in crew:
                pipe.close()  # a busy worker ends after its slice
            for process in crew.values():
                process.join(_GRACE_SECONDS)
        finally:
            for process in crew.values():
                process.kill()
                process.join()
