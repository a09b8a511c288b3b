"""A replay answers as the node did, also to the forta-agent CLI."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import token_infos
from src.chain.transfers import TRANSFER_TOPIC
from src.demo.anvil import Chain, anvil
from src.demo.forta_cli import run_cli
from src.history.record import main as record
from tests.chain.replay.served import UNKNOWN_HASH, ask, serve
from tests.support.recording_chain import NAME, SYMBOL, play


@pytest.fixture(scope="module")
def chain() -> Iterator[tuple[Chain, str]]:
    with anvil(timestamp=1_700_000_000) as running:
        token = play(running)
        yield running, token


@pytest.fixture(scope="module")
def replayed(
    chain: tuple[Chain, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Chain, str, str]]:
    """The chain, its token, and the URL of its replay."""
    node, token = chain
    folder = tmp_path_factory.mktemp("recording")
    head = str(int(node.rpc("eth_blockNumber"), 16))
    options = ["--url", node.url, "--requests-per-second", "5000", "--blocks-per-part", "7"]
    blocks = ["--from-block", "0", "--to-block", head, "--out", str(folder)]
    assert record([*blocks, *options]) == 0
    with serve(folder) as url:
        yield node, token, url


@pytest.mark.integration
def test_every_block_answers_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, _, url = replayed
    for number in range(int(node.rpc("eth_blockNumber"), 16) + 1):
        block = node.rpc("eth_getBlockByNumber", hex(number), True)
        questions: list[tuple[Any, ...]] = [
            ("eth_getBlockByNumber", hex(number), True),
            ("eth_getBlockByNumber", hex(number), False),
            ("eth_getBlockByHash", block["hash"], True),
            ("eth_getBlockByHash", block["hash"].upper().replace("0X", "0x"), False),
            ("eth_getBlockReceipts", hex(number)),
            ("eth_getBlockReceipts", block["hash"]),
            ("eth_getLogs", {"fromBlock": hex(number), "toBlock": hex(number)}),
            ("eth_getLogs", {"blockHash": block["hash"]}),
        ]
        for transaction in block["transactions"]:
            questions += [
                ("eth_getTransactionByHash", transaction["hash"]),
                ("eth_getTransactionReceipt", transaction["hash"]),
                ("eth_getTransactionCount", transaction["from"], hex(number)),
            ]
        for question in questions:
            assert ask(url, *question) == node.rpc(*question), question


@pytest.mark.integration
def test_the_chain_itself_answers_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, _, url = replayed
    for question in [
        ("eth_chainId",),
        ("net_version",),
        ("eth_blockNumber",),
        ("eth_getBlockByNumber", "latest", True),
        ("eth_getBlockByNumber", "earliest", False),
        ("eth_getBlockByNumber", "0xffffff", False),
        ("eth_getTransactionCount", node.accounts[0], "latest"),
        ("eth_getTransactionCount", node.accounts[0], "0x0"),
    ]:
        assert ask(url, *question) == node.rpc(*question), question


@pytest.mark.integration
def test_logs_are_filtered_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, token, url = replayed
    everything = {"fromBlock": "0x0", "toBlock": "latest"}
    word = "0x" + "0" * 24
    receiver = word + node.accounts[1][2:]
    other = "0x" + "ab" * 20
    filters: list[dict[str, Any]] = [
        {},
        {"address": token},
        {"address": token.upper().replace("0X", "0x")},
        {"address": [token, other]},
        {"address": other},
        {"address": []},
        {"topics": []},
        {"topics": [TRANSFER_TOPIC]},
        {"topics": [None, None, receiver]},
        {"topics": [[TRANSFER_TOPIC, UNKNOWN_HASH], None, [receiver, word + node.accounts[2][2:]]]},
        {"topics": [UNKNOWN_HASH]},
    ]
    found = []
    for one in filters:
        logs = ask(url, "eth_getLogs", everything | one)
        assert logs == node.rpc("eth_getLogs", everything | one), one
        found.append(len(logs))
    assert found[0] > max(found[1], found[8])  # the filters do filter
    assert min(found[1], found[8]) > 0


@pytest.mark.integration
def test_token_metadata_answers_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, token, url = replayed
    for selector in ("0x06fdde03", "0x95d89b41", "0x313ce567"):
        call = {"to": token, "data": selector}
        assert ask(url, "eth_call", call, "latest") == node.rpc("eth_call", call, "latest")
    info = token_infos(JsonRpcClient(url), [token])[token]  # the bot's own client, by Multicall3
    assert not isinstance(info, Exception)
    assert (info.name, info.symbol, info.decimals) == (NAME, SYMBOL, 18)


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["tx", "block", "range"])
def test_the_forta_cli_runs_on_a_replay(
    replayed: tuple[Chain, str, str], tmp_path: Path, mode: str
) -> None:
    node, _, url = replayed
    (tmp_path / "src").mkdir()
    (tmp_path / "package.json").write_text('{"name": "t", "version": "0.0.1", "chainIds": [1]}')
    (tmp_path / "src" / "agent.py").write_text(
        "from forta_agent import Finding, FindingSeverity, FindingType\n"
        "def handle_transaction(event):\n"
        "    return [Finding({'name': 'n', 'description': str(len(event.logs)), 'alert_id': 'A',\n"
        "        'severity': FindingSeverity.Info, 'type': FindingType.Info})]\n"
    )
    blocks = [
        node.rpc("eth_getBlockByNumber", hex(number), True)
        for number in range(int(node.rpc("eth_blockNumber"), 16) + 1)
    ]
    busiest = max(range(len(blocks)), key=lambda number: len(blocks[number]["transactions"]))
    chosen = blocks[busiest : busiest + 2] if mode == "range" else [blocks[busiest]]
    hashes = [transaction["hash"] for block in chosen for transaction in block["transactions"]]
    argument = {"tx": hashes[0], "block": str(busiest), "range": f"{busiest}..{busiest + 1}"}
    if mode == "tx":
        hashes = hashes[:1]
    home = tmp_path / "home"
    result = run_cli(mode, argument[mode], json_rpc_url=url, home=home, project=tmp_path)
    logs_of = {tx: len(node.rpc("eth_getTransactionReceipt", tx)["logs"]) for tx in hashes}
    seen = {tx: int(findings[0]["description"]) for tx, findings in result.findings.items()}
    assert seen == logs_of
    assert max(logs_of.values()) > 0
