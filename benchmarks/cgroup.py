"""A group of processes with a bounded share of a core, as a scan node gives its containers."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_REMOVAL_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class CpuGroup:
    """A control group; processes that are moved into it, and their children, share its quota."""

    folder: Path

    def add(self, pid: int) -> None:
        """Move a process with all its threads into the group."""
        (self.folder / "cgroup.procs").write_text(str(pid))


@contextmanager
def cpu_group(cores: float) -> Iterator[CpuGroup | None]:
    """A new group that may use so many cores; None where this user may not make one.

    Knows version 2 of Linux control groups and the `cpu` controller of version 1.
    """
    quota = int(cores * _PERIOD_US)
    for root, settings in (
        (_ROOT, {"cpu.max": f"{quota} {_PERIOD_US}"}),
        (_ROOT / "cpu", {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota)}),
    ):
        if not (root / "cgroup.procs").exists():
            continue  # a folder made here would be one like any other
        folder = root / f"benchmark-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            for name, value in settings.items():
                (folder / name).write_text(value)
        except OSError:
            folder.rmdir()
            continue
        try:
            yield CpuGroup(folder)
        finally:
            _remove(folder)
        return
    yield None


def _remove(folder: Path) -> None:
    """Remove the group; processes that were killed take a moment to leave it."""
    for _ in range(_REMOVAL_ATTEMPTS):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)
