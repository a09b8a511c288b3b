"""The workflows on GitHub: whose code they run, and with which rights."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from src.registry.bundle import FRAUD
from src.registry.registry import Registry
from src.registry.store import Store
from tests.registry.bundles import small_fraud_bundle
from tests.support.object_store import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    object_store,
    use_object_store,
)

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


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


# The retraining's own step, run as GitHub runs it, against a real S3 server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def retrain(tmp_path: Path, s3: str) -> Callable[..., tuple[int, str]]:
    """Runs the step with these variables; returns its exit code and what it said."""
    document = yaml.safe_load((WORKFLOWS[0].parent / "retrain.yml").read_text())
    job = document["jobs"]["retrain"]
    (script,) = [step["run"] for step in job["steps"] if step.get("name") == "Retrain"]
    # `npm` as the step calls it, without the installation that a checkout begins with; and forests
    # of few trees, which take a second rather than ten.
    (tmp_path / "npm").write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"root = {str(ROOT)!r}\n"
        "scripts = json.load(open(f'{root}/package.json'))['scripts']\n"
        "module = scripts[sys.argv[3]].rsplit(' ', 1)[1]\n"
        "os.environ['PYTHONPATH'] = root\n"
        "quick = ['--trees', '5', '--folds', '2'] if sys.argv[3] == 'retrain' else []\n"
        "os.execv(sys.executable, [sys.executable, '-m', module, *sys.argv[5:], *quick])\n"
    )
    (tmp_path / "npm").chmod(0o755)

    def run(**variables: str) -> tuple[int, str]:
        summary = tmp_path / "summary"
        summary.write_text("")
        environment = dict.fromkeys(job["env"], "") | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "GITHUB_STEP_SUMMARY": str(summary),
            "AWS_ENDPOINT_URL": s3,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "STORE_URL": f"s3://{BUCKET}/workflow",
            **variables,
        }
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, summary.read_text() + done.stderr

    return run


@pytest.mark.integration
def test_the_workflow_retrains_what_has_a_champion(
    retrain: Callable[..., tuple[int, str]],
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, said = retrain(KIND="fraud", STORE_URL="")
    assert (code, "set the secret STORE_URL" in said) == (0, True)
    use_object_store(monkeypatch, s3)
    registry = Registry(Store(f"s3://{BUCKET}/workflow"), FRAUD)
    bundle = small_fraud_bundle(tmp_path / "bundle", 7)
    registry.promote(registry.add(bundle, code_version="abc").id)
    code, said = retrain(KIND="forest")
    assert (code, "No champion of kind forest" in said) == (0, True)
    code, said = retrain(KIND="fraud", AWS_SECRET_ACCESS_KEY="wrong-secret")
    assert (code, "wrong-secret" in said) == (1, False)
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(80, 2)), columns=["V1", "V2"])
    table.assign(Class=(table["V1"] > 1).astype(int)).to_csv(tmp_path / "new.csv", index=False)
    code, said = retrain(KIND="fraud", DATA=str(tmp_path / "new.csv"), LABEL="Class")
    assert code == 0, said  # a refusal, with its reason, is an outcome and not a failure
    assert "Refused" in said
    assert "at least 200 held-out rows" in said
    assert registry.ledger().challenger is not None
