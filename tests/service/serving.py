"""`npm run serve` as people start it, on the embedded demo's chain."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from src.demo.processes import free_port, stop, supervised
from tests.service.chain import sqlite_url
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]


def without_node() -> dict[str, str]:
    """The environment without a node: the demo's chain is served."""
    unwanted = ("JSON_RPC", "FORTA_", "SERVICE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
    except requests.ConnectionError:
        return False


@contextmanager
def serving(
    folder: Path, *, workers: int = 2, **environment: str
) -> Iterator[tuple[str, "subprocess.Popen[Any]"]]:
    """The service on a database in this folder: its URL and its process.

    It writes `service.log`. SIGTERM ends it in good order, if it has not ended before.
    """
    port = free_port()
    log = folder / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            supervised(
                [
                    sys.executable, "-m", "src.service",
                    "--port", str(port), "--workers", str(workers),
                ],
                folder,
            ),
            cwd=ROOT,
            env={
                **without_node(),
                "DATABASE_URL": sqlite_url(folder),
                "TMPDIR": str(folder),
                "LOOKUP_DEADLINE_SECONDS": "25",
                **environment,
            },
            stdout=output,
            stderr=output,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_ready(url), process)
        yield url, process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    except AssertionError as error:
        error.add_note(log.read_text()[-3000:])
        raise
    finally:
        stop(process)
