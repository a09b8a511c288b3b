"""Spark gives the same bytes, also by machines without this project, one of which is killed.

Needs PySpark (`npm run setup:spark`) and Java 17; skipped where they are missing.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from scripts import package_spark
from src.datasets.tables import TableError
from src.demo.processes import free_port, supervised
from src.detection.bundle_files import manifest_path
from src.detection.signature import new_private_key, public_key
from src.history.importing import ImportOptions, import_history
from src.history.spark import spark_session
from src.registry.sign import sign_model, write_signature
from src.settings import PROJECT_ROOT
from tests.backtest.data import (
    hostile_history,
    write_cryo,
    write_dataset,
    write_etl,
    write_etl_logs,
)
from tests.backtest.runs import THRESHOLD, content_of, rows_of, run
from tests.support.waiting import PATIENCE, wait_until

FOUND = importlib.util.find_spec("pyspark")
SPARK = Path(FOUND.origin if FOUND and FOUND.origin else "").parent
PYTHON = Path(sys.executable).resolve()
"""Without the packages of the project's environment."""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        FOUND is None,
        reason="PySpark is not installed (npm run setup:spark)",
    ),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed"),
]

SLICES = ["--slice-transfers", "100"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("etl")
    write_etl(folder, hostile_history(seed=1, blocks=80))
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory, data, address_book):
    out = tmp_path_factory.mktemp("local") / "out"
    assert run(data, out, *SLICES) == 0
    assert rows_of(out, "alerts")["reasons"].str.contains("Number [0-9]+ \\(0x").any()
    return content_of(out)


@pytest.fixture(scope="module", autouse=True)
def address_book(tmp_path_factory):
    """Names of the operator's own, which Spark has to send."""
    history = hostile_history(seed=1, blocks=80)
    accounts = dict.fromkeys(m.sender for t in history for m in t.transfers)
    path = tmp_path_factory.mktemp("names") / "names.csv"
    path.write_text("".join(f"{one},Number {at}\n" for at, one in enumerate(accounts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADDRESS_BOOK", str(path))
        yield


@pytest.fixture(scope="module")
def session():
    """A session whose workers are processes on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        with spark_session("test", "local[2]", None) as spark:
            yield spark


def imported(data, out, spark):
    options = ImportOptions(slice_transfers=200)
    return import_history(str(data), out, options, lambda _: lambda _: None, spark)


LAYOUTS = {
    "data set": write_dataset,
    "ethereum-etl logs": write_etl_logs,
    "cryo": partial(write_cryo, logs=False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spark_imports_what_duckdb_imports(tmp_path, session, layout):
    LAYOUTS[layout](tmp_path / "data", hostile_history(seed=2, blocks=20))
    stores = [imported(tmp_path / "data", tmp_path / str(one), one) for one in (None, session)]
    assert len(stores[0].slices) > 2
    assert stores[0].facts == stores[1].facts
    for part in stores[0].slices:
        assert stores[0].path(part).read_bytes() == stores[1].path(part).read_bytes()


def test_a_value_that_is_none_is_an_error_that_names_it(tmp_path, session):
    history = hostile_history(seed=2, blocks=20)
    history[3].sender = "0x" + "z" * 40
    write_etl(tmp_path / "data", history)
    with pytest.raises(TableError, match="parquet: from_address is not an address"):
        imported(tmp_path / "data", tmp_path / "out", session)


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


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """Signed models, whose files have equal names, and a signed policy."""
    key = new_private_key()
    monkeypatch.setenv("MODEL_PUBLIC_KEY", public_key(key))
    for kind, file in (("MODEL", "isolation_forest.pkl"), ("ATTACK_MODEL", "attack_model.npz")):
        model = tmp_path / kind / f"model{Path(file).suffix}"
        model.parent.mkdir()
        shutil.copy(PROJECT_ROOT / file, model)
        shutil.copy(manifest_path(PROJECT_ROOT / file), manifest_path(model))
        sign_model(model, key)
        monkeypatch.setenv(f"{kind}_PATH", str(model))
    policy = shutil.copy(PROJECT_ROOT / "policy.yaml", tmp_path / "policy.yaml")
    write_signature(policy, key)
    monkeypatch.setenv("POLICY_PATH", str(policy))


@pytest.mark.usefixtures("signed")  # which are sent
def test_machines_without_the_project_give_the_same_bytes_also_when_one_is_killed(
    tmp_path, data, expected, monkeypatch
):
    monkeypatch.setattr(package_spark, "_GZIP_LEVEL", 0)  # no network is saved anything
    out, archives = tmp_path / "out", tmp_path / "archives"
    assert package_spark.main(["--out", str(archives)]) == 0
    with cluster() as (master, workers, page):
        with on_spark(data, out, master, archives) as job:
            journal = out / "journal"
            wait_until(lambda: any(journal.glob("*.json")), job)
            os.killpg(workers[0].pid, signal.SIGKILL)
            assert job.wait(PATIENCE) == 0
        assert alive_workers(page) == 1
    assert content_of(out) == expected


@contextmanager
def on_spark(
    data: Path, out: Path, master: str, archives: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = ["--data", data, "--out", out, "--threshold", str(THRESHOLD), *SLICES]
    arguments += ["--engine", "spark", "--master", master, "--archives", archives]
    command = [sys.executable, "-m", "src.backtest", *arguments]
    environ = environment(str(PYTHON))
    job = subprocess.Popen(supervised(command), cwd=PROJECT_ROOT, env=environ)
    try:
        yield job
    finally:
        job.kill()
        job.wait()


def environment(python: str = sys.executable) -> dict[str, str]:
    return {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_CONF_DIR": str(Path(__file__).parent / "spark"),
        "PYSPARK_PYTHON": python,
        "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # start sooner
    }


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
                elsewhere(
                    stack.enter_context(scratch()),
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


HIDE = """
mount --bind "$1" "$2" && mount -t tmpfs none "$3" && mount -t tmpfs none "$4" || exit 1
cd "$2" && shift 4 && exec bash bin/spark-class "$@"
"""


def elsewhere(place: str, *arguments: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """A process that sees Spark at a place of its own, and no file of this project."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return spark_class(*arguments)  # only root may hide files
    hidden = [str(folder.resolve()) for folder in (Path(sys.prefix), PROJECT_ROOT)]
    return started(
        ["unshare", "--mount", "bash", "-c", HIDE, "bash", str(SPARK), place, *hidden, *arguments]
    )


def spark_class(*arguments: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    return started(["bash", str(SPARK / "bin" / "spark-class"), *arguments])


@contextmanager
def started(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        supervised(command),
        env=environment(str(PYTHON)),
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
