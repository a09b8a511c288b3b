"""A project to set up: a copy of the scripts beside empty locks.

Its Python is a stand-in that writes down what it is asked to do, and holds on where a test wants it
to; locks, processes, signals are real.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, which

from src.demo.processes import supervised

ROOT = Path(__file__).resolve().parents[3]

LAYERS = {
    "runtime": "requirements.txt",
    "service": "requirements/service.txt",
    "dev": "requirements/dev.txt",
}

PYTHON = """#!/bin/bash
project="{project}"
case "$1 $2" in
    "-c "*) echo "{version} {path}" ;;
    "-m venv")
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
        echo "venv {version}" >>"$project/log"
        ;;
    "-m pip")
        echo "pip ${{*: -1}}" >>"$project/log"
        if [[ -e "$project/hold" ]]; then
            tail -f /dev/null &
            echo $! >"$project/held"
            wait
        fi
        ;;
    "-m src.detection.precompile") echo kernels >>"$project/log" ;;
esac
"""

# Node packages are none of these tests' business, and npm takes its time.
NPM = """#!/bin/bash
if [[ $1 == ci ]]; then mkdir -p node_modules; else exec "{npm}" "$@"; fi
"""


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[str]] = []
        copytree(ROOT / "scripts", root / "scripts")
        (root / ".npmrc").write_text((ROOT / ".npmrc").read_text())
        runner = "node scripts/run.mjs"
        scripts = {"setup": f"{runner} --needs dev", "command": runner}
        package = {"name": "copy", "version": "1.0.0", "scripts": scripts}
        (root / "package.json").write_text(json.dumps(package))
        (root / "package-lock.json").write_text("{}")
        for name in LAYERS.values():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text("")
        self.python("python3.13", "3.13.0")
        for name in ("python3.12", "python3.11", "python3", "python"):
            self.python(name, "3.12.1")
        (root / "bin" / "npm").write_text(NPM.format(npm=which("npm")))
        (root / "bin" / "npm").chmod(0o755)

    def python(self, name: str, version: str, path: str | None = None) -> Path:
        (self.root / "bin").mkdir(exist_ok=True)
        file = self.root / "bin" / name
        real = path or str(file)
        file.write_text(PYTHON.format(project=self.root, version=version, path=real))
        file.chmod(0o755)
        return file

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start run.mjs in a session of its own, as a supervisor would."""
        return self._start("node", "scripts/run.mjs", *arguments, **settings)

    def npm(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        return self._start("npm", "run", "--silent", *arguments, **settings)

    def _start(self, *command: str, **settings: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name[:4] != "npm_"}
        inherited.pop("PYTHON", None)
        path = f"{self.root / 'bin'}{os.pathsep}{inherited['PATH']}"
        process = subprocess.Popen(
            supervised(command),
            cwd=self.root,
            env=inherited | {"PATH": path} | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **settings: str) -> tuple[int, str]:
        process = self.start(*arguments, **settings)
        output, _ = process.communicate()
        return process.returncode, output

    def log(self) -> list[str]:
        """What the stand-in was asked to do since the last call."""
        file = self.root / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def hold(self) -> None:
        """Let pip install for ever from now on."""
        (self.root / "hold").touch()

    def held(self) -> int:
        """The pid of a process that the held pip has started, once it has and the lock names it."""
        started = int(self.content("held"))
        wait_until(lambda: any((self.root / ".setup.lock").glob("step-*")))
        return started

    def release(self) -> None:
        (self.root / "hold").unlink()

    def content(self, name: str) -> str:
        file = self.root / name
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
        return file.read_text().strip()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for as long as it takes; the test's own limit ends what never comes."""
    while not condition():
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the output ended without {text!r}")
