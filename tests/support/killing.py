"""Ends a process at a chosen point of its work, which is the same one on every machine."""

import os
import signal
import sys
from pathlib import Path


def kill_at(step: int, folder: Path) -> None:
    """SIGKILL this process just before it opens, creates or renames a file below `folder`.

    Processes forked from it count their own steps; the first to reach `step` ends this process.
    There is no way to take it back.

    Args:
        step: how many such operations, this one included.
        folder: files elsewhere do not count.
    """
    process, left = os.getpid(), step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in {"open", "os.rename"} and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left == 0:
                os.kill(process, signal.SIGKILL)

    sys.addaudithook(count)
