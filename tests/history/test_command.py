"""The import as a process: what it loads, and how it is interrupted."""

import signal
import subprocess
import sys
from pathlib import Path

from src.settings import PROJECT_ROOT

_INTERRUPTED = """\
import os, signal, sys, threading, time
from src import cli
from src.history.sources import connect

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it

def interrupt():
    while time.process_time() < busy:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

@cli.command("import", resumes=True)
def main():
    with connect() as engine:
        threading.Thread(target=interrupt, daemon=True).start()
        engine.sql("SELECT sum(range % 7) FROM range(1000000000000)").fetchall()
    return 0

busy = time.process_time() + 0.5
sys.exit(main())
"""

_INTERRUPTED_BY_AN_IMPORT = """\
import os, signal, sys
from src.history.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_during_a_query_is_an_interrupt() -> None:
    ended = python(_INTERRUPTED)
    assert ended.stderr == "import: interrupted; the same command resumes\n"
    assert ended.returncode == 128 + signal.SIGINT


def test_ctrl_c_while_a_library_is_loaded_is_an_interrupt(tmp_path: Path, etl: Path) -> None:
    ended = python(_INTERRUPTED_BY_AN_IMPORT, "--data", etl, "--out", tmp_path / "store")
    assert ended.stderr == "import: interrupted; the same command resumes\n"
    assert ended.returncode == 128 + signal.SIGINT


def test_an_import_loads_neither_pandas_nor_the_compiled_kernels() -> None:
    ended = python("import sys, src.history.run; print(*sys.modules)")
    assert {"numba", "pandas", "pydantic"}.isdisjoint(ended.stdout.split())


def python(script: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
