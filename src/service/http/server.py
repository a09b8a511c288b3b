"""Runs the service: several workers behind one port, from its arguments to its end."""

import argparse
import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from src.monitoring import metrics
from src.monitoring.periodic import Periodic
from src.service.database.engine import Database, DatabaseLost
from src.service.embedded import prepare_database
from src.service.settings import (
    ServiceSettings,
    database_url,
    load_common_settings,
    load_service_settings,
)
from src.settings import on_the_nodes_chain
from src.utils.logger import log_to_stderr

if TYPE_CHECKING:
    from src.service.http.middleware import App

logger = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 30
_SHUTDOWN_SECONDS = 20
_CONNECTIONS = 1_000
_OTHER_FILES = 1_000
_LOOK_SECONDS = 5.0
_HUNG_SECONDS = 30  # a worker is killed that answers nothing for so long; loading may take seconds
_MAX_DEATHS: Final = 3  # of each worker in a row, before any of them serves


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    for name in ("host", "port", "workers"):
        if (value := getattr(options, name)) is not None:
            os.environ[f"SERVICE_{name.upper()}"] = str(value)
    log_to_stderr()
    settings = load_service_settings()
    _prepare(settings, check_all=options.check)
    if options.check:
        sys.stdout.write("Settings, database, model and policy are valid.\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="serve-", ignore_cleanup_errors=True) as folder:
        if settings.workers > 1:  # read by the workers, which inherit the environment
            shared = Path(folder, "metrics")
            shared.mkdir()
            os.environ[metrics.MULTIPROCESS_VARIABLE] = str(shared)
            # A signal ends them before they can remove what is theirs.
            os.environ["TMPDIR"] = folder
        _announce(settings)
        with closing(Database(database_url(settings, load_common_settings()))) as database:
            return _serve(settings, database)


def _serve(settings: ServiceSettings, database: Database) -> int:
    """Serve until stopped, or until the database's file is lost."""
    lost: list[DatabaseLost] = []

    def look() -> None:
        try:
            database.ask()
        except DatabaseLost as error:
            if not lost:
                lost.append(error)
                os.kill(os.getpid(), signal.SIGTERM)
        except Exception:  # noqa: BLE001  it may come back; the readiness probe says so meanwhile
            return

    with Periodic("database", _LOOK_SECONDS, look):
        code = run_uvicorn(
            "src.service.http.server:app_of_worker",
            settings,
            factory=True,
            workers=settings.workers,
            ws="none",
        )
    if lost:
        sys.stderr.write(f"serve: {lost[0]}\n")
        return 1
    return code


def app_of_worker() -> "App":
    """The application of a process that serves it, which ends with the one that started it."""
    from src.service.app import create_app  # noqa: PLC0415  the workers alone need it

    end_with_parent()
    return create_app()


def end_with_parent() -> None:
    """End this process with the one that started it, even if that is killed.

    It would go on and hold the port, which the next start needs.
    """
    if (parent := multiprocessing.parent_process()) is not None:

        def end() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=end, name="parent", daemon=True).start()


def run_uvicorn(
    app: Any,
    settings: ServiceSettings,
    *,
    workers: int = 1,
    connections: int = _CONNECTIONS,
    **options: Any,
) -> int:
    """Serve an application with the limits of the settings until stopped; returns the exit code.

    `app`, `workers` and `options` are those of `uvicorn.Config`; `connections` is the most at a
    time.
    """
    allow_files(2 * connections + _OTHER_FILES)  # the guard opens one to its node for each
    # uvicorn stops on a signal, restores the handlers that it found, and sends it again: where it
    # runs in this process, Python's own would end it before the caller has closed everything.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=workers,  # else WEB_CONCURRENCY, an unrelated variable of some hosts, would count
        http="src.service.http.protocol:BoundedProtocol",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=_HUNG_SECONDS,
        limit_concurrency=connections,
        **options,
    )
    try:
        sockets = [config.bind_socket()]  # a port that is in use is known before anything is loaded
        if workers > 1:
            group = _Workers(config, sockets)
            group.run()
            return 1 if group.have_failed else 0
        server = uvicorn.Server(config)
        server.run(sockets)
    except SystemExit as stop:  # such as for a port that is in use
        return 1 if stop.code else 0
    return 0 if server.started else 1


class _Workers(Multiprocess):
    """uvicorn's worker processes, given up where all of them end before they serve.

    uvicorn itself would start others for ever, without a word.
    """

    _deaths = 0  # since a worker was last seen to serve, also of hung ones that were killed

    @property
    def have_failed(self) -> bool:
        """Whether it was given up, rather than stopped."""
        gave_up = self._deaths >= _MAX_DEATHS * self.processes_num
        return gave_up or any(one.exitcode == STARTUP_FAILURE for one in self.processes)

    def keep_subprocess_alive(self) -> None:
        """See Multiprocess, which calls it twice a second."""
        before = list(self.processes)
        super().keep_subprocess_alive()
        replaced = [one for one in before if one not in self.processes]
        for one in replaced:
            logger.warning("worker %s ended with exit code %s", one.pid, one.exitcode)
        self._deaths += len(replaced)
        if self._deaths and any(one.is_ready(timeout=1) for one in self.processes):
            self._deaths = 0
        if self.have_failed:
            logger.error("no worker can start; see above why")
            self.should_exit.set()


def allow_files(count: int) -> None:
    """Raise the soft limit of open files as far as the hard one: it is 1,024 on most systems."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def shown_host(settings: ServiceSettings) -> str:
    """The host as in a URL that people can open."""
    if settings.host in {"0.0.0.0", "::"}:  # noqa: S104
        return "localhost"
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def _prepare(settings: ServiceSettings, *, check_all: bool) -> None:
    """Check the configuration and migrate the database once, before any worker starts."""
    common = on_the_nodes_chain(load_common_settings())
    if common.json_rpc_url:  # the workers inherit it, and start also while the node is down
        os.environ["FORTA_CHAIN_ID"] = str(common.chain_id)
    prepare_database(settings, common)
    if check_all:  # otherwise needed only by workers
        from src.service.context import Service  # noqa: PLC0415

        Service.open(settings, common).close()


def _announce(settings: ServiceSettings) -> None:
    address = f"http://{shown_host(settings)}:{settings.port}"
    demo = (
        ""
        if load_common_settings().json_rpc_url
        else " (demo data; set JSON_RPC_URL for a real chain)"
    )
    sys.stderr.write(f"Serving {address}{demo}, {settings.workers} workers. API: {address}/docs\n")
