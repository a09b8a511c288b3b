"""Every Python command of package.json: its help, and one line for whatever is wrong with it."""

import ctypes
import importlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from src import cli
from src.demo.processes import supervised
from src.settings import SETTINGS
from src.variables import SettingsError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = re.compile(
    r"node scripts/run\.mjs (?:--(?:needs|service-for) \S+ )?python -m (?!pip )(\S+)"
)
SCRIPTS: dict[str, str] = json.loads((ROOT / "package.json").read_text())["scripts"]
COMMANDS = {
    name: found[1] for name, line in SCRIPTS.items() if (found := PYTHON.match(line)) is not None
}


def main_of(name: str) -> Callable[[list[str]], int]:
    module = COMMANDS[name]
    if (ROOT / module.replace(".", "/")).is_dir():
        module += ".__main__"
    main: Callable[[list[str]], int] = importlib.import_module(module).main
    return main


def run(name: str, arguments: list[str]) -> int:
    try:
        return main_of(name)(arguments)
    except SystemExit as stop:  # argparse ends --help and wrong usage so
        return stop.code if isinstance(stop.code, int) else 1


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_CAPABILITY_VERSION = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: see capabilities(7)


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Without root's right to read and write everything.

    The user stays the same: another one might not be able to enter the folder of this checkout.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable: of capabilities 0 to 31, then of the rest.
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(ctypes.byref(header), sets) == 0
    before = sets[0]
    sets[0] = before & ~_OVERRIDES
    assert libc.capset(ctypes.byref(header), sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(ctypes.byref(header), sets) == 0


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name in SETTINGS or name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    """Paths by what is wrong with them, below a folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="commands-") as folder:
        base = Path(folder)
        base.chmod(0o777)
        unreadable = base / "unreadable.csv"
        unreadable.write_text("tx_hash,from_address\n")
        (base / "empty.csv").write_text("")
        (base / "binary.csv").write_bytes(b"\xff\xfe\x00\x80" * 20)
        for name in ("locked", "readonly", "empty"):
            (base / name).mkdir()
        (base / "empty").chmod(0o777)
        (base / "locked" / "recording.json").write_text("{}")
        unreadable.chmod(0)
        (base / "locked").chmod(0)
        (base / "readonly").chmod(0o555)
        yield {
            "LOCKED": str(base / "locked"),
            "READONLY": str(base / "readonly"),
            "FOLDER": str(base / "empty"),
            "UNREADABLE": str(unreadable),
            "EMPTY": str(base / "empty.csv"),
            "BINARY": str(base / "binary.csv"),
            "MISSING": str(base / "missing"),
        }
        (base / "locked").chmod(0o755)
        (base / "readonly").chmod(0o755)


def test_the_commands_are_found() -> None:
    assert {"demo", "train", "serve", "fuzz", "bench"} <= COMMANDS.keys()
    assert len(COMMANDS) > 25


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, ["--help"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    usage, _, rest = told.out.partition("\n\n")
    assert usage.startswith(f"usage: npm run {name} --")
    assert f"  npm run {name}\n" in rest or f"npm run {name} -- " in rest


WRONG = [
    (name, "--runs x" if name == "bench:backtest" else "--no-such-option", "--")
    for name in COMMANDS
    if name != "sign"
] + [
    ("sign", "", "MODEL_SIGNING_KEY"),
    ("backtest", "--data LOCKED --out MISSING", "LOCKED"),
    ("backtest", "--data MISSING --out MISSING", "MISSING"),
    ("backtest", "--data FOLDER --out READONLY/run", "READONLY/run: Permission denied"),
    ("backtest", "--data FOLDER --out EMPTY", "is not a folder"),
    ("backtest", "--from-block 1 --to-block 2 --out MISSING", "JSON_RPC_URL"),
    ("bench", "--out READONLY/x.json", "READONLY/x.json: Permission denied"),
    ("bench:backtest", "--data MISSING", "MISSING"),
    ("bench:backtest", "--data LOCKED", "LOCKED"),
    ("collect", "--url http://127.0.0.1:1 --out FOLDER --blocks UNREADABLE", "Permission denied"),
    ("collect", "--url http://127.0.0.1:1 --out FOLDER --blocks MISSING.csv", "no such file"),
    ("collect", "--url http://127.0.0.1:1 --out FOLDER --blocks BINARY", "not UTF-8 text"),
    ("collect", "--url http://127.0.0.1:1 --out FOLDER --blocks EMPTY", "EMPTY"),
    ("collect", "--from-block 1 --to-block 2 --out READONLY/x", "READONLY/x: Permission denied"),
    ("demo", "--port 80808", "'80808' is not a whole number from 0 to 65535"),
    ("drift", "--reference LOCKED --current FOLDER", "LOCKED"),
    ("drift", "--reference UNREADABLE --current FOLDER", "UNREADABLE: Permission denied"),
    ("drift", "--reference BINARY --current FOLDER", "BINARY: not UTF-8 text"),
    ("drift", "--reference FOLDER --save-reference READONLY/x", "READONLY/x: Permission denied"),
    ("evaluate", "--data LOCKED --out MISSING", "LOCKED"),
    ("evaluate", "--data FOLDER --out EMPTY", "is not a folder"),
    ("evaluate:rules", "--data LOCKED --out MISSING", "LOCKED"),
    ("fuzz", "--target events --replay zz", "'zz' is not bytes in hexadecimal"),
    ("fuzz", "--json READONLY/x.json", "READONLY/x.json: Permission denied"),
    ("fuzz", "--json FOLDER", "Is a folder, not a file"),
    ("image:check", "--transactions 0", "'0' is not a whole number from 1 up"),
    ("models", "--store MISSING list", "no store at MISSING"),
    ("models", "--store LOCKED/x list", "LOCKED"),
    ("models", "--store FOLDER add MISSING", "isolation_forest.pkl"),
    ("models", "--store FOLDER promote nonsense", "no store at FOLDER"),
    ("models", "list", "STORE_URL"),
    ("policy", "--check MISSING", "no such file"),
    ("policy", "--check UNREADABLE", "cannot be read: Permission denied"),
    ("policy", "--check BINARY", "cannot be read: not UTF-8 text"),
    ("policy", "--check EMPTY", "the file is empty"),
    ("policy", "--chain x", "'x' is neither a chain id nor one of arbitrum"),
    ("record", "--from-block x --to-block 2 --out MISSING", "'x' is not a whole number from 0 up"),
    ("record", "--from-block 1 --to-block 2 --out MISSING", "JSON_RPC_URL"),
    ("record", "--from-block 1 --to-block 2 --out READONLY/x", "READONLY/x: Permission denied"),
    ("replay", "--data LOCKED", "LOCKED"),
    ("replay", "--data MISSING", "npm run record"),
    ("replay", "--data FOLDER --port x", "'x' is not a whole number"),
    ("report", "hello", "hex digits"),
    ("report", f"0x{'0' * 64} --node ftp://x", "http://"),
    ("report", f"0x{'0' * 64} --out READONLY/x.html", "READONLY/x.html: Permission denied"),
    ("retrain", "--store MISSING", "no store at MISSING"),
    ("retrain", "--store FOLDER --data MISSING", "MISSING"),
    ("retrain", "--store FOLDER --kind fraud --label L --data UNREADABLE", "Permission denied"),
    ("retrain", "--jobs x", "'x' is not a whole number from 1 up"),
    ("sbom", "--out READONLY/x", "READONLY/x: Permission denied"),
    ("score", "--transactions UNREADABLE --transfers EMPTY --out FOLDER/s.csv", "Permission"),
    ("score", "--transactions EMPTY --transfers EMPTY --out FOLDER/s.csv", "EMPTY"),
    ("score", "--transactions MISSING.csv --transfers EMPTY --out FOLDER/s.csv", "no such file"),
    ("score", "--transactions FOLDER --transfers EMPTY --out FOLDER/s.csv", "folder, not a file"),
    ("score", "--transactions EMPTY --transfers EMPTY --out READONLY/s.csv", "Permission denied"),
    ("score", "--transactions EMPTY --transfers EMPTY --out FOLDER/s.doc", ".parquet, .csv"),
    ("serve", "--port 80808", "--port: '80808' is not a whole number from 0 to 65535"),
    ("serve", "--workers 0", "--workers: '0' is not a whole number from 1 to 64"),
    ("sign", "MISSING", "MISSING: No such file"),
    ("sign", "UNREADABLE", "UNREADABLE: Permission denied"),
    ("soak", "--json READONLY/x", "READONLY/x: Permission denied"),
    ("soak", "--recording FOLDER", "FOLDER"),
    ("stats", "--bot x", "'x' is not a bot id"),
    ("stats", f"--bot 0x{'0' * 64} --date x", "'x' is not a day"),
    ("stats", f"--bot 0x{'0' * 64} --html READONLY/x", "READONLY/x: Permission denied"),
    ("threshold", "--rate 2", "'2' is not a number above 0 and at most 1"),
    ("threshold", "--rate x", "'x' is not a number"),
    ("threshold", "--rate 0.004 --model MISSING", "missing.manifest.json is missing"),
    ("threshold", "--rate 0.004 --model LOCKED/m", "LOCKED"),
    ("train", "--data LOCKED --out FOLDER", "LOCKED"),
    ("train", "--data FOLDER --out READONLY/x", "READONLY/x: Permission denied"),
    ("train", "--data FOLDER --out FOLDER", "neither a recording"),
    ("train:attack", "--data LOCKED --out FOLDER", "LOCKED"),
    ("train:attack", "--data FOLDER --out READONLY/x", "READONLY/x: Permission denied"),
    ("train:attack", "--data FOLDER --out FOLDER", "neither a recording"),
    ("train:fraud", "--data UNREADABLE --label x --out MISSING", "Permission denied"),
    ("train:fraud", "--data EMPTY --label x --out MISSING", "EMPTY"),
    ("train:fraud", "--data MISSING.csv --label x --folds 1", "'1' is not a whole number from 2"),
    ("train:fraud:dataset", "--data LOCKED --out MISSING.csv", "LOCKED"),
    ("train:fraud:dataset", "--data FOLDER --out READONLY/x.csv", "Permission denied"),
    ("watch", "--from-block x", "'x' is not a whole number"),
    ("watch", "", "JSON_RPC_URL"),
    ("guard", "--upstream http://127.0.0.1:1", "--on-unknown"),
    ("guard", "--on-unknown pass --upstream ftp://x", "not an http:// or https:// URL"),
    ("guard", "--on-unknown pass", "--upstream URL"),
    ("guard", "--on-unknown pass --allow eth_sendTransaction", "sends what the guard cannot read"),
    ("guard", "--on-unknown pass --allow arb*x", "a method is a name"),
]


@pytest.mark.parametrize(("name", "arguments", "said"), WRONG)
def test_what_is_wrong_is_one_line(
    name: str,
    arguments: str,
    said: str,
    places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def placed(text: str) -> str:
        for place, path in places.items():
            text = text.replace(place, path)
        return text

    if name == "sign" and arguments:
        monkeypatch.setenv("MODEL_SIGNING_KEY", "5e" * 32)
    main_of(name)  # what is imported now needs no rights later
    needs_rights = {"LOCKED", "READONLY", "UNREADABLE"} & set(re.findall(r"[A-Z]+", arguments))
    with bound_by_permissions() if needs_rights else nullcontext():
        code = run(name, placed(arguments).split())
    told = capsys.readouterr()
    assert code in {1, 2}, told.err
    assert told.out == ""
    last = told.err.splitlines()[-1]
    assert last.startswith(f"{name}: ")
    assert placed(said) in last
    for pythonic in ("Traceback", "Errno", "Error", ".unfinished", "invalid literal", " value: "):
        assert pythonic not in last


@pytest.mark.parametrize(
    ("name", "arguments", "setting"),
    [
        ("models", "list", "STORE_URL"),
        ("models", "--store s3:/bucket list", "STORE_URL"),
        ("retrain", "", "STORE_URL"),
        ("record", "--from-block 1 --to-block 2 --out recordings", "JSON_RPC_URL"),
        ("watch", "", "JSON_RPC_URL"),
        ("guard", "--on-unknown pass", "JSON_RPC_URL"),
    ],
)
def test_a_missing_or_impossible_setting_is_wrong_usage(
    name: str,
    arguments: str,
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("STORE_URL", "JSON_RPC_URL"):
        monkeypatch.delenv(variable, raising=False)
    assert run(name, arguments.split()) == 2
    assert setting in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "train:attack", "evaluate", "evaluate:rules"])
def test_where_there_are_no_data_the_command_that_collects_some_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("src.datasets.location.default_folder", lambda: None)
    assert run(name, []) == 2
    said = capsys.readouterr().err
    assert "npm run collect -- --blocks docs/model/training_manifest.csv" in said
    # That is a command: nothing is wrong with it but that it has no node here.
    monkeypatch.delenv("STORE_URL", raising=False)
    collect = [
        "--blocks",
        str(ROOT / "docs/model/training_manifest.csv"),
        "--url",
        "http://127.0.0.1:1",
    ]
    assert run("collect", [*collect, "--patience", "0.01"]) == 1
    assert "node" in capsys.readouterr().err


# The frame


def outcome(error: BaseException, **options: Any) -> int:
    @cli.command("try", **options)
    def main() -> int:
        raise error

    return main()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            1,
            "/x: No such file or directory",
        ),
        (ValueError("two\nlines"), 1, "two lines"),
        (RuntimeError("refused"), 1, "refused"),
        (SettingsError("X", "a number"), 2, "X must be a number"),
        (cli.CommandError("stopped", exit_code=143), 143, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "not enough memory"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(error) == code
    assert capsys.readouterr().err == f"try: {said}\n"


@pytest.mark.parametrize("script", ["scripts/lint.sh --fxi", "scripts/audit.sh --x"])
def test_a_shell_script_refuses_what_it_does_not_know(script: str) -> None:
    command = ["bash", *script.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_the_second_sdk_without_its_environment_says_how_to_make_it(tmp_path: Path) -> None:
    line = SCRIPTS["start:v2"]
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("start:v2: .venv-v2 is missing; docs/forta.md")


def test_a_fault_of_ours_stays_a_traceback() -> None:
    with pytest.raises(KeyError):
        outcome(KeyError("x"))


def test_a_command_may_fail_with_another_code_and_say_that_it_resumes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert outcome(OSError(28, "No space left on device"), failure=2, resumes=True) == 2
    assert capsys.readouterr().err == "try: No space left on device; the same command resumes\n"


SCRIPT = """
import os, sys, time
from src import cli
from src.demo.processes import supervised
@cli.command("try")
def main():
    for _ in range(int(sys.argv[1])):
        print("x" * 1000)
    sys.stdout.flush()
    print("ready", file=sys.stderr, flush=True)
    while len(sys.argv) > 2:
        time.sleep(0.01)
    return 0
sys.exit(main())
"""


def child(*arguments: str, stdout: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(
        supervised(command), cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
    )


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    process = child("1000", stdout=write)
    os.close(write)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        process = child("1", stdout=full)
        assert process.communicate()[1] == "try: No space left on device\n"
    assert process.returncode == 1
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_ctrl_c_is_one_line() -> None:
    process = child("1", "wait", stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "try: interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("read", "right", "wrong"),
    [
        (cli.natural, ["0", " 7 "], ["-1", "x", "", "1.5", "1_0", "٣", "9" * 5000]),
        (cli.whole(1, 9), ["1", "9"], ["0", "10"]),
        (cli.share, ["0", "1", "0.5"], ["-0.1", "1.1", "nan", "x", ""]),
        (cli.positive_number, ["0.1", "5"], ["0", "-1", "inf", "nan"]),
        (cli.number(0, 1, above=True), ["1"], ["0", "2"]),
        (cli.path, ["x"], ["", " "]),
        (cli.http_url, ["http://x"], ["ftp://x", "x"]),
    ],
)
def test_kinds_of_arguments(read: Callable[[str], Any], right: list[str], wrong: list[str]) -> None:
    for text in right:
        read(text)
    for text in wrong:
        with pytest.raises(Exception, match=r"^(.{1,80} is not a |the )") as caught:
            read(text)
        assert type(caught.value).__name__ == "ArgumentTypeError"
