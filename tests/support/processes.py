"""Looks at processes that may end between two looks."""

from collections.abc import Iterable

import psutil


def name(process: psutil.Process) -> str:
    """Of a process that has ended, the empty string."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def names(processes: Iterable[psutil.Process]) -> set[str]:
    """Names of the processes that still live."""
    return {name(process) for process in processes} - {""}


def command_line(process: psutil.Process) -> list[str]:
    """Of a process that has ended or is another user's, the empty list."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def temporary_folder(process: psutil.Process) -> str:
    """Its TMPDIR; of a process that has ended or is another user's, the empty string."""
    try:
        return process.environ().get("TMPDIR", "")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
