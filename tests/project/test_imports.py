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

_RUN = """\
import runpy, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code, stop.code
print("\\nloaded:", *{name.partition(".")[0] for name in sys.modules})
"""


def libraries_loaded_by(module: str, *arguments: str) -> set[str]:
    """The top-level modules in `sys.modules` when `python -m MODULE ARGUMENTS` ends."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.rpartition("\nloaded: ")[2].split())


@pytest.mark.parametrize("arguments", [("--check", "policy.yaml"), ("--detectors",)], ids=str)
def test_reading_a_policy_loads_no_kernel(arguments: tuple[str, ...]) -> None:
    assert libraries_loaded_by("src.decision", *arguments) & (SLOW | {"numpy"}) == set()


@pytest.mark.parametrize("module", MODULES)
def test_help_loads_no_slow_library(module: str) -> None:
    """The parser is built, and the arguments are read, before anything that computes is imported.

    pyarrow and numpy are allowed: commands that check their arguments against recordings need them.
    """
    assert libraries_loaded_by(module, "--help") & SLOW == set()
