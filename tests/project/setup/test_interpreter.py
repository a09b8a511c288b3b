"""`scripts/run.mjs` builds with the interpreter that is asked for, or refuses."""

import pytest

from tests.project.setup.project import Project


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
