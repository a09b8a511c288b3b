"""A test run that is stopped ends in good order, whichever process is stopped and however.

xdist's workers end when their controller does; the servers that they started, see
`src.demo.processes`.
"""

import os
import select
import signal
import threading

import psutil
import pytest


def end_in_good_order(config: pytest.Config) -> None:
    """Have SIGTERM, and the end of the `npm test` above us, stop this run as Ctrl-C does."""
    if hasattr(config, "workerinput"):
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    above = _npm_and_below()
    if above and hasattr(os, "pidfd_open"):
        ends = [os.pidfd_open(process.pid) for process in above]
        threading.Thread(target=_stop_at, args=(ends,), daemon=True).start()


def _npm_and_below() -> list[psutil.Process]:
    """The processes from our parent to npm, where `npm test` started this run."""
    if os.environ.get("npm_lifecycle_event") != "test":  # noqa: SIM112  npm writes it so
        return []
    parents = psutil.Process().parents()
    names = [parent.name().split()[0] for parent in parents]
    return parents[: names.index("npm") + 1] if "npm" in names else []


def _stop_at(ends: list[int]) -> None:
    select.select(ends, [], [])
    os.kill(os.getpid(), signal.SIGTERM)
