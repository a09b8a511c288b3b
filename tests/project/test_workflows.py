"""The workflows on GitHub: whose code they run, and with which rights."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / ".github" / "workflows").glob("*.yml"))


def documents() -> list[Any]:
    return [
        pytest.param(path, yaml.safe_load(path.read_text()), id=path.stem) for path in WORKFLOWS
    ]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"ci", "retrain", "security"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    uses = re.findall(r"uses:\s*(.+)", path.read_text())
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize(("path", "document"), documents())
def test_a_workflow_may_read_and_no_more(path: Path, document: Any) -> None:
    assert document["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in document["jobs"].values())
    # Runs a pull request's code with the repository's secrets.
    assert "pull_request_target" not in document[True]


@pytest.mark.parametrize(("path", "document"), documents())
def test_a_checkout_leaves_no_token_behind(path: Path, document: Any) -> None:
    for job in document["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_script_holds_what_strangers_may_write(path: Path) -> None:
    """Titles, branches and messages in a script are run by the shell: `run` holds none."""
    for script in re.findall(r"run: \|\n((?: {10,}.*\n)+)|run: (.+)", path.read_text()):
        for expression in re.findall(r"\$\{\{(.*?)\}\}", "".join(script)):
            assert expression.strip() in {"github.run_number"}, expression
