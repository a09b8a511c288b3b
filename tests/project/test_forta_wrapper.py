"""What the npm scripts add to the forta-agent CLI: checks, the node's URL, signals, the key."""

import json
import os
import re
import shlex
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.demo.anvil import Chain, anvil
from src.demo.contracts import ROOT
from src.demo.forta_cli import cli_environment
from src.demo.processes import free_port, supervised
from src.demo.world import GENESIS
from tests.support.fake_chain import serve
from tests.support.forta_bridge import connect, transaction_event
from tests.support.processes import names
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

SCRIPTS: dict[str, str] = json.loads((ROOT / "package.json").read_text())["scripts"]
MODES = [name for name, script in SCRIPTS.items() if script.endswith(f"scripts/forta.mjs {name}")]
HASH = "0x" + "ab" * 32
DEAD_NODE = "http://127.0.0.1:9"  # the discard port: refused at once

# Says in its finding what it was started with.
AGENT = """
import os, signal, sys
from forta_agent import Finding, FindingSeverity, FindingType

def handle_transaction(event):
    if os.environ.get("END_IN_HANDLER"):
        os.kill(os.getpid(), signal.SIGKILL)
    config = sys.argv[sys.argv.index("--config") + 1] if "--config" in sys.argv else ""
    return [Finding({
        "name": "seen", "description": event.hash, "alert_id": "SEEN",
        "severity": FindingSeverity.Info, "type": FindingType.Info,
        "metadata": {
            "config": os.path.abspath(config) if config else "",
            "mode": oct(os.stat(config).st_mode) if config else "",
            "environment": os.environ.get("NODE_ENV", ""),
        },
    })]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "agent.py").write_text(AGENT)
    package = {"name": "seen", "version": "1.0.0", "chainIds": [1]}
    (folder / "package.json").write_text(json.dumps(package))
    (folder / "forta.config.json").write_text(json.dumps({"jsonRpcUrl": DEAD_NODE}))
    return folder


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with anvil(timestamp=GENESIS) as node:
        node.send(node.accounts[0], to=node.accounts[1], value=1)
        yield node


def command(mode: str, *arguments: str) -> list[str]:
    """What `npm run MODE -- ARGUMENTS` runs once everything is set up."""
    node, setup, *script = shlex.split(SCRIPTS[mode])
    assert (node, setup) == ("node", "scripts/run.mjs")
    return [str(ROOT / word) if word.startswith("scripts/") else word for word in script] + [
        *arguments
    ]


def environment(home: Path, url: str = "", **changes: str) -> dict[str, str]:
    variables = cli_environment(url, home)
    path = os.pathsep.join([variables["PATH"], str(ROOT / "node_modules/.bin")])
    return variables | {"PATH": path} | changes


def run(project: Path, *words: str, url: str = "", **changes: str) -> Any:
    return subprocess.run(
        command(*words), cwd=project, env=environment(project.parent, url, **changes),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@contextmanager
def started(
    project: Path, *words: str, url: str = "", **changes: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A running script and the file with what it printed so far."""
    log = project.parent / "output.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            supervised(command(*words)), cwd=project,
            env=environment(project.parent, url, **changes),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process, log
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def newest(chain: Chain) -> dict[str, Any]:
    block: dict[str, Any] = chain.rpc("eth_getBlockByNumber", "latest", False)
    return block


def finding(output: str) -> dict[str, Any]:
    return dict(json.loads(re.search(r"findings for transaction \S+ (\{.*\})", output, re.S)[1]))


# Arguments


def test_every_script_of_the_cli_goes_through_the_wrapper() -> None:
    mandated = "start start:prod tx block range alert sequence file publish info logs push"
    assert {*mandated.split(), "disable", "enable", "keyfile", "stake"} == set(MODES)
    assert SCRIPTS["start:dev"].endswith('--exec "node scripts/forta.mjs start" --')
    assert not any("forta-agent" in script for script in SCRIPTS.values())


@pytest.mark.parametrize("mode", MODES)
def test_help_is_short_and_costs_no_start_of_the_cli(project: Path, mode: str) -> None:
    result = run(project, mode, "--help")
    name = "npm start" if mode == "start" else f"npm run {mode}"
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: {name} --")
    assert len(result.stdout.splitlines()) <= 12
    assert "exit codes: 0 done, 1 failed, 2 wrong usage" in result.stdout
    needs_value = mode in {"tx", "block", "range", "sequence", "file"}
    assert ("\nexample:\n" in result.stdout) == needs_value


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["tx"], "HASH[,HASH...] is missing: npm run tx -- HASH[,HASH...]"),
        (["tx", "0xab"], '"0xab" is not a transaction hash'),
        (["tx", f"{HASH},{HASH}0"], "is not a transaction hash"),
        (["tx", HASH, HASH], "unexpected argument"),
        (["tx", HASH, "--noccache"], "Unknown option '--noccache'"),
        (["block", "abc"], '"abc" is neither a block number nor a block hash'),
        (["block", "1,,2"], '"" is neither'),
        (["range", "foo"], '"foo" is not a range of blocks'),
        (["range", "5..4"], "the last block of 5..4 must be after the first"),
        (["sequence", f"tx{HASH},x"], '"x" is not a step: a transaction is tx0x...'),
        (["sequence", HASH], f"a transaction is tx{HASH}"),
        (["file", "none.json"], "none.json cannot be read: no such file"),
        (["file", "src"], "src cannot be read: it is a folder"),
        (["file", "src/agent.py"], "src/agent.py is not a JSON object"),
        (["file", "package.json"], "package.json has nothing for this bot"),
        (["file", "event.json"], '{"transaction":{}} needs a hash'),
        (["alert", HASH], "has no handler for alerts"),
        (["start", "now"], 'unexpected argument "now"'),
        (["start", "--config", "/none.json"], "/none.json cannot be read: no such file"),
        (["start:prod", "--config", "none.json"], "none.json cannot be read: no such file"),
        (["publish", "--config", "none.json"], "none.json cannot be read: no such file"),
        (["block", "1", "--config", "src/agent.py"], "src/agent.py is not a JSON object"),
    ],
)
def test_arguments_that_cannot_be_right_end_with_one_line(
    project: Path, words: list[str], problem: str
) -> None:
    (project / "event.json").write_text('{"transactionEvents": [{"transaction": {}}]}')
    result = run(project, *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert problem in result.stderr
    assert result.stderr.startswith(f"{words[0]}: ")
    assert result.stderr.count("\n") == 1


# The node


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<html>", "its answer is not JSON"),
        ("null", "not an Ethereum node"),
        ('{"result": "zz"}', "not an Ethereum node"),
        ('{"result": "0x0"}', "not an Ethereum node"),
        ('{"error": {"message": "bad project key-of-mine"}}', "bad project ***"),
    ],
)
def test_a_node_that_says_no_chain_is_one_line_without_its_key(
    project: Path, answer: str, said: str
) -> None:
    with serve(lambda _: Response(answer)) as url:
        result = run(project, "tx", HASH, url=f"{url}/key-of-mine")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"does not answer ({said})" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["start"], ["tx", HASH]])
def test_a_node_that_cannot_be_reached_is_one_line_without_its_key(
    project: Path, words: list[str]
) -> None:
    result = run(project, *words, url=f"{DEAD_NODE}/v3/key-of-mine")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"the node at {DEAD_NODE} does not answer (ECONNREFUSED)" in result.stderr
    assert "key-of-mine" not in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "url", "problem"),
    [
        ({}, "", "no node is configured: export JSON_RPC_URL"),
        ({}, "wss://node/key-of-mine", "must begin with http:// or https://"),
    ],
)
def test_a_node_that_is_missing_or_no_http_is_one_line(
    project: Path, config: dict[str, str], url: str, problem: str
) -> None:
    (project / "forta.config.json").write_text(json.dumps(config))
    result = run(project, "block", "1", url=url)
    assert (result.returncode, result.stdout) == (2, "")
    assert problem in result.stderr
    assert "key-of-mine" not in result.stderr


def test_the_cli_and_the_bot_read_one_private_file_made_from_json_rpc_url(
    project: Path, chain: Chain
) -> None:
    block = newest(chain)
    # NODE_ENV=production would make the CLI ignore any configuration.
    result = run(project, "block", block["hash"], url=chain.url, NODE_ENV="production")
    assert result.returncode == 0, result.stderr
    seen = finding(result.stdout)
    assert seen["description"] == block["transactions"][0]
    assert stat.S_IMODE(int(seen["metadata"]["mode"], 8)) == 0o600
    assert not Path(seen["metadata"]["config"]).parent.exists()


def test_a_named_file_counts_more_than_json_rpc_url(project: Path, chain: Chain) -> None:
    named = project.parent / "node.json"
    named.write_text(f'{{ "jsonRpcUrl": "{chain.url}" /* comments are allowed */ }}')
    block = newest(chain)
    number = str(int(block["number"], 16))
    result = run(project, "block", number, "--config", str(named), "--nocache", url=DEAD_NODE)
    assert result.returncode == 0, result.stderr
    assert finding(result.stdout)["description"] == block["transactions"][0]


def test_a_block_that_the_node_does_not_have_is_a_readable_error(
    project: Path, chain: Chain
) -> None:
    result = run(project, "block", "999999", url=chain.url)
    assert result.returncode == 1
    assert f"the node at {chain.url} does not have block 999999 (yet)" in result.stderr
    assert "TypeError" not in result.stderr


# Processes


def test_a_live_run_waits_for_a_lagging_node_and_leaves_nothing_behind(
    project: Path, chain: Chain, httpserver: HTTPServer
) -> None:
    """Its URL has a user and a password, which ethers would leave out."""
    lagging = True

    def answer(request: Request) -> Response:
        nonlocal lagging
        body = request.get_json()
        if lagging and body["method"] == "eth_getBlockByNumber":
            lagging = False
            return Response(json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": None}))
        return Response(requests.post(chain.url, json=body, timeout=PATIENCE).content)

    login = {"Authorization": "Basic YW5uOnNlY3JldCE="}
    httpserver.expect_request("/", headers=login).respond_with_handler(answer)
    url = httpserver.url_for("/").replace("//", "//ann:secret%21@", 1)
    with started(project, "start", url=url) as (process, log):
        wait_until(lambda: "1 findings for transaction" in log.read_text(), process)
        assert "start: the node does not have block 1; retrying" in log.read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("python" in name for name in names(children))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert psutil.wait_procs(children, PATIENCE)[1] == []
    assert not Path(finding(log.read_text())["metadata"]["config"]).parent.exists()


def test_a_killed_bot_ends_the_run_with_its_code(project: Path, chain: Chain) -> None:
    result = run(project, "tx", newest(chain)["transactions"][0], url=chain.url, END_IN_HANDLER="1")
    assert result.returncode == 128 + signal.SIGKILL
    assert "SIGKILL" in result.stderr


def test_start_dev_hands_its_options_to_the_cli(project: Path) -> None:
    named = project.parent / "node.json"
    named.write_text(json.dumps({"jsonRpcUrl": DEAD_NODE}))
    # nodemon starts the script of its working directory.
    (project / "scripts").symlink_to(ROOT / "scripts")
    with started(project, "start:dev", "--config", str(named)) as (process, log):
        wait_until(lambda: f"{DEAD_NODE} does not answer" in log.read_text(), process)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_start_prod_serves_as_on_a_scan_node(project: Path) -> None:
    port = str(free_port())
    scan_node = {"JSON_RPC_HOST": "127.0.0.1", "JSON_RPC_PORT": "9", "AGENT_GRPC_PORT": port}
    event = transaction_event(tx_hash=HASH, sender="0x" + "a1" * 20, logs=[])
    with (
        started(project, "start:prod", **scan_node) as (process, _),
        connect(int(port), project.parent, process, timeout=PATIENCE) as bridge,
    ):
        (seen,) = bridge.evaluate(event).findings
        assert seen.metadata["environment"] == "production"


# The key


def test_keyfile_makes_a_key_once_that_only_its_user_can_read(project: Path) -> None:
    cancelled = run(project, "keyfile")  # stdin is empty
    assert cancelled.returncode == 1
    assert cancelled.stderr == "keyfile: no key was made: no password was given\n"
    made = subprocess.run(
        command("keyfile"), cwd=project, env=environment(project.parent),
        input="a password\r", capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (key,) = (project.parent / ".forta").glob("UTC--*")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert f"address: 0x{key.name.rsplit('--', 1)[1]}" in made.stdout
    again = run(project, "keyfile")
    assert again.returncode == 0, again.stderr
    assert f"path: {key}" in again.stdout
    assert list((project.parent / ".forta").glob("UTC--*")) == [key]
