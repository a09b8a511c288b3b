"""The import as a process: what it loads, and how it is interrupted."""

import signal
import subprocess
import sys

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


def test_ctrl_c_during_a_query_is_an_interrupt() -> None:
    ended = python(_INTERRUPTED)
    assert ended.stderr == "import: interrupted; the same command resumes\n"
    assert ended.returncode == 128 + signal.SIGINT


def test_an_import_loads_neither_pandas_nor_the_compiled_kernels() -> None:
    ended = python("import sys, src.history.run; print(*sys.modules)")
    assert {"numba", "pandas", "pydantic"}.isdisjoint(ended.stdout.split())


def python(script: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
