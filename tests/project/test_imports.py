"""What commands load: help, and reading a policy, need no numeric library."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW = {
    "fastapi", "matplotlib", "numba", "pandas", "scipy", "shap", "sklearn", "sqlalchemy",
    "uvicorn", "web3",
}  # fmt: skip
"""Libraries that take from a quarter of a second to several seconds to import."""

PYTHON = re.compile(r"node scripts/run\.mjs (?:--needs \w+ )?python -m (?!pip )(\S+)")
SCRIPTS: dict[str, str] = json.loads((ROOT / "package.json").read_text())["scripts"]
MODULES = sorted({found[1] for line in SCRIPTS.values() if (found := PYTHON.match(line))})

# Forked from one interpreter that has loaded nothing, as starting one for each takes long.
_RUN_EACH = """\
import json, os, runpy, sys

for module, *arguments in json.load(sys.stdin):
    sys.stdout.flush()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, module
        continue
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        assert not stop.code, stop.code
    print("\\nloaded:", *{name.partition(".")[0] for name in sys.modules}, flush=True)
    os._exit(0)
"""
_POLICY = [("src.decision", "--check", "policy.yaml"), ("src.decision", "--detectors")]
_HELP = [(module, "--help") for module in MODULES]


@pytest.fixture(scope="module")
def loaded() -> dict[tuple[str, ...], set[str]]:
    """The top-level modules in `sys.modules` when each `python -m MODULE ARGUMENTS` ends."""
    commands = [*_POLICY, *_HELP]
    ended = subprocess.run(
        [sys.executable, "-c", _RUN_EACH],
        cwd=ROOT,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = [set(line.split()) for line in re.findall(r"^loaded: (.*)$", ended.stdout, re.M)]
    return dict(zip(commands, found, strict=True))


@pytest.mark.parametrize("command", _POLICY, ids=str)
def test_reading_a_policy_loads_no_kernel(
    command: tuple[str, ...], loaded: dict[tuple[str, ...], set[str]]
) -> None:
    assert loaded[command] & (SLOW | {"numpy", "requests"}) == set()


@pytest.mark.parametrize("command", _HELP, ids=str)
def test_help_loads_no_slow_library(
    command: tuple[str, ...], loaded: dict[tuple[str, ...], set[str]]
) -> None:
    """The parser is built, and the arguments are read, before anything that computes is imported.

    pyarrow and numpy are allowed: commands that check their arguments against recordings need them.
    """
    assert loaded[command] & SLOW == set()


@pytest.mark.parametrize("module", ["src.agent", "src.service.app"])
def test_no_library_raises_the_recursion_limit(module: str) -> None:
    """py_ecc would, and take a fifth of the start: see requirements/overrides.txt."""
    program = f"import sys; usual = sys.getrecursionlimit(); import {module}"
    check = "assert sys.getrecursionlimit() == usual and 'py_ecc' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"{program}; {check}"], cwd=ROOT, check=True)
