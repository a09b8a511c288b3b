"""Two set-ups at once: one installs, the other waits."""

import os
import signal
import subprocess
from shutil import which

import pytest

from tests.project.setup.project import Project, line_with, lives, wait_until


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
