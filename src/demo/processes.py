"""Child processes that end with the process that started them, even if it is killed.

    with running(["anvil", "--port", "0"], folder=home) as process:
        ...

`finally` blocks and exit handlers do not run in a process that is killed. The command is therefore
started through this file, run as a script: it forks a watcher, then becomes the command, so that
process id, signals and exit code are the command's own. If the calling process ends first, in any
way, the watcher ends the command's process group and removes its folder, also if the command has
just ended and the caller was killed before it came to that.

Only Linux reports the end of an arbitrary process without a race; elsewhere there is no watcher.
"""

import atexit
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

_PATIENCE_SECONDS: Final = 3.0
_REMOVAL_SECONDS: Final = 60.0
_CLEANING_SECONDS: Final = 10.0  # for which a caller may clean up after its command
_POLL_SECONDS: Final = 0.2


def supervised(command: Sequence[str | Path], folder: Path | None = None) -> list[str]:
    """The command to start instead of `command`, so that it ends with this process.

    It leads its own process group and session: a Ctrl-C in the terminal reaches only this process,
    which then stops its servers.

    Args:
        command: the program and its arguments.
        folder: removed with all it holds if this process ends before the command, or within seconds
            after it.
    """
    words = [str(word) for word in command]
    if sys.platform != "linux":
        return words
    script = [sys.executable, "-I", "-S", __file__]
    return [*script, str(os.getpid()), str(folder.absolute()) if folder else "", *words]


def free_port() -> int:
    """A port of 127.0.0.1 for a server that cannot choose one itself.

    Nobody else is given it, however long the server takes to start: a socket holds it as long as
    this process lives. It does not listen, so a server may, if it sets SO_REUSEADDR as servers do.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    atexit.register(holder.close)
    return int(holder.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    patience: float = _PATIENCE_SECONDS,
    **options: Any,
) -> "Iterator[subprocess.Popen[Any]]":
    """Run a supervised command for the length of the `with` block.

    `folder` is removed if this process ends first, see `supervised`. `patience` is seconds between
    SIGTERM and SIGKILL; the options are those of `subprocess.Popen`.
    """
    with subprocess.Popen(
        supervised(command, folder), **{"start_new_session": True, **options}
    ) as process:
        try:
            yield process
        finally:
            stop(process, patience)


def stop(process: "subprocess.Popen[Any]", patience: float = _PATIENCE_SECONDS) -> None:
    """End a process that leads its own process group, together with its children.

    `patience` is seconds between SIGTERM and SIGKILL.
    """
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _main(caller: int, folder: str, command: list[str]) -> None:
    """Start a watcher and become the command."""
    own = os.getpid()
    with suppress(ProcessLookupError):
        ended = os.pidfd_open(caller)
        if os.getppid() == caller:
            if os.getpgrp() != own:
                os.setsid()
            if os.fork() == 0:
                _watch(ended, own, folder)
            os.wait()
            os.execvp(command[0], command)
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit("the process that started this command has ended")


def _watch(ended: int, group: int, folder: str) -> None:
    """In the watcher process: wait for the caller to end, or for nothing to be left."""
    os.setsid()
    if os.fork():
        os._exit(0)  # the watcher is no child of the command
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.closerange(3, ended)  # close the pipes and sockets of the command
    os.closerange(ended + 1, os.sysconf("SC_OPEN_MAX"))
    give_up = math.inf
    while not select.select([ended], [], [], _POLL_SECONDS)[0]:
        if not _signal(group, 0):
            give_up = min(give_up, time.monotonic() + _CLEANING_SECONDS)
            if not os.path.lexists(folder) or time.monotonic() > give_up:
                os._exit(0)
    _signal(group, signal.SIGTERM)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while _signal(group, 0) and time.monotonic() < give_up:
        time.sleep(_POLL_SECONDS)
    _signal(group, signal.SIGKILL)
    # Processes that left the group, such as PostgreSQL's workers, may write until they end.
    give_up = time.monotonic() + _REMOVAL_SECONDS
    while os.path.lexists(folder) and time.monotonic() < give_up:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; whether it has members."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # they run as another user
        return True
    return True


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
