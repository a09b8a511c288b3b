"""Nothing that the tests or the demo start outlives them, however they end."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from src.demo.processes import running, supervised
from tests.support.processes import command_line, names, temporary_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files, with a path that is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def wait_for(happened: Callable[[], bool]) -> None:
    while not happened():  # the test's own timeout ends it
        time.sleep(0.05)


def of(temporary: Path) -> list[psutil.Process]:
    """The processes that have this folder for their temporary files, or a file in it."""
    return [
        process
        for process in psutil.process_iter()
        if any(
            str(temporary) in word for word in (temporary_folder(process), *command_line(process))
        )
    ]


def stopped_run(which: str) -> list[str]:
    without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "pytest_httpserver")]
    script = str(ROOT / "tests" / "support" / "stopped_run.py")
    return [
        sys.executable, "-m", "pytest", "-n", "1", "--timeout=0", *without, "-k", which, script
    ]  # fmt: skip


def through_npm(command: list[str], folder: Path) -> list[str]:
    script = f"cd {shlex.quote(str(ROOT))} && {shlex.join(command)}"
    (folder / "package.json").write_text(json.dumps({"scripts": {"test": script}}))
    return ["npm", "--prefix", str(folder), "test"]


@pytest.mark.integration
@pytest.mark.timeout(1200)  # two test runs and all their servers
@pytest.mark.parametrize(
    ("which", "number", "npm"),
    [
        ("few", signal.SIGTERM, False),
        ("every", signal.SIGKILL, True),
    ],
    ids=["terminated", "npm killed"],
)
def test_a_stopped_test_run_leaves_no_server_and_no_folder(
    which: str, number: signal.Signals, npm: bool, temporary: Path, tmp_path: Path
) -> None:
    command = stopped_run(which)
    with (
        (tmp_path / "run.log").open("wb") as log,
        running(
            through_npm(command, tmp_path) if npm else command,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=log,
        ) as run,
    ):
        ready = "pytest-of-*/**/ready"
        wait_for(lambda: any(temporary.glob(ready)) or run.poll() is not None)
        assert run.poll() is None, (tmp_path / "run.log").read_text()
        started = {*psutil.Process(run.pid).children(recursive=True), *of(temporary)}
        assert names(started) >= {"anvil", "postgres"}
        if which == "every":
            assert names(started) >= {"weed", "chromium", "node"}
        run.send_signal(number)
        run.wait()
        psutil.wait_procs(started)
        assert of(temporary) == []
    left = [path.name for path in temporary.iterdir()]
    assert [name for name in left if not name.startswith("pytest-of-")] == []


@pytest.mark.integration
def test_a_killed_demo_leaves_no_chain_and_no_folder(temporary: Path) -> None:
    with running(
        [sys.executable, "-m", "src.demo", "--keep"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as demo:
        wait_for(lambda: "anvil" in names(of(temporary)))
        started = of(temporary)
        demo.kill()
        demo.wait()
        psutil.wait_procs(started)
    assert list(temporary.iterdir()) == []


def test_a_command_whose_caller_is_gone_does_not_start(tmp_path: Path) -> None:
    started = tmp_path / "started"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = supervised(["touch", started], tmp_path / "folder")
    orphan = [str(gone.pid) if word == str(os.getpid()) else word for word in mine]
    (tmp_path / "folder").mkdir()
    assert subprocess.run(orphan, check=False, stderr=subprocess.DEVNULL).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_command_keeps_its_exit_code_output_and_signals(tmp_path: Path) -> None:
    talk = supervised(["sh", "-c", "echo said; exit 7"])
    done = subprocess.run(talk, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "")
    folder = tmp_path / "folder"
    folder.mkdir()
    with running(["sleep", "600"], folder=folder) as process:
        assert psutil.Process(process.pid).children() == []
    assert process.returncode == -signal.SIGTERM
    assert folder.exists()  # whoever lives cleans up


@pytest.mark.skipif(sys.platform != "linux", reason="there is no watcher elsewhere")
def test_a_caller_that_is_killed_after_its_command_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    caller = f"""
import sys; from pathlib import Path; from src.demo.processes import running
with running(["true"], folder=Path({str(folder)!r})) as process:
    process.wait()
print("ended", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        supervised([sys.executable, "-c", caller]), cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ended\n"
        (watcher,) = [one for one in psutil.process_iter() if str(folder) in command_line(one)]
        looked = watcher.num_ctx_switches().voluntary
        wait_for(  # until it has looked twice at what is left
            lambda: not watcher.is_running() or watcher.num_ctx_switches().voluntary > looked + 2
        )
        process.kill()
        psutil.wait_procs([watcher])
    assert not folder.exists()


def test_every_process_that_tests_start_is_supervised() -> None:
    for folder in ("src/demo", "tests", "fuzz"):
        for path in (ROOT / folder).rglob("*.py"):
            started = re.findall(r"subprocess\.Popen\(\s*(?!supervised)\w.*", path.read_text())
            assert path == Path(__file__) or started == [], path
