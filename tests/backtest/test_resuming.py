"""Slices, order and interruptions do not change what a run writes."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from src.backtest.__main__ import main
from src.backtest.output.output import Output, Part
from src.cli import CommandError
from src.settings import PROJECT_ROOT
from tests.backtest.data import (
    write_dataset,
)
from tests.backtest.runs import THRESHOLD, content_of, rows_of, run

CUT = ("--slice-transfers", "60")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, etl):
    """The output of a run in one slice."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(etl, out) == 0
    return out


@pytest.fixture(scope="module")
def cut(tmp_path_factory, etl):
    """The output of a run in several slices."""
    out = tmp_path_factory.mktemp("cut") / "out"
    assert run(etl, out, *CUT) == 0
    assert len(list((out / "journal").iterdir())) > 5
    return out


def test_slices_change_nothing_but_look_alikes_across_them(whole, cut):
    scores = ["anomaly_score", "block_number", "n_transfers", "prediction"]
    assert rows_of(whole)[scores].equals(rows_of(cut)[scores].loc[rows_of(whole).index])


def test_unordered_tables_are_put_in_order(tmp_path, history, cut):
    data, out = tmp_path / "data", tmp_path / "out"
    write_dataset(data, history)
    assert run(data, out, *CUT) == 0
    assert len(list((out / "journal").iterdir())) > 5
    scores = ["anomaly_score", "block_number", "n_transfers", "prediction"]
    straight = rows_of(cut)[scores]
    assert rows_of(out)[scores].loc[straight.index].equals(straight)


@pytest.mark.integration
def test_a_run_killed_at_four_moments_resumes_to_the_same_output(tmp_path, etl, cut):
    out = tmp_path / "out"
    arguments = ["--data", str(etl), "--out", str(out), "--threshold", str(THRESHOLD), *CUT]
    command = [
        sys.executable, "-m", "tests.backtest.killer", "0", "4", str(out), *arguments,
        "--workers", "2",
    ]  # fmt: skip
    found = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert int(found.stdout) >= 3  # the later ones may find nothing left to do
    assert run(etl, out, *CUT) == 0
    assert content_of(out) == content_of(cut)


def test_what_no_journal_vouches_for_is_done_again(tmp_path, etl, cut):
    out = tmp_path / "out"
    shutil.copytree(cut, out)
    entries = sorted((out / "journal").iterdir())
    entries[0].unlink()
    part = json.loads(entries[1].read_text())["parts"]
    (out / next(iter(part))).write_bytes(b"half")
    (out / "decisions" / ".unfinished-x").write_bytes(b"half")
    (out / ".unfinished-x-report.html").write_bytes(b"half")
    assert run(etl, out, *CUT) == 0
    assert content_of(out) == content_of(cut)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path, etl, whole, capfd):
    out = tmp_path / "out"
    with largest_file(4000):
        assert run(etl, out) == 1
    said = capfd.readouterr().err
    assert "File too large" in said
    assert "resumes" in said
    assert "Traceback" not in said
    assert list(out.rglob("*.parquet*")) == []
    assert run(etl, out) == 0
    assert content_of(out) == content_of(whole)


def test_two_runs_into_one_folder_are_refused(tmp_path, etl, capsys):
    with Output(tmp_path / "out").opened({}):
        assert run(etl, tmp_path / "out") == 1
    assert "another backtest is writing" in capsys.readouterr().err


def test_another_question_does_not_go_on_with_a_run(etl, whole, capsys):
    assert main(["--data", str(etl), "--out", str(whole), "--threshold", "0.9"]) == 1
    assert "another threshold" in capsys.readouterr().err


def test_names_that_have_changed_do_not_go_on_with_a_run(tmp_path, etl, capsys, monkeypatch):
    names = tmp_path / "names.csv"
    monkeypatch.setenv("ADDRESS_BOOK", str(names))
    for label, code in (("One", 0), ("One", 0), ("Two", 1)):
        names.write_text(f"0x{'1' * 40},{label}\n")
        assert run(etl, tmp_path / "out") == code
    assert "another address_book" in capsys.readouterr().err


def test_a_folder_with_something_else_is_left_alone(tmp_path, etl, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    assert run(etl, tmp_path) == 1
    assert "not empty and not a backtest" in capsys.readouterr().err


def test_a_failed_write_leaves_no_file_under_its_name(tmp_path):
    output = Output(tmp_path)
    with pytest.raises(TypeError):
        output.write_slice("1-2", [Part("decisions", "d", pa.table({"a": [1]}))], {"x": Unjson()})
    assert not list((tmp_path).rglob("*.json"))


class Unjson:
    """Cannot be written as JSON."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"parts": [], "run": []}', "{"])
def test_a_file_of_a_run_that_was_edited_wrongly_is_named(tmp_path: Path, text: str) -> None:
    output = Output(tmp_path)
    for name in ("summary.json", "journal/1-2.json"):
        output.write_text(name, text)
    output.write_text("run.json", "{}")
    with pytest.raises(CommandError, match=r"summary.json: is unreadable: .*; delete it"):
        output.summary()
    with pytest.raises(CommandError, match=r"1-2.json: is unreadable: .*; delete it"):
        output.entries()
