"""The forta-agent CLI: what it prints is read, and what it is given."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.demo.forta_cli import CliError, cli_environment, parse_findings, run_cli
from src.demo.scenarios import Played
from src.demo.world import World
from tests.demo.chains import HASH, OTHER_HASH, by_key


def printed(transaction_hash: str, findings: list[Any]) -> str:
    """As `forta-agent run` prints it: JavaScript joins an array's items with commas."""
    objects = ",".join(json.dumps(finding, indent=2, ensure_ascii=False) for finding in findings)
    return f"{len(findings)} findings for transaction {transaction_hash} {objects}\n"


def test_findings_are_read_from_among_log_lines() -> None:
    output = (
        "initializing agent...\n2024 INFO model ready {not json\n"
        + printed(HASH, [{"alertId": "A"}, {"alertId": "B"}])
        + "WARNING something\n"
        + printed(OTHER_HASH, [])
    )
    assert parse_findings(output) == {HASH: [{"alertId": "A"}, {"alertId": "B"}], OTHER_HASH: []}


def test_a_finding_that_is_cut_off_is_an_error() -> None:
    output = printed(HASH, [{"alertId": "A"}])
    with pytest.raises(CliError, match="finding 1 of 1"):
        parse_findings(output[: len(output) // 2 + 40])


findings_of_strangers = st.lists(
    st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4), max_size=3
)


@given(findings_of_strangers, findings_of_strangers)
def test_no_text_in_a_finding_confuses_the_reader(
    first: list[dict[str, str]], second: list[dict[str, str]]
) -> None:
    output = printed(HASH, first) + "a log line\n" + printed(OTHER_HASH, second)
    assert parse_findings(output) == {HASH: first, OTHER_HASH: second}


def test_a_finding_that_quotes_the_cli_is_one_finding() -> None:
    quoting = {"name": f"\n1 findings for transaction {OTHER_HASH} {{}}"}
    assert parse_findings(printed(HASH, [quoting])) == {HASH: [quoting]}


def test_keys_and_urls_of_the_user_do_not_reach_the_bot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ETHERSCAN_API_KEY", "ETHPLORER_URL", "FORTA_BOT_ID", "NODE_ENV", "JSON_RPC_URL"):
        monkeypatch.setenv(name, "of-the-user")
    environment = cli_environment("http://127.0.0.1:1", tmp_path)
    assert "of-the-user" not in environment.values()
    assert environment["JSON_RPC_URL"] == "http://127.0.0.1:1"


def test_the_bot_runs_with_our_python_and_writes_into_our_folder(tmp_path: Path) -> None:
    environment = cli_environment("http://127.0.0.1:1", tmp_path)
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    for name in ("HOME", "TMPDIR", "CACHE_DIR"):
        assert Path(environment[name]).is_relative_to(tmp_path)


TRIVIAL_AGENT = """
import os
import sys
from forta_agent import Finding, FindingSeverity, FindingType

def handle_transaction(event):
    print("a log line", file=sys.stderr)
    return [Finding({
        "name": event.hash, "description": "of " + event.from_, "alert_id": "SEEN",
        "severity": FindingSeverity.Info, "type": FindingType.Info,
        "metadata": {"logs": str(len(event.logs)), "url": os.environ.get("ETHERSCAN_URL", "")},
    })] if event.logs else []
"""


def trivial_project(folder: Path) -> Path:
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "agent.py").write_text(TRIVIAL_AGENT)
    package = {"name": "trivial", "version": "1.0.0", "chainIds": [1]}
    (project / "package.json").write_text(json.dumps(package))
    return project


@pytest.mark.integration
def test_the_cli_runs_any_project_on_the_chain(
    stage: tuple[World, list[Played]], tmp_path: Path
) -> None:
    ether, payment = by_key(stage, "ether"), by_key(stage, "usdc")
    result = run_cli(
        "tx",
        f"{ether.transaction_hash},{payment.transaction_hash}",
        json_rpc_url=stage[0].chain.url,
        home=tmp_path / "home",
        project=trivial_project(tmp_path),
    )
    assert result.findings[ether.transaction_hash] == []
    (seen,) = result.findings[payment.transaction_hash]
    assert seen["metadata"] == {"logs": "1", "url": ""}
    assert seen["description"] == f"of {payment.sender}"
    assert "a log line" in result.output


@pytest.mark.integration
def test_keys_in_secrets_json_are_led_nowhere(
    stage: tuple[World, list[Played]], tmp_path: Path
) -> None:
    project, payment = trivial_project(tmp_path), by_key(stage, "usdc")
    (project / "secrets.json").write_text('{"ETHERSCAN_API_KEY": "secret"}')
    home = tmp_path / "home"
    arguments = ("tx", payment.transaction_hash)
    url = stage[0].chain.url
    result = run_cli(*arguments, json_rpc_url=url, home=home, project=project)
    (seen,) = result.findings[payment.transaction_hash]
    assert seen["metadata"]["url"].startswith("http://127.0.0.1:")


@pytest.mark.integration
def test_an_unknown_transaction_is_an_error_of_the_cli(
    stage: tuple[World, list[Played]], tmp_path: Path
) -> None:
    project = trivial_project(tmp_path)
    with pytest.raises(CliError, match="exit code 1"):
        run_cli("tx", HASH, json_rpc_url=stage[0].chain.url, home=tmp_path, project=project)
