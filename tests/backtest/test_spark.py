"""Spark gives the same bytes, also when one of two workers is killed in the middle.

Needs PySpark (`npm run setup:spark`) and Java 17; skipped where they are missing.
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from src.demo.processes import supervised
from src.settings import PROJECT_ROOT
from tests.backtest.data import hostile_history, write_etl
from tests.backtest.runs import THRESHOLD, content_of, run
from tests.support.waiting import PATIENCE, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None,
        reason="PySpark is not installed (npm run setup:spark)",
    ),
    pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed"),
]

SLICES = ["--slice-transfers", "40"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("etl")
    write_etl(folder, hostile_history(seed=1, blocks=80))
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("local") / "out"
    assert run(data, out, *SLICES) == 0
    return content_of(out)


def test_spark_gives_the_same_bytes_as_one_machine(tmp_path, data, expected):
    with on_spark(data, tmp_path / "out", "local[2]") as job:
        assert job.wait(PATIENCE) == 0
    assert content_of(tmp_path / "out") == expected


def test_the_error_without_java_names_the_package(tmp_path, data):
    tools = tmp_path / "bin"  # what PySpark's scripts call, and no Java
    tools.mkdir()
    for name in ("bash", "env", "dirname", "ps", "uname", "nice"):
        (tools / name).symlink_to(shutil.which(name) or "/nowhere")
    command = [sys.executable, "-m", "src.backtest", "--data", str(data), "--engine", "spark"]
    poor = {"PATH": str(tools)} | {k: v for k, v in os.environ.items() if k == "HOME"}
    found = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], cwd=PROJECT_ROOT, env=poor, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert "--engine spark needs Java 17" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_killed_worker_changes_nothing(tmp_path, data, expected):
    out = tmp_path / "out"
    with cluster() as (master, workers, page):
        with on_spark(data, out, master) as job:
            journal = out / "journal"
            wait_until(lambda: any(journal.glob("*.json")), job)
            os.killpg(workers[0].pid, signal.SIGKILL)
            assert job.wait(PATIENCE) == 0
        assert alive_workers(page) == 1
    assert content_of(out) == expected


@contextmanager
def on_spark(data: Path, out: Path, master: str) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = ["--data", data, "--out", out, "--threshold", str(THRESHOLD), *SLICES]
    command = [sys.executable, "-m", "src.backtest", *arguments, "--engine", "spark"]
    job = subprocess.Popen(
        supervised([*command, "--master", master]), cwd=PROJECT_ROOT, env=environment()
    )
    try:
        yield job
    finally:
        job.kill()
        job.wait()


def environment() -> dict[str, str]:
    return {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}


@contextmanager
def cluster() -> Iterator[tuple[str, list["subprocess.Popen[bytes]"], str]]:
    """A standalone cluster of two workers on loopback."""
    port, page = free_port(), free_port()
    page_url = f"http://127.0.0.1:{page}/json/"
    master = f"spark://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.enter_context(
            spark_class(
                "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1",
                "--port", str(port), "--webui-port", str(page),
            )
        )  # fmt: skip
        wait_until(lambda: alive_workers(page_url) == 0)
        workers = [
            stack.enter_context(
                spark_class(
                    "org.apache.spark.deploy.worker.Worker", master, "--host", "127.0.0.1",
                    "--cores", "1", "--memory", "2g", "--webui-port", "0",
                    "--work-dir", stack.enter_context(scratch()),
                )
            )
            for _ in range(2)
        ]  # fmt: skip
        wait_until(lambda: alive_workers(page_url) == 2)
        yield master, workers, page_url


@contextmanager
def scratch() -> Iterator[str]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield folder


@contextmanager
def spark_class(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    script = Path(spec.origin).parent / "bin" / "spark-class"
    process = subprocess.Popen(
        supervised(["bash", script, *arguments]),
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def alive_workers(page: str) -> int:
    try:
        with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
            return int(json.load(answer)["aliveworkers"])
    # Nobody listens yet, or the page for people answers before the one for programs is there.
    except (OSError, json.JSONDecodeError):
        return -1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
