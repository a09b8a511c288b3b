"""A worker process of the local engine: receives slices through a pipe and returns their entries.

It processes one slice at a time, and ends when the other end of the pipe is closed.
"""

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from src.backtest.executors.job import Job, Slice
from src.backtest.executors.memory import keep_freed_memory
from src.backtest.output.output import Output

READY = None
"""The first message of a worker."""

_PR_SET_PDEATHSIG = 1


def work(
    job: Job, number: int, parent: int, pipe: Connection, inherited: Sequence[Connection]
) -> None:
    """Process slices from the pipe until it is closed.

    Args:
        job: processes a slice.
        number: of this worker, from 0.
        parent: process id of the sender.
        pipe: receives slices; sends `READY`, then a journal entry or an exception per slice.
        inherited: ends of other pipes in a forked process, which must be closed here so that other
            workers detect the end of the parent.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes; the parent handles it
    for connection in inherited:
        connection.close()
    _end_with(parent)
    keep_freed_memory()
    gc.disable()  # see `local.run_locally`
    # While this lock is held, no other run starts. It is taken before the first slice is requested,
    # so a worker that gets a slice after its parent ended has held it since before that.
    with Output(job.out).joined(number), suppress(EOFError, OSError):  # the parent has ended
        pipe.send(READY)
        while True:
            pipe.send_bytes(_answer(job, pipe.recv()))


def _answer(job: Job, part: Slice) -> Any:
    """The journal entry of a slice, or the exception, as bytes for the pipe."""
    try:
        return ForkingPickler.dumps(job.run(part))
    except Exception as error:  # noqa: BLE001  raised again by the parent
        error.add_note("".join(traceback.format_exception(error)))
        error.__traceback__ = error.__context__ = error.__cause__ = None
        try:
            content = ForkingPickler.dumps(error)
            ForkingPickler.loads(content)
        except Exception:  # noqa: BLE001  some need arguments that pickle does not know of
            content = ForkingPickler.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        return content


def _end_with(parent: int) -> None:
    """Make the kernel kill this process when its parent ends, even during a slice.

    On other systems than Linux, the process ends after its current slice.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was told
            sys.exit()
