"""`scripts/run.mjs` installs what a command needs, once."""

import pytest

from tests.project.setup.project import Project


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


def test_an_option_of_the_command_may_need_more(project: Project) -> None:
    project.run("--service-for", "--guard", "echo", "--json")
    assert "pip requirements/service.txt" not in project.log()
    ran = project.run("--service-for", "--guard", "echo", "--guard")
    assert ran[1].endswith("--guard\n")
    assert project.log() == ["pip requirements/service.txt"]


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
