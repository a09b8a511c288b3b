"""`npm run serve` as people start it: several workers, one port, one database."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from src.service import report
from src.service.__main__ import main
from src.service.database import jobs
from src.service.database.engine import Database
from src.settings import DEFAULT_POLICY_PATH
from tests.service.chain import THEFT, sqlite_url
from tests.service.database.rows import store, transaction
from tests.service.serving import serving, without_node
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
DECISIONS = (
    'token_transfers_http_requests_total{method="POST",'
    'route="/transactions/{tx_hash}/decision",status="200"}'
)


def value_of(url: str, sample: str) -> float | None:
    """The sample's value, the sum over all workers whichever answers; None where it is not."""
    text = requests.get(f"{url}/metrics", timeout=PATIENCE).text
    values: list[str] = re.findall(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(values[0]) if values else None


def policy_gauge(policy: Path) -> str:
    digest = hashlib.sha256(policy.read_bytes()).hexdigest()
    return f'token_transfers_policy_info{{sha256="{digest}"}}'


def test_two_workers_serve_outlive_kills_and_end_with_their_database(tmp_path: Path) -> None:
    """Each policy has a gauge of its own, so that a worker's gauges can be told from another's."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(DEFAULT_POLICY_PATH.read_text())

    def workers() -> set[int]:
        files = tmp_path.glob("serve-*/metrics/gauge_livemax_*.db")
        return {int(file.stem.split("_")[-1]) for file in files}

    with serving(tmp_path, POLICY_PATH=str(policy)) as (url, process):
        old = policy_gauge(policy)
        wait_until(lambda: len(workers()) == 2, process)
        answers = {
            requests.post(f"{url}/transactions/{THEFT}/decision", timeout=PATIENCE).text
            for _ in range(20)
        }
        assert len(answers) == 1
        analyse_twice(url, process)
        assert value_of(url, DECISIONS) == 20
        first, second = workers()
        assert value_of(url, old) == 1

        with policy.open("a") as text:
            text.write("# of the workers to come\n")
        new = policy_gauge(policy)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(workers() - {first}) == 2, process)  # a cheaper question
        wait_until(lambda: value_of(url, new) == 1, process)
        assert value_of(url, old) == 1

        os.kill(second, signal.SIGKILL)
        wait_until(lambda: value_of(url, old) is None, process)
        assert value_of(url, new) == 1
        assert value_of(url, DECISIONS) == 20
        assert_ends_without(tmp_path, "-wal", process)


def analyse_twice(url: str, process: "subprocess.Popen[Any]") -> None:
    """Have the chain's last blocks analysed, in the request and as a job."""
    last = {"start_block": 340, "end_block": 385}
    entries = requests.post(f"{url}/anomaly_detection/", json=last, timeout=PATIENCE).json()
    assert entries
    job = requests.post(
        f"{url}/anomaly_detection/",
        json=last,
        headers={"Prefer": "respond-async"},
        timeout=PATIENCE,
    ).json()

    def status() -> str:
        return str(requests.get(url + job["url"], timeout=PATIENCE).json()["status"])

    wait_until(lambda: status() not in {"queued", "running"}, process)
    assert status() == "done"


def test_wrong_settings_are_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE_HOST", "0.0.0.0")
    assert main(["--check"]) == 2
    assert "SERVICE_API_KEYS" in capsys.readouterr().err
    monkeypatch.setenv("SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/d")
    assert main(["--check"]) == 2
    assert "DATABASE_URL" in (told := capsys.readouterr().err)
    assert "hunter2" not in told


def test_the_settings_can_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url(tmp_path))
    monkeypatch.delenv("JSON_RPC_URL", raising=False)
    with closing(Database(sqlite_url(tmp_path))) as database:
        database.migrate()
        with database.writing() as connection:
            jobs.add_job(connection, "waiting", 1, {"start_block": 0}, total=1, now=1.0)
        assert main(["--check"]) == 0
        with database.reading() as connection:
            job = jobs.find_job(connection, "waiting")
    assert "are valid" in capsys.readouterr().out
    assert job is not None
    assert (job.status, job.started_at) == ("queued", None)  # a check takes no work on


@pytest.mark.parametrize("name", ["FRAUD_MODEL_PATH", "DRIFT_REFERENCE"])
def test_a_file_that_a_setting_names_and_is_not_there_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url(tmp_path))
    monkeypatch.delenv("JSON_RPC_URL", raising=False)
    monkeypatch.setenv(name, str(tmp_path / "mistyped"))
    assert main(["--check"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"serve: {name}")
    assert "mistyped" in told


def test_a_database_of_later_code_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url(tmp_path))
    database = Database(sqlite_url(tmp_path))
    database.migrate()
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    database.close()
    assert main(["--check"]) == 2
    told = capsys.readouterr().err
    assert "was written by a newer version of this program: update the program" in told
    assert "Traceback" not in told


def test_a_file_that_is_no_database_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").write_text("<html>" * 1000)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'report.html'}")
    assert main(["--check"]) == 2
    told = capsys.readouterr().err
    assert "cannot be used (file is not a database); see DATABASE_URL" in told


def test_a_report_without_a_node_is_of_the_embedded_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a user has it: forta.config.json names a node for the CLI, which is not running.
    for name in [name for name in os.environ if name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", sqlite_url(tmp_path))
    out = tmp_path / "report.html"
    assert report.main([THEFT, "--out", str(out)]) == 0
    assert THEFT in out.read_text()


def test_the_demo_does_not_join_a_real_chains_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)
    url = sqlite_url(tmp_path)
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(["--check"]) == 0
    assert main(["--check"]) == 0, "what the demo itself has stored is no obstacle"
    database = Database(url)
    store(database, transaction(block_number=20_000_000))
    database.close()
    assert main(["--check"]) == 2
    assert "JSON_RPC_URL must be set" in capsys.readouterr().err


def test_a_port_in_use_ends_the_service_with_the_documented_code(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = subprocess.run(
            [sys.executable, "-m", "src.service", "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            env={**without_node(), "DATABASE_URL": sqlite_url(tmp_path)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ended.returncode == 1
    assert "already in use" in ended.stderr


SERVE_BY = """
import multiprocessing, sys
from src.service.__main__ import main
multiprocessing.set_executable(sys.argv.pop(1))
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("interpreter", "policy", "reason"),
    [
        ("/nothing/python", DEFAULT_POLICY_PATH, "ended with exit code"),
        (sys.executable, "/nothing/policy.yaml", "/nothing/policy.yaml"),
    ],
)
def test_workers_that_cannot_start_end_the_service_with_the_documented_code(
    tmp_path: Path, interpreter: str, policy: object, reason: str
) -> None:
    """Neither an interpreter that cannot be executed nor a policy is checked before they start."""
    ended = subprocess.run(
        [sys.executable, "-c", SERVE_BY, interpreter, "--port", "0", "--workers", "2"],
        cwd=ROOT,
        env={
            **without_node(), "DATABASE_URL": sqlite_url(tmp_path), "TMPDIR": str(tmp_path),
            "POLICY_PATH": str(policy),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert reason in ended.stderr
    assert "no worker can start" in ended.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("serve-*"))


KILLED = """
import multiprocessing, os, signal, sys, time
from src.service.http.server import end_with_parent

def work(ready):
    end_with_parent()
    ready.set()
    time.sleep(3600)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    spawn.Process(target=work, args=(ready,)).start()
    ready.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_ends_with_the_process_that_started_it_also_if_that_is_killed(
    tmp_path: Path,
) -> None:
    """Until the worker ends it holds the other end of the pipe."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    killed = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL


def test_a_deleted_database_ends_the_service_with_a_message(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as (_, process):
        assert_ends_without(tmp_path, "", process)


def assert_ends_without(folder: Path, suffix: str, process: "subprocess.Popen[Any]") -> None:
    """Delete a file of the database."""
    Path(f"{sqlite_url(folder).removeprefix('sqlite:///')}{suffix}").unlink()
    assert process.wait(PATIENCE) == 1
    said = (folder / "service.log").read_text()
    assert said.splitlines()[-1].startswith("serve: sqlite:///")
    assert "was deleted or replaced" in said
