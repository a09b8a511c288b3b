"""The demo: its local chain, its way to the forta-agent CLI, its judgement and its report."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.demo import anvil as anvil_module
from src.demo import contracts as contracts_module
from src.demo.anvil import Chain, ChainError, anvil
from src.demo.contracts import ROOT, CompileError, Contract, compile_contracts
from src.demo.forta_cli import CliError, cli_environment, parse_findings, run_cli
from src.demo.outcome import judge, problems
from src.demo.processes import supervised
from src.demo.report import Report, draw_score
from src.demo.scenarios import NO_FINDING, SCENARIOS, Played, Scenario, play
from src.demo.world import GENESIS, USDC, WELL_KNOWN, World, build
from tests.support.waiting import PATIENCE

HASH = "0x" + "ab" * 32
OTHER_HASH = "0x" + "cd" * 32


# The CLI's output


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


# Judgement and report


def scenario(key: str, expected: str | None = None) -> Scenario:
    def never(_world: World) -> dict[str, Any]:
        raise AssertionError("not to be played")

    return Scenario(key, f"Title of {key}", expected, never)


def transfers(count: int) -> list[Transfer]:
    return [Transfer(USDC.address, ZERO_ADDRESS, ZERO_ADDRESS, 1, i) for i in range(count)]


def finding(kind: str, score: str = "0.700", count: int = 1) -> dict[str, Any]:
    reason = {"feature": "log_transfers", "value": 3.5, "weight": 0.2, "factor": 1.25}
    metadata = {
        "anomaly_score": score,
        "anomaly_threshold": "0.5",
        "transfer_counts": str(count),
        "model_explanations": json.dumps(
            [reason, {**reason, "feature": "\x1b[2J", "weight": -0.1}]
        ),
    }
    return {"alertId": f"{kind}-TOKEN-TRANSFERS-TX", "metadata": metadata}


NORMAL = Played(scenario("normal", "NORMAL"), HASH, ZERO_ADDRESS, transfers(1))
THEFT = Played(scenario("theft", "ANOMALOUS"), OTHER_HASH, ZERO_ADDRESS, transfers(1))


def test_a_normal_and_an_anomalous_finding_are_as_promised() -> None:
    outcomes = judge(
        [NORMAL, THEFT], {HASH: [finding("NORMAL")], OTHER_HASH: [finding("ANOMALOUS")]}
    )
    assert [outcome.answer for outcome in outcomes] == ["NORMAL", "ANOMALOUS"]
    assert problems(outcomes) == []


def test_a_theft_that_looks_normal_is_a_problem() -> None:
    outcomes = judge([NORMAL, THEFT], {HASH: [finding("NORMAL")], OTHER_HASH: [finding("NORMAL")]})
    assert problems(outcomes) == [
        '"Title of theft" should be ANOMALOUS, not NORMAL.',
        "No transaction is ANOMALOUS.",
    ]


def test_silence_about_a_transfer_is_a_problem() -> None:
    silent = Played(scenario("any"), "0x" + "ee" * 32, ZERO_ADDRESS, transfers(2))
    found = {HASH: [finding("NORMAL")], OTHER_HASH: [finding("ANOMALOUS")]}
    assert problems(judge([NORMAL, THEFT, silent], found)) == [
        '"Title of any" moves tokens, but the bot emitted no finding.'
    ]


def test_silence_without_a_transfer_is_no_problem() -> None:
    quiet = Played(scenario("ether", NO_FINDING), "0x" + "ee" * 32, ZERO_ADDRESS, [])
    found = {HASH: [finding("NORMAL")], OTHER_HASH: [finding("ANOMALOUS")]}
    assert problems(judge([NORMAL, THEFT, quiet], found)) == []


def test_a_bot_that_misses_transfers_is_a_problem() -> None:
    found = {HASH: [finding("NORMAL", count=0)], OTHER_HASH: [finding("ANOMALOUS")]}
    assert problems(judge([NORMAL, THEFT], found)) == [
        '"Title of normal" has 1 transfers; the bot saw 0.'
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report_on(stream: io.StringIO) -> str:
    outcomes = judge([NORMAL, THEFT], {OTHER_HASH: [finding("ANOMALOUS")]})
    report = Report(stream)
    report.table(outcomes)
    report.reasons(outcomes[1])
    report.finding(outcomes[1])
    return stream.getvalue()


def test_the_report_names_scores_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    text = report_on(io.StringIO())
    assert re.search(r"Title of theft +0xcdcd…cdcd +1 +1 +ANOMALOUS +0\.700", text)
    assert re.search(r"log_transfers +3\.5 +score x 1\.250", text)


def test_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in report_on(io.StringIO())
    assert "\x1b[1;31m" in report_on(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in report_on(Terminal())


@given(st.floats(-1, 2), st.none() | st.floats(-1, 2))
def test_a_bar_is_always_of_one_width(score: float, threshold: float | None) -> None:
    assert len(draw_score(score, threshold, cells=10)) == 12


def test_a_bar_shows_on_which_side_of_the_threshold_a_score_is() -> None:
    assert draw_score(0.25, 0.5, cells=8) == "▕██  ┊   ▏"
    assert draw_score(0.75, 0.5, cells=8) == "▕████╂█  ▏"


# Compiling


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "Tiny.sol").write_text("contract Tiny { function f(uint x) external {} }")
    monkeypatch.setattr(contracts_module, "SOURCES", folder)
    return folder


def without_node(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("PATH", str(empty))


@pytest.mark.usefixtures("sources")
def test_a_second_compilation_comes_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = compile_contracts(tmp_path / "cache")
    without_node(monkeypatch, tmp_path)
    assert compile_contracts(tmp_path / "cache") == first


@pytest.mark.usefixtures("sources")
def test_a_broken_cache_file_is_compiled_anew(tmp_path: Path) -> None:
    first = compile_contracts(tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_text('{"Tiny": {"na')
    assert compile_contracts(tmp_path / "cache") == first


def test_a_changed_source_is_compiled_anew(sources: Path, tmp_path: Path) -> None:
    before = compile_contracts(tmp_path / "cache")
    (sources / "Tiny.sol").write_text("contract Tiny { function g() external {} }")
    after = compile_contracts(tmp_path / "cache")
    assert list(before["Tiny"].selectors) == ["f(uint256)"]
    assert list(after["Tiny"].selectors) == ["g()"]


@pytest.mark.usefixtures("sources")
def test_a_missing_node_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_node(monkeypatch, tmp_path)
    with pytest.raises(CompileError, match="Node is not on PATH"):
        compile_contracts(tmp_path / "cache")


def test_a_source_that_does_not_compile_is_shown(sources: Path, tmp_path: Path) -> None:
    (sources / "Broken.sol").write_text("contract Broken { uint x = true; }")
    with pytest.raises(CompileError, match=r"Broken\.sol:1:"):
        compile_contracts(tmp_path / "cache")


# The chain


@pytest.fixture(scope="module")
def code() -> dict[str, Contract]:
    return compile_contracts()


def answers(url: str) -> bool:
    port = int(url.rsplit(":", 1)[1])
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_missing_anvil_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(anvil_module, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChainError, match="npm ci"), anvil(timestamp=GENESIS):
        pass


@pytest.mark.integration
def test_the_chain_ends_with_its_block_even_after_an_error() -> None:
    urls = []

    def fail() -> None:
        with anvil(timestamp=GENESIS) as chain:
            urls.append(chain.url)
            assert answers(chain.url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not answers(urls[0])


@pytest.mark.integration
def test_a_taken_port_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ChainError, match="--port"), anvil(timestamp=GENESIS, port=port):
            pass


@pytest.mark.integration
def test_a_transaction_that_reverts_is_an_error(code: dict[str, Contract]) -> None:
    with anvil(timestamp=GENESIS) as chain:
        token = chain.deploy(chain.accounts[0], code["Token"])
        data = code["Token"].call("transfer(address,uint256)", chain.accounts[1], 1)
        with pytest.raises(ChainError, match="reverted"):
            chain.send(chain.accounts[0], to=token, data=data)


@pytest.fixture(scope="module")
def stage(code: dict[str, Contract]) -> Iterator[tuple[World, list[Played]]]:
    with anvil(timestamp=GENESIS) as chain:
        world = build(chain, code)
        yield world, play(world, SCENARIOS)


def by_key(stage: tuple[World, list[Played]], key: str) -> Played:
    return next(played for played in stage[1] if played.scenario.key == key)


@pytest.mark.integration
def test_well_known_tokens_describe_themselves_at_their_real_addresses(
    stage: tuple[World, list[Played]],
) -> None:
    world = stage[0]
    token = world.code["Token"]
    for spec in WELL_KNOWN:
        described = (
            *world.chain.call(spec.address, token.call("name()"), "string"),
            *world.chain.call(spec.address, token.call("symbol()"), "string"),
            *world.chain.call(spec.address, token.call("decimals()"), "uint8"),
        )
        assert described == (spec.name, spec.symbol, spec.decimals)


@pytest.mark.integration
def test_every_run_plays_the_same_transactions(
    stage: tuple[World, list[Played]], code: dict[str, Contract]
) -> None:
    with anvil(timestamp=GENESIS) as chain:
        again = play(build(chain, code), SCENARIOS)
    assert [p.transaction_hash for p in again] == [p.transaction_hash for p in stage[1]]


@pytest.mark.integration
def test_accounts_have_an_age_that_a_search_of_the_chain_finds(
    stage: tuple[World, list[Played]],
) -> None:
    def nonce(chain: Chain, account: str, block: int) -> int:
        return int(chain.rpc("eth_getTransactionCount", account, hex(block)), 16)

    world = stage[0]
    assert nonce(world.chain, world.people.alice, 0) > 0
    head = int(world.chain.rpc("eth_blockNumber"), 16)
    assert nonce(world.chain, world.people.thief, head // 2) == 0
    assert nonce(world.chain, world.people.thief, head) > 0


@pytest.mark.integration
def test_the_counterfeit_bears_the_name_but_not_the_address(
    stage: tuple[World, list[Played]],
) -> None:
    world = stage[0]
    (transfer,) = by_key(stage, "counterfeit").transfers
    assert transfer.token != USDC.address
    symbol = world.code["Token"].call("symbol()")
    assert world.chain.call(transfer.token, symbol, "string") == ("USDC",)


@pytest.mark.integration
def test_the_theft_has_the_shape_of_one(stage: tuple[World, list[Played]]) -> None:
    world, theft = stage[0], by_key(stage, "theft")
    assert len(theft.transfers) >= 30
    net: dict[tuple[str, str], int] = Counter()
    pairs: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for transfer in theft.transfers:
        net[transfer.sender, transfer.token] -= transfer.amount
        net[transfer.recipient, transfer.token] += transfer.amount
        pairs[transfer.token].add((transfer.sender, transfer.recipient))
    assert len(pairs) >= 5
    # The lender has everything back and its fee; the pool has lost all; the thief has gained.
    assert all(net[world.lender, token] > 0 for token in pairs if (world.lender, token) in net)
    balance = world.code["Token"].call("balanceOf(address)", world.pool)
    assert world.chain.call(USDC.address, balance, "uint256") == (0,)
    assert net[world.people.thief, USDC.address] > USDC.units(1_000_000)
    there_and_back = [token for token, hops in pairs.items() if hops & {(b, a) for a, b in hops}]
    assert len(there_and_back) >= 3


# The whole, with the forta-agent CLI

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


def start_demo(*options: str, temporary: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        supervised([sys.executable, "-m", "src.demo", *options]),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.integration
def test_the_demo_finds_the_theft_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with start_demo("--json", temporary=tmp_path) as demo:
        stdout, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, stderr
    answer = json.loads(stdout)
    found = {
        transaction["scenario"]: transaction["answer"] for transaction in answer["transactions"]
    }
    assert found["usdc"] == "NORMAL"
    assert found["theft"] == "ANOMALOUS"
    assert found["ether"] == NO_FINDING
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_signal_ends_the_demo_and_all_that_it_started(tmp_path: Path) -> None:
    with start_demo("--keep", "--json", temporary=tmp_path) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "Running the bot" in line:
                break
        (log,) = tmp_path.glob("demo-*/anvil.log")
        listening = re.search(r"Listening on (\S+)", log.read_text())
        assert listening is not None
        url = f"http://{listening.group(1)}"
        assert answers(url)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    assert not answers(url)


def test_a_wrong_option_is_named() -> None:
    with start_demo("--port", "99999", temporary=Path("/nonexistent")) as demo:
        _, stderr = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 2
    assert "0 to 65535" in stderr
