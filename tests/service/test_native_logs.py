"""Native transfers as logs (EIP-7708), before and after the fork, on every way into the house.

The transactions are a local chain's. No local node emits the logs yet: a proxy adds, to each
receipt, those that the EIP prescribes for the calls that the chain has traced.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from forta_agent import create_transaction_event
from werkzeug import Request, Response

from src import agent
from src.chain.clients.rpc import JsonRpcClient
from src.chain.recording.fetch import BlockFetcher, Node
from src.chain.recording.format import open_writer
from src.chain.transfers import NATIVE_EMITTERS, SIMULATION_ADDRESS, SYSTEM_ADDRESS
from src.datasets.training_set import load_background
from src.demo.anvil import Chain, anvil
from src.detection.parties import parties_of
from src.detection.records import NATIVE
from src.service.database import chain as stored_chain
from src.service.database import decisions
from src.service.database.engine import Database
from src.service.decider import Decider
from src.service.node import NodeReader
from src.service.watch.watcher import Watcher
from src.service.web.transaction.view import view_transaction
from tests.backtest.runs import rows_of, run
from tests.conftest import transfer_log
from tests.service.chain import common_settings, service_settings
from tests.service.databases import database_url
from tests.support.fake_chain import serve
from tests.support.recording_chain import call_data, creation_code
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.integration

# Sends the value on to the account in the first word; with a token in the second, it then calls
# that with the 68 bytes that follow.
FORWARDER = "604460406000376000600060006000346000355af1506000600060446000600060203" + "55af100"
DESTROYER = "600035ff"  # leaves all it has to the account in the first word
NEWCOMER = "0x" + "c0" * 20


def deploying(runtime: str) -> str:
    size = f"{len(runtime) // 2:02x}"
    return f"0x60{size}80600b6000396000f3{runtime}"


def word(value: int | str) -> str:
    return f"{value:064x}" if isinstance(value, int) else value[2:].rjust(64, "0")


class Sent(NamedTuple):
    """The transactions on the chain, by what they do, and the token."""

    chain: Chain
    token: str
    hashes: dict[str, str]


@pytest.fixture(scope="module")
def sent() -> Iterator[Sent]:
    with anvil(timestamp=1_700_000_000) as chain:
        one, two, three = chain.accounts[:3]
        supply = ["string", "string", "uint256", "address"]
        code = creation_code("ERC20PresetFixedSupply", supply, "Token", "TKN", 10**24, one)
        token = str(chain.send(one, data=code)["contractAddress"]).lower()
        swapper = chain.send(one, data=deploying(FORWARDER))["contractAddress"]
        doomed = chain.send(one, data=deploying(DESTROYER))["contractAddress"]
        chain.send(
            one, to=token, data=call_data("0xa9059cbb", ["address", "uint256"], swapper, 10**20)
        )
        pay_token = call_data("0xa9059cbb", ["address", "uint256"], two, 5)
        receipts = {
            "payment": chain.send(two, to=three, value=10**18),
            "token alone": chain.send(one, to=token, data=pay_token),
            "internal payment": chain.send(two, to=swapper, value=7, data="0x" + word(NEWCOMER)),
            "swap from ETH": chain.send(
                two, to=swapper, value=10**17,
                data="0x" + word(NEWCOMER) + word(token) + pay_token[2:],
            ),
            "creation": chain.send(three, data=deploying("00"), value=11),
            "self-destruct": chain.send(two, to=doomed, value=13, data="0x" + word(NEWCOMER)),
        }  # fmt: skip
        yield Sent(chain, token, {k: r["transactionHash"] for k, r in receipts.items()})


def moved_in(frame: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """What the frames of a trace transfer, in the order of the EIP."""
    value = int(frame.get("value") or "0x0", 16)
    if value and frame["type"] in ("CALL", "CREATE", "CREATE2", "SELFDESTRUCT"):
        yield frame["from"], frame["to"], value
    for inner in frame.get("calls", ()):
        yield from moved_in(inner)


def with_native_logs(chain: Chain, receipt: dict[str, Any], emitters: list[str]) -> dict[str, Any]:
    trace = chain.rpc(
        "debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"}
    )
    place = {key: receipt[key] for key in ("blockHash", "blockNumber", "transactionHash")}
    place |= {"transactionIndex": receipt["transactionIndex"], "removed": False}
    logs = [
        place | transfer_log(emitter, payer.lower(), payee.lower(), amount)
        for payer, payee, amount in moved_in(trace)
        for emitter in emitters
    ]
    logs += receipt["logs"]
    return receipt | {"logs": [log | {"logIndex": hex(at)} for at, log in enumerate(logs)]}


@contextmanager
def after_the_fork(chain: Chain, emitters: list[str] | None = None) -> Iterator[str]:
    wanted = emitters or [SYSTEM_ADDRESS]

    def answer(request: Request) -> Response:
        body = request.get_json()
        honest = requests.post(chain.url, json=body, timeout=PATIENCE).json()
        if body["method"] == "eth_getTransactionReceipt" and honest["result"]:
            honest["result"] = with_native_logs(chain, honest["result"], wanted)
        if body["method"] == "eth_getBlockReceipts":
            honest["result"] = [with_native_logs(chain, r, wanted) for r in honest["result"]]
        return Response(json.dumps(honest))

    with serve(answer) as url:
        yield url


def reader(url: str) -> NodeReader:
    return NodeReader(url, requests_per_second=10_000, verify=False, patience=1.0)


def read(url: str, tx_hash: str) -> Any:
    node = reader(url)
    try:
        return node.transaction(tx_hash)
    finally:
        node.close()


def height(chain: Chain) -> int:
    return int(chain.rpc("eth_blockNumber"), 16)


def test_every_native_transfer_is_known_to_the_wei(sent: Sent) -> None:
    with after_the_fork(sent.chain) as url:
        for kind, tx_hash in sent.hashes.items():
            got = read(url, tx_hash)
            assert len(got.transfers) == (kind in ("token alone", "swap from ETH")), kind
            assert got.value == sum(m.amount for m in got.native[:1])
            changes: dict[str, int] = {}
            if got.transfers:
                found = parties_of(got.transfers, got.sender, {})
                for party, own in found.balances_with_native(got.native, None).items():
                    changes[party] = own.get(NATIVE, 0)
            else:
                for moved in got.native:
                    changes[moved.sender] = changes.get(moved.sender, 0) - moved.amount
                    changes[moved.recipient] = changes.get(moved.recipient, 0) + moved.amount
            changes[got.sender] = changes.get(got.sender, 0) - got.gas_cost_wei
            block = got.block_number
            for account, change in changes.items():
                before, after = (
                    int(sent.chain.rpc("eth_getBalance", account, hex(at)), 16)
                    for at in (block - 1, block)
                )
                assert after - before == change, (kind, account)


@pytest.mark.parametrize("emitters", [[SYSTEM_ADDRESS], [SIMULATION_ADDRESS, SYSTEM_ADDRESS]])
def test_watching_decides_the_same_before_and_after_the_fork(
    sent: Sent, tmp_path: Path, emitters: list[str]
) -> None:
    outcomes = []
    with after_the_fork(sent.chain, emitters) as forked:
        for name, url in (("before", sent.chain.url), ("after", forked)):
            database = Database(database_url("sqlite", tmp_path / name))
            database.migrate()
            decider, node = Decider(common_settings(sent.chain.url)), reader(url)
            settings = service_settings("", watch_from=0)
            Watcher(database, node, decider, settings, 1, []).catch_up()
            with database.reading() as connection:
                found = {
                    kind: decisions.newest_decision(connection, 1, tx_hash)
                    for kind, tx_hash in sent.hashes.items()
                }
                kept = stored_chain.find_transaction(connection, 1, sent.hashes["swap from ETH"])
                view = view_transaction(connection, decider.pipeline, sent.hashes["swap from ETH"])
            node.close()
            decider.close()
            database.close()
            assert kept is not None
            assert view is not None
            native = [(m.recipient, m.amount) for m in kept[0].native]
            assert native == (
                [] if name == "before" else [(kept[0].to, 10**17), (NEWCOMER, 10**17)]
            )
            assert kept[0].value == 10**17
            ether = [(one.payee, one.amount) for one in view.moves if one.label == "ETH"]
            assert ether == [(kept[0].to, "0.1"), (NEWCOMER, "0.1")][: 1 if name == "before" else 2]
            outcomes.append(
                {
                    kind: None if one is None else (one.score, one.attack_score, one.action)
                    for kind, one in found.items()
                }
            )
    assert outcomes[0] == outcomes[1]
    assert {kind for kind, one in outcomes[0].items() if one} == {"token alone", "swap from ETH"}


def test_the_handler_sees_no_phantom_token(sent: Sent, start_bot: Any) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(json.dumps(request.get_json()))
        return Response(requests.post(sent.chain.url, data=request.data, timeout=PATIENCE).content)

    with serve(answer) as url, after_the_fork(sent.chain) as forked:
        start_bot(JSON_RPC_URL=url)
        block = {"number": height(sent.chain), "timestamp": 1_700_000_000}
        for kind, tx_hash in sent.hashes.items():
            results = []
            for node in (sent.chain.url, forked):
                body = {"jsonrpc": "2.0", "id": 1, "params": [tx_hash]}
                receipt, transaction = (
                    requests.post(
                        node, json=body | {"method": f"eth_get{what}"}, timeout=PATIENCE
                    ).json()["result"]
                    for what in ("TransactionReceipt", "TransactionByHash")
                )
                event = {"transaction": transaction, "logs": receipt["logs"], "block": block}
                findings = agent.handle_transaction(create_transaction_event(event))
                results.append([json.loads(one.toJson()) for one in findings])
            before, after = results
            assert bool(after) == (kind in ("token alone", "swap from ETH"))
            for finding in [*before, *after]:
                assert not NATIVE_EMITTERS & set(finding["addresses"])
                for name in [n for n in finding["metadata"] if n.endswith("_time")]:
                    del finding["metadata"][name]
                del finding["metadata"]["alert_rate"]
            assert before == after
    assert not [body for body in asked if any(one[2:] in body for one in NATIVE_EMITTERS)]


def test_a_recording_its_data_set_and_a_backtest_count_tokens_alone(
    sent: Sent, tmp_path: Path
) -> None:
    decided = []
    with after_the_fork(sent.chain) as forked, ThreadPoolExecutor(2) as pool:
        for name, url in (("before", sent.chain.url), ("after", forked)):
            client = JsonRpcClient(url, timeout=PATIENCE)
            fetcher = BlockFetcher(Node(client, 1.0), verify=False)
            folder = tmp_path / name
            with open_writer(folder, 1) as writer:
                for rows in fetcher.fetch_all(range(height(sent.chain) + 1), pool, 4):
                    writer.add(rows)
                assert writer.unknown_tokens() == [sent.token]
                writer.write()
            client.close()
            assert set(load_background(folder).batch.token_addresses) == {sent.token}
            assert run(folder, tmp_path / f"{name}-decisions") == 0
            decided.append(rows_of(tmp_path / f"{name}-decisions").sort_index())
    assert decided[0].equals(decided[1])
    assert set(decided[0].index) > {sent.hashes["swap from ETH"]}
    assert sent.hashes["payment"] not in decided[0].index
