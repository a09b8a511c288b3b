"""`scripts/run.mjs`: the set-up that every npm script begins with, and how signals pass through it.

The project is a copy of the scripts beside empty locks. Its Python is a stand-in that writes down
what it is asked to do, and holds on where a test wants it to; locks, processes, signals are real.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from shutil import copytree, which

import pytest

from src.demo.processes import supervised

ROOT = Path(__file__).resolve().parents[2]
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
        """The pid of a process that the held pip has started, once it has."""
        return int(self.content("held"))

    def release(self) -> None:
        (self.root / "hold").unlink()

    def content(self, name: str) -> str:
        file = self.root / name
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
        return file.read_text().strip()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "a project with späces"
    root.mkdir()
    project = Project(root)
    yield project
    for process in project.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


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


# What is installed, and when


def test_a_command_installs_its_layer_once_and_runs(project: Project) -> None:
    assert project.run("echo", "ran")[1].endswith("ran\n")
    assert project.log() == ["venv 3.13.0", "pip requirements.txt", "kernels"]
    assert project.run("echo", "ran") == (0, "ran\n")
    assert project.log() == []


def test_a_command_that_needs_more_adds_to_what_is_there(project: Project) -> None:
    project.run()
    project.log()
    project.run("--needs", "service", "true")
    assert project.log() == ["pip requirements/service.txt"]
    project.run("--needs", "dev", "true")
    assert project.log() == ["pip requirements/dev.txt"]
    project.run("--needs", "service", "true")
    project.run("true")
    assert project.log() == []


def test_a_setup_with_nothing_to_do_says_so(project: Project) -> None:
    project.run("--needs", "service")
    assert project.run("--needs", "runtime") == (
        0,
        "[setup] Nothing to do: the runtime packages are there.\n",
    )


def test_the_last_layer_named_counts(project: Project) -> None:
    project.run("--needs", "dev", "--needs", "service")
    assert "pip requirements/service.txt" in project.log()


@pytest.mark.parametrize("arguments", [("--needs", "all"), ("--needs",), ("--help",)])
def test_unknown_options_are_refused(project: Project, arguments: tuple[str, ...]) -> None:
    code, output = project.run(*arguments)
    assert code == 2
    assert "--needs runtime|service|dev" in output
    assert project.log() == []


def test_a_changed_lock_rebuilds_with_the_interpreter_of_before(project: Project) -> None:
    project.run(PYTHON="python3.12")
    project.log()
    (project.root / "requirements.txt").write_text("# newer\n")
    assert "its packages have been updated" in project.run()[1]
    assert project.log() == ["venv 3.12.1", "pip requirements.txt", "kernels"]


def test_a_failed_install_is_reported_and_tried_again(project: Project) -> None:
    broken = project.python("python3.13", "3.13.0")
    works = broken.read_text()
    broken.write_text(works.replace('echo "pip', 'exit 7; echo "pip'))
    code, output = project.run("echo", "ran")
    assert code == 1
    assert "pip install: exit code 7" in output
    assert "ran" not in output
    broken.write_text(works)
    assert project.run("echo", "ran")[1].endswith("ran\n")


# The interpreter


def test_another_interpreter_rebuilds_and_the_same_does_not(project: Project) -> None:
    project.run()
    project.log()
    code, output = project.run(PYTHON="python3.12")
    assert code == 0
    assert "Making .venv anew: PYTHON is" in output
    assert project.log() == ["venv 3.12.1", "pip requirements.txt", "kernels"]
    project.run(PYTHON="python3.12")
    project.run()  # without a wish the good .venv stays
    assert project.log() == []


def test_another_build_of_the_same_version_rebuilds(project: Project) -> None:
    project.run(PYTHON="python3.12")
    project.log()
    other = project.python("other", "3.12.1")
    project.run(PYTHON=str(other))
    assert "venv 3.12.1" in project.log()


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nope", "PYTHON=/nope cannot be run: no such program."),
        ("false", "PYTHON=false cannot be run: it is no Python."),
        ("old", "PYTHON=old is Python 3.10.13; 3.11 to 3.13 is needed."),
    ],
)
def test_an_unusable_interpreter_is_refused_before_anything_is_installed(
    project: Project, python: str, message: str
) -> None:
    project.python("old", "3.10.13")
    assert project.run(PYTHON=python) == (1, f"[setup] {message}\n")
    assert not (project.root / "node_modules").exists()
    project.run()
    assert project.run("true", PYTHON=python) == (1, f"[setup] {message}\n")


def test_a_venv_that_someone_else_made_is_not_accepted(project: Project) -> None:
    (project.root / ".venv").mkdir()
    assert "not completed by this set-up" in project.run()[1]
    assert "venv 3.13.0" in project.log()


def test_a_venv_of_an_unsupported_python_is_not_accepted(project: Project) -> None:
    project.run()
    stamp = project.root / ".venv" / ".installed"
    stamp.write_text(stamp.read_text().replace("3.13.0", "3.10.13"))
    assert "it has Python 3.10.13" in project.run()[1]


def test_a_venv_whose_python_is_gone_is_made_anew(project: Project) -> None:
    project.run()
    (project.root / ".venv/bin/python").unlink()
    assert "its Python is gone" in project.run()[1]


# The lock


def test_a_second_setup_waits_for_the_first(project: Project) -> None:
    project.hold()
    first = project.start()
    project.held()
    second = project.start("echo", "ran")
    assert f"pid {first.pid}" in line_with(second, "Another set-up is running")
    first.send_signal(signal.SIGTERM)
    project.release()
    assert "ran" in second.communicate()[0]
    assert second.returncode == 0
    assert not (project.root / ".setup.lock").exists()


def test_a_lock_left_by_a_killed_setup_is_taken_over_and_its_pip_ended(project: Project) -> None:
    project.hold()
    first = project.start()
    left = project.held()
    first.kill()
    first.wait()
    assert lives(left)
    project.release()
    code, output = project.run("echo", "ran")
    assert (code, output.splitlines()[-1]) == (0, "ran")
    assert "Another set-up" not in output
    wait_until(lambda: not lives(left))


def test_a_recycled_pid_does_not_hold_the_lock(project: Project) -> None:
    (project.root / ".setup.lock").mkdir()
    (project.root / ".setup.lock" / "1").symlink_to(f"{os.getpid()} 1")
    assert project.run()[0] == 0


def test_many_at_once_set_up_once(project: Project) -> None:
    (project.root / ".setup.lock").mkdir()
    (project.root / ".setup.lock" / "1").symlink_to("999999999 1")  # all find a dead owner
    together = [project.start("echo", "ran") for _ in range(6)]
    for process in together:
        assert process.communicate()[0].endswith("ran\n")
    assert project.log() == ["venv 3.13.0", "pip requirements.txt", "kernels"]


def test_both_ways_to_look_at_a_process_agree(project: Project) -> None:
    if which("ps") is None:
        pytest.skip("no ps")
    code = """
        import { fromProc, fromPs } from "./scripts/processes.mjs";
        for (const look of [fromProc, fromPs]) {
            const { pid, parent, foreground, command } = look(process.pid);
            console.log(pid, parent, foreground, command.startsWith("node"));
            console.log(look(999999999), look(process.pid).start === look(process.pid).start);
        }
    """
    output = subprocess.check_output(
        ["node", "--input-type=module", "-e", code], cwd=project.root, text=True
    ).splitlines()
    assert output[:2] == output[2:]


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_setup_ends_it_and_releases_the_lock(
    project: Project, number: signal.Signals
) -> None:
    project.hold()
    process = project.start("echo", "ran")
    left = project.held()
    process.send_signal(number)
    assert "ran" not in process.communicate()[0]
    assert process.returncode == 128 + number
    assert not (project.root / ".setup.lock").exists()
    wait_until(lambda: not lives(left))


def test_the_signal_that_ended_a_step_is_named(project: Project) -> None:
    project.hold()
    process = project.start()
    os.killpg(os.getpgid(project.held()), signal.SIGKILL)
    assert "pip install: ended by SIGKILL" in process.communicate()[0]
    assert process.returncode == 1


COMMAND = "echo $$ >child; exec tail -f /dev/null"
SUPERVISED = ("command", "--", "bash", "-c", f"'{COMMAND}'")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_run_reaches_the_command(project: Project, number: signal.Signals) -> None:
    project.run()
    process = project.start("bash", "-c", COMMAND)
    child = int(project.content("child"))
    process.send_signal(number)
    process.wait()
    assert process.returncode == 128 + number
    assert not lives(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_npm_ends_after_the_command_that_its_signal_stops(
    project: Project, number: signal.Signals
) -> None:
    project.run()
    process = project.npm("command", "--", "bash", "-c", COMMAND)
    child = int(project.content("child"))
    process.send_signal(number)
    process.wait()
    assert process.returncode in {-number, 128 + number}
    assert not lives(child)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_command_ends_when_npm_is_gone(
    project: Project, number: signal.Signals, shell: str
) -> None:
    project.run()
    process = project.npm(
        "command", "--", "bash", "-c", COMMAND, npm_config_script_shell=str(which(shell))
    )
    child = int(project.content("child"))
    process.send_signal(number)
    wait_until(lambda: not lives(child))


def test_the_exit_code_of_the_command_is_passed_on(project: Project) -> None:
    project.run()
    assert project.run("bash", "-c", "exit 3") == (3, "")
    code, output = project.run("no-such-command")
    assert code == 1
    assert "no-such-command" in output


# The project's own scripts and documents


@cache
def locked(layer: str) -> set[str]:
    text = (ROOT / LAYERS[layer]).read_text()
    return {normalised(name) for name in re.findall(r"^([\w.-]+)(?:\[.*\])?==", text, re.M)}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def source_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


@cache
def imports_of(source: Path) -> tuple[str, ...]:
    """The full names of what a file of ours imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def third_parties(module: str) -> dict[str, str]:
    """Packages that are imported anywhere below a module of ours, and by which module of ours."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    left = [module]
    while left:
        parts = left.pop().split(".")
        for name in (".".join(parts[: n + 1]) for n in range(len(parts))):
            source = source_of(name)
            if name in seen or source is None:
                continue
            seen.add(name)
            for imported in imports_of(source):
                top = imported.partition(".")[0]
                if (ROOT / top).is_dir():
                    left.append(imported)
                elif top not in sys.stdlib_module_names:
                    found.setdefault(top, name)
    return found


@cache
def providers() -> dict[str, set[str]]:
    """The distributions that are installed here, by the package that they bring."""
    found = packages_distributions().items()
    return {package: {normalised(one) for one in names} for package, names in found}


def commands_of_layers() -> list[tuple[str, str, str]]:
    """(npm script, layer, Python module) of every script that runs one of src."""
    found = [("forta-agent", "runtime", "src.agent")]
    for name, script in json.loads((ROOT / "package.json").read_text())["scripts"].items():
        match = re.match(r"node scripts/run.mjs (?:--needs (\w+) )?.*python -m (src\.\S+)", script)
        if match is not None:
            module = match[2]
            if source_of(f"{module}.__main__") is not None:
                module += ".__main__"
            found.append((name, match[1] or "runtime", module))
    return found


@pytest.mark.parametrize(("name", "layer", "module"), commands_of_layers())
def test_a_command_imports_what_its_layer_installs(name: str, layer: str, module: str) -> None:
    available = locked(layer)
    # Installed on demand: `npm run setup:spark`.
    imported = third_parties(module).items() - {("pyspark", "src.backtest.executors.spark")}
    missing = {
        package: by for package, by in imported if not providers().get(package, set()) & available
    }
    assert not missing, f"npm run {name}"


def test_each_layer_contains_the_one_before() -> None:
    assert locked("runtime") < locked("service") < locked("dev")


def test_what_the_documents_commands_write_is_ignored_by_git() -> None:
    written = {"transaction-0x12345678.html", "evaluation", "secrets.json"}
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for command in re.findall(r"npm run [^\n`#]+", document.read_text()):
            options = r"--(?:out|html|json|report|save-reference) +([a-z][\w./-]*)"
            written |= {path.rstrip("/") for path in re.findall(options, command)}
    assert "recordings/four-blocks" in written
    # A folder's pattern matches what lies in it.
    paths = [path if Path(path).suffix else f"{path}/file" for path in sorted(written)]
    result = subprocess.run(
        ["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode == 128:
        pytest.skip(f"no git checkout: {result.stderr}")
    assert result.stdout.splitlines() == paths
