"""A worker process of the local engine: gets slices through a pipe and answers with their entries.

It takes no more than one slice at a time, and ends when nobody is at the other end of the pipe.
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

from src.backtest.executors.job import Job
from src.backtest.executors.memory import keep_freed_memory
from src.backtest.output.output import Output
from src.backtest.reading.plan import Slice
from src.backtest.reading.reading import SliceReader

READY = None
"""What a worker says first."""

_PR_SET_PDEATHSIG = 1


def work(
    job: Job, number: int, parent: int, pipe: Connection, inherited: Sequence[Connection]
) -> None:
    """Do the slices that come through the pipe, until it is closed.

    Args:
        job: what to do with each.
        number: of this worker, from 0.
        parent: process id of who sends the slices.
        pipe: gets slices; answers are `READY`, then a journal entry each, or what was raised.
        inherited: other pipes' ends that a forked process has; they must not stay open in it, or
            who listens at their other ends would not see that the parent is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent says what follows
    for connection in inherited:
        connection.close()
    _end_with(parent)
    keep_freed_memory()
    gc.disable()  # see `local.run_locally`
    # Until this lock is given back no other run starts. It is taken before the first slice is asked
    # for: a worker that gets one though its parent is gone has held it since the parent lived.
    with Output(job.out).joined(number), suppress(EOFError, OSError):  # nobody listens any more
        pipe.send(READY)
        reader = SliceReader(job.export)
        while True:
            pipe.send_bytes(_answer(job, reader, pipe.recv()))


def _answer(job: Job, reader: SliceReader, part: Slice) -> Any:
    """The journal entry of a slice, or what was raised instead, as bytes for the pipe."""
    try:
        return ForkingPickler.dumps(job.run(part, reader.read(part)))
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
    """Have the kernel end this process with its parent, even in the middle of a slice.

    Where the kernel is not Linux, the process ends after the slice that it is at.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was told
            sys.exit()
