"""Signals and exit codes pass through `scripts/run.mjs`."""

import os
import signal
from shutil import which

import pytest

from tests.project.setup.project import Project, lives, wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
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


@pytest.mark.parametrize(("number", "shell"), [(signal.SIGKILL, "bash"), (signal.SIGHUP, "sh")])
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
