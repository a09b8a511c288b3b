"""The workers of a backtest: processes that may die, fail, be interrupted or be left alone.

Moments are not left to chance: what a worker does at a certain slice is put in its place, and
forked workers have it from their parent.
"""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.backtest.job import Job
from src.backtest.workers import METHOD, run_locally
from src.cli import CommandError
from src.datasets.store import StoredSlice
from src.demo.processes import supervised
from src.settings import PROJECT_ROOT
from tests.backtest.data import hostile_history, write_etl
from tests.backtest.runs import THRESHOLD, content_of, run
from tests.support.waiting import PATIENCE, wait_until

SLICES = ("--slice-transfers", "60")
forked = pytest.mark.skipif(METHOD != "fork", reason="workers would not have what is put in place")


@pytest.fixture(scope="module")
def etl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("etl")
    write_etl(folder, hostile_history(seed=5))
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, etl: Path) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("alone") / "out"
    assert run(etl, out, *SLICES, "--workers", "1") == 0
    assert len(list((out / "journal").iterdir())) > 8
    return content_of(out)


def at_slice(monkeypatch: pytest.MonkeyPatch, index: int, happening: Callable[[], None]) -> None:
    """Have this happen in whichever worker gets to this slice."""
    do = Job.run

    def run(self: Job, part: StoredSlice) -> int:  # by this name, by which it is sent
        if part.name == sorted(path.stem for path in self.store.glob("[0-9]*.parquet"))[index]:
            happening()
        return do(self, part)

    monkeypatch.setattr(Job, "run", run)


# How many, and how they are started


@pytest.mark.parametrize("workers", [2, 1000])
def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, etl: Path, expected: dict[str, bytes], workers: int
) -> None:
    assert run(etl, tmp_path / "out", *SLICES, "--workers", str(workers)) == 0
    assert content_of(tmp_path / "out") == expected


@pytest.mark.integration
def test_workers_that_are_not_forked_give_the_same_bytes(
    tmp_path: Path, etl: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.backtest.run.run_locally", partial(run_locally, method="spawn"))
    assert run(etl, tmp_path / "out", *SLICES) == 0
    assert content_of(tmp_path / "out") == expected


# Errors


@forked
@pytest.mark.parametrize(
    "error",
    [
        CommandError("transfers: damaged"),
        OSError(errno.ENOSPC, "No space left on device", "/some/file"),
        MemoryError("a large array"),
    ],
    ids=repr,
)
def test_an_error_in_a_worker_keeps_its_type_and_its_words(
    tmp_path: Path, etl: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    others = psutil.Process().children()
    at_slice(monkeypatch, 4, fail)
    raised: list[BaseException] = []

    def spied(*arguments: Any, **named: Any) -> None:
        try:
            run_locally(*arguments, **named)
        except Exception as found:
            raised.append(found)
            raise CommandError("seen") from found

    monkeypatch.setattr("src.backtest.run.run_locally", spied)
    assert run(etl, tmp_path / "out", *SLICES) == 1
    (found,) = raised
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert getattr(found, "filename", None) == getattr(error, "filename", None)
    assert "in fail" in str(found.__cause__)  # where it was raised
    assert psutil.Process().children() == others


@forked
@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
def test_a_killed_worker_is_told_and_the_same_command_resumes(
    tmp_path: Path,
    etl: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    last: bool,
) -> None:
    parent, out = os.getpid(), tmp_path / "out"
    others = psutil.Process().children()
    slices = len({Path(name).name for name in expected if name.startswith("decisions")})

    def die() -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as changed:
        at_slice(changed, slices - 1 if last else 2, die)
        assert run(etl, out, *SLICES) == 1
    said = capfd.readouterr().err
    assert "a worker process was killed" in said
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert psutil.Process().children() == others
    assert not (out / "summary.json").exists()
    assert len(list((out / "journal").iterdir())) > 0
    assert run(etl, out, *SLICES) == 0
    assert content_of(out) == expected


# Interrupts, and a parent that is gone

COMMAND = """
import signal, sys, time
from pathlib import Path
from src.backtest import workers
from src.backtest.__main__ import main
from src.backtest.job import Job
do, go_on = Job.run, Path(sys.argv[1])
workers._GRACE_SECONDS = float(sys.argv[2])
def run(self, part):
    entry = do(self, part)
    names = sorted(path.stem for path in self.store.glob("[0-9]*.parquet"))
    while names.index(part.name) % 5 == 2 and not go_on.exists():
        time.sleep(0.02)
    return entry
Job.run = run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
sys.exit(main(sys.argv[3:]))
"""


@contextmanager
def halted_run(
    etl: Path, out: Path, go_on: Path, grace: float = PATIENCE
) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """A run that is in the middle, where its workers wait for a file to appear; and its workers.

    An interrupt waits `grace` seconds for them.
    """
    arguments = ["--data", str(etl), "--out", str(out), "--threshold", str(THRESHOLD), *SLICES]
    with subprocess.Popen(
        supervised(
            [sys.executable, "-c", COMMAND, str(go_on), str(grace), *arguments, "--workers", "2"]
        ),
        cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until(lambda: len(list((out / "journal").glob("[0-9]*.json"))) >= 2)
            workers = psutil.Process(process.pid).children()
            assert len(workers) == 2
            yield process, workers
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@forked
@pytest.mark.integration
def test_a_killed_run_takes_its_workers_along_and_is_gone_on_with_at_once(
    tmp_path: Path, etl: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    with halted_run(etl, out, tmp_path / "never") as (process, workers):
        process.kill()
        process.wait()
        assert run(etl, out, *SLICES) == 0
        assert content_of(out) == expected
        gone, alive = psutil.wait_procs(workers, PATIENCE)
        assert len(gone) == 2, alive


@forked
@pytest.mark.parametrize(
    ("are_stuck", "grace"), [(False, PATIENCE), (True, 0.2)], ids=["end their slices", "are stuck"]
)
@pytest.mark.integration
def test_an_interrupt_ends_all_processes(
    tmp_path: Path, etl: Path, expected: dict[str, bytes], are_stuck: bool, grace: float
) -> None:
    out, go_on = tmp_path / "out", tmp_path / "go on"
    with halted_run(etl, out, go_on, grace) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)  # as the terminal sends it
        if not are_stuck:
            go_on.touch()
        _, said = process.communicate()
        assert process.returncode == 130
        assert "interrupted; the same command resumes" in said
        assert "Traceback" not in said
        assert not any(worker.is_running() for worker in workers)
    assert not (out / "summary.json").exists()
    assert run(etl, out, *SLICES) == 0
    assert content_of(out) == expected
