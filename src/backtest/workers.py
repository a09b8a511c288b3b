"""Runs slices on this machine, one process per core, since detectors and tables need the GIL."""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Final, Literal

import pyarrow as pa

from src.backtest.job import Job
from src.datasets.store import StoredSlice

Method = Literal["fork", "spawn"]

METHOD: Final[Method] = "fork" if sys.platform == "linux" else "spawn"
"""A forked worker shares the loaded model and the compiled kernels with its parent;
elsewhere system libraries do not allow it, and each worker takes two seconds to start."""

_GRACE_SECONDS = 10.0
"""Seconds that workers have to finish their current slices after an error or an interrupt."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 1 << 30


def run_locally(
    job: Job,
    slices: Sequence[StoredSlice],
    done: Callable[[int], object],
    *,
    workers: int,
    method: Method = METHOD,
) -> None:
    """Process all slices, `workers` at a time; calls `done` with the number of transfers of each.

    Raises:
        TableError: the data is unusable.
        OSError: the disk failed.
        RuntimeError: a worker was killed.
    """
    job.prepare()  # forked workers then have it
    workers = min(workers, len(slices))
    # Slices create no reference cycles, but the many records in use would trigger the garbage
    # collector again and again, and scanning them takes longer than creating them.
    gc.disable()
    try:
        if workers == 1:
            for part in slices:
                done(job.run(part))
            return
        with _pool(workers, method) as pool:
            for transfers in as_completed([pool.submit(job.run, part) for part in slices]):
                done(transfers.result())
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed (out of memory? use fewer --workers, or import with fewer "
            "--slice-transfers); the same command resumes"
        ) from error
    finally:
        gc.enable()


def keep_freed_memory() -> None:
    """Make the C library keep large buffers instead of returning them to the kernel.

    Every slice needs the same large buffers again, and page faults take a third of the time. Uses
    one arena, since the others cannot hold large buffers. Does nothing if the C library is not
    glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE - 1)
    mallopt(_M_ARENA_MAX, 1)
    pa.set_memory_pool(pa.system_memory_pool())


@contextmanager
def _pool(workers: int, method: Method) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the context, within a grace period after an error."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start)
    try:
        with warnings.catch_warnings():
            # Native threads of numpy's libraries, which are made for being forked.
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            yield pool
    finally:
        late = threading.Timer(_GRACE_SECONDS, _kill)
        late.start()
        try:
            pool.shutdown(cancel_futures=True)
        finally:
            late.cancel()
            _kill()
            pool.shutdown()  # its thread may not outlive this: at exit, both close the same pipe


def _kill() -> None:
    for process in multiprocessing.active_children():
        process.kill()


def _start() -> None:
    """What a worker process begins with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent handles it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    gc.disable()  # see `run_locally`


def _end_with_parent() -> None:
    """End when the parent was killed, so that the same command can resume at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  a worker has one
    wait([parent.sentinel])
    os._exit(1)
