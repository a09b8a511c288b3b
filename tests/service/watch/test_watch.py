"""Watch mode on a real local chain: resumes, follows reorganisations."""

import json
import threading
import time
from pathlib import Path

import pytest
import requests
from prometheus_client import REGISTRY
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.errors import SourceUnavailable
from src.demo.anvil import Chain, anvil
from src.detection.records import Action
from src.monitoring import exposition
from src.service.database import alerts, chain, watching
from src.service.database.engine import Database
from src.service.embedded import embedded_node
from src.service.watch.__main__ import main
from src.service.watch.notify import Webhook
from tests.service.chain import HEAD, THEFT
from tests.service.database.rows import alert, transaction
from tests.service.watch.watching import all_alerts, stored, watching_chain
from tests.support.fake_chain import serve
from tests.support.recording_chain import call_data, creation_code
from tests.support.waiting import PATIENCE, wait_until


def test_every_block_is_worked_through_once_and_watching_resumes(database: Database) -> None:
    with embedded_node() as url:
        with watching_chain(database, url, watch_from=HEAD - 20, confirmations=5) as watcher:
            assert watcher.catch_up() == 16
            assert watcher.catch_up() == 0
        with watching_chain(database, url) as watcher:
            assert watcher.catch_up() == 5
    assert stored(database, THEFT) == (False, int(Action.BLOCK))
    hashes = [(one.tx_hash, one.alert_id) for one in all_alerts(database)]
    assert len(hashes) == len(set(hashes))


def test_a_node_that_moved_to_another_chain_takes_nothing_back(sqlite: Database) -> None:
    moved = threading.Event()
    with embedded_node() as honest:

        def answer(request: Request) -> Response:
            body = request.get_json()
            content = requests.post(honest, json=body, timeout=PATIENCE).json()
            if moved.is_set() and body["method"] == "eth_chainId":
                content["result"] = "0x38"
            if moved.is_set() and body["method"] == "eth_getBlockByNumber":
                content["result"]["hash"] = "0x" + "22" * 32
            return Response(json.dumps(content))

        with serve(answer) as url, watching_chain(sqlite, url) as watcher:
            assert watcher.catch_up() == 1
            moved.set()
            with pytest.raises(SourceUnavailable, match="on chain 56, and chain 1 is watched"):
                watcher.catch_up()
            assert stored(sqlite, THEFT) == (False, int(Action.BLOCK))
            moved.clear()
            assert watcher.catch_up() == 0


def test_what_confirmations_take_is_no_lag(sqlite: Database) -> None:
    hour, confirmations = 3_600.0, 5
    with (
        embedded_node() as url,
        watching_chain(
            sqlite, url, block_seconds=hour, watch_from=HEAD - 5, confirmations=confirmations
        ) as watcher,
    ):
        call = {"method": "eth_getBlockByNumber", "params": [hex(HEAD - 5), False]}
        body = {"jsonrpc": "2.0", "id": 1, **call}
        block = requests.post(url, json=body, timeout=PATIENCE).json()["result"]
        due = int(block["timestamp"], 16) + confirmations * hour
        before = time.time()
        assert watcher.catch_up() == 1
    assert before - due <= value_of("lag_seconds") <= time.time() - due


def test_the_first_start_begins_at_the_head(database: Database) -> None:
    with embedded_node() as url, watching_chain(database, url) as watcher:
        assert watcher.catch_up() == 1
        with database.reading() as connection:
            last = watching.last_watched(connection, 1)
    assert last is not None
    assert last.block_number == HEAD


def test_a_node_that_is_still_synchronising_is_not_the_start_of_the_chain(
    sqlite: Database,
) -> None:
    heads = ["0x0"]
    with embedded_node() as honest:

        def answer(request: Request) -> Response:
            body = request.get_json()
            if body["method"] == "eth_blockNumber" and heads:
                return Response(json.dumps({"jsonrpc": "2.0", "id": 1, "result": heads.pop()}))
            return Response(requests.post(honest, json=body, timeout=PATIENCE).content)

        with serve(answer) as url, watching_chain(sqlite, url) as watcher:
            with pytest.raises(SourceUnavailable, match="synchronising"):
                watcher.catch_up()
            assert watcher.catch_up() == 1
    with sqlite.reading() as connection:
        last = watching.last_watched(connection, 1)
    assert last is not None
    assert last.block_number == HEAD


def test_a_failing_node_ends_nothing(database: Database, tmp_path: Path) -> None:
    failing = threading.Event()
    failing.set()
    failed: list[Request] = []
    with embedded_node() as honest:

        def answer(request: Request) -> Response:
            if failing.is_set():
                failed.append(request)
                return Response("", 503)
            return Response(
                requests.post(honest, json=request.get_json(), timeout=PATIENCE).content
            )

        stop = threading.Event()
        with serve(answer) as url, watching_chain(database, url, block_seconds=1.0) as watcher:
            thread = threading.Thread(target=watcher.run, args=(stop,))
            thread.start()
            wait_until(lambda: len(failed) >= 3)
            failing.clear()

            def has_watched() -> bool:
                with database.reading() as connection:
                    return watching.last_watched(connection, 1) is not None

            wait_until(has_watched)
            stop.set()
            thread.join(PATIENCE)
        assert not thread.is_alive()
    assert stored(database, THEFT)[0] is False


class Token:
    """An ERC-20 contract on a local chain."""

    def __init__(self, local: Chain) -> None:
        self.chain = local
        code = creation_code(
            "ERC20PresetFixedSupply",
            ["string", "string", "uint256", "address"],
            # It impersonates: each transfer of it deserves an alert.
            "USD Coin",
            "USDC",
            2**200,
            local.accounts[0],
        )
        self.address = str(local.send(local.accounts[0], data=code)["contractAddress"])

    def transfer(self, sender: int, recipient: int, amount: int) -> str:
        accounts = self.chain.accounts
        data = call_data("0xa9059cbb", ["address", "uint256"], accounts[recipient], amount)
        receipt = self.chain.send(accounts[sender], to=self.address, data=data)
        return str(receipt["transactionHash"])


@pytest.mark.integration
def test_a_reorganisation_orphans_what_is_gone_and_nothing_stands_twice(
    database: Database,
) -> None:
    with anvil(timestamp=1_704_067_200) as local:
        token = Token(local)
        stays = token.transfer(0, 1, 10**18)
        snapshot = local.rpc("evm_snapshot")
        gone = token.transfer(0, 1, 5 * 10**18)
        moves = token.transfer(1, 2, 10**17)
        with watching_chain(database, local.url, watch_from=0) as watcher:
            head = int(local.rpc("eth_blockNumber"), 16)
            assert watcher.catch_up() == head + 1
            before = all_alerts(database)
            assert {one.tx_hash for one in before} >= {stays, gone, moves}
            # Another chain from here on, one block longer: `moves` comes earlier, `gone` never.
            raw = local.rpc("eth_getTransactionByHash", moves)
            local.rpc("evm_revert", snapshot)
            local._time = int(local.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            again = token.transfer(1, 2, 10**17)
            assert raw["hash"] == again == moves  # the same transaction in another block
            local.mine(3)
            watcher.catch_up()
        assert stored(database, stays)[0] is False
        assert stored(database, gone)[0] is True
        assert stored(database, moves)[0] is False
        after = all_alerts(database)
        assert [one.orphaned for one in after if one.tx_hash == gone] != []
        assert {one.tx_hash for one in after if one.orphaned} == {gone}
        # What was told of `moves` before is told of it now, and stands once.
        assert {one.id for one in before} <= {one.id for one in after}
        keys = [(one.tx_hash, one.alert_id) for one in after]
        assert len(keys) == len(set(keys))
        with database.reading() as connection:
            last = watching.last_watched(connection, 1)
        assert last is not None
        number = hex(last.block_number)
        assert local.rpc("eth_getBlockByNumber", number, False)["hash"] == last.block_hash


@pytest.mark.integration
def test_a_node_that_lags_behind_is_no_reorganisation(database: Database) -> None:
    with anvil(timestamp=1_704_067_200) as local:
        local.mine(5)
        lag = 0

        def answer(request: Request) -> Response:
            body = request.get_json()
            honest = requests.post(local.url, json=body, timeout=PATIENCE).json()
            if body["method"] == "eth_blockNumber":
                honest["result"] = hex(int(honest["result"], 16) - lag)
            if body["method"] == "eth_getBlockByNumber" and int(body["params"][0], 16) > 5 - lag:
                honest["result"] = None
            return Response(json.dumps(honest))

        with serve(answer) as url, watching_chain(database, url, watch_from=0) as watcher:
            assert watcher.catch_up() == 6
            lag = 2
            assert watcher.catch_up() == 0
            with database.reading() as connection:
                last = watching.last_watched(connection, 1)
    assert last is not None
    assert last.block_number == 5


def test_a_block_that_a_backend_does_not_have_was_not_replaced(sqlite: Database) -> None:
    missing: set[str] = set()
    with embedded_node() as honest:

        def answer(request: Request) -> Response:
            body = request.get_json()
            if body["method"] == "eth_getBlockByNumber" and body["params"][0] in missing:
                return Response(json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": None}))
            return Response(requests.post(honest, json=body, timeout=PATIENCE).content)

        with serve(answer) as url, watching_chain(sqlite, url, watch_from=HEAD - 3) as watcher:
            watcher.catch_up()
            missing.add(hex(HEAD))
            with pytest.raises(SourceUnavailable, match="lags behind"):
                watcher.catch_up()
            missing.clear()
            assert watcher.catch_up() == 0
    assert all_alerts(sqlite)
    assert not any(one.orphaned for one in all_alerts(sqlite))


def value_of(name: str) -> float:
    value = REGISTRY.get_sample_value(f"token_transfers_watch_{name}")
    assert value is not None
    return value


def test_a_watcher_whose_node_is_down_from_the_start_shows_it(sqlite: Database) -> None:
    stop = threading.Event()
    failed: list[Request] = []

    def answer(request: Request) -> Response:
        failed.append(request)
        if len(failed) > 3:
            stop.set()
        return Response("", 503)

    began = time.time()
    with serve(answer) as url, watching_chain(sqlite, url, block_seconds=1.0) as watcher:
        watcher.run(stop)
    assert watcher.problems() == ["node: eth_blockNumber: HTTP 503"]
    assert value_of("started_timestamp_seconds") >= began
    assert value_of("lag_seconds") > 0


def test_a_block_that_cannot_be_had_is_named_until_it_can(sqlite: Database) -> None:
    stop, attempts = threading.Event(), 0
    with embedded_node() as honest:

        def answer(request: Request) -> Response:
            nonlocal attempts
            body = request.get_json()
            content = requests.post(honest, json=body, timeout=PATIENCE).json()
            if body["method"] == "eth_getBlockByNumber" and body["params"][0] == hex(HEAD):
                attempts += 1
                content["result"]["receiptsRoot"] = "0x" + "11" * 32
                if attempts == 3:
                    stop.set()
            return Response(json.dumps(content))

        with serve(answer) as url, watching_chain(sqlite, url, watch_from=HEAD - 1) as watcher:
            watcher.run(stop)
            assert value_of("stuck_block") == HEAD
            (problem,) = watcher.problems()
            assert f"block {HEAD}" in problem
            server, _ = exposition.serve(0, problems=watcher.problems)
            probed = f"http://127.0.0.1:{server.server_port}"
            answer = requests.get(f"{probed}/readyz", timeout=PATIENCE)
            assert (answer.status_code, answer.json()["problems"]) == (503, [problem])
            assert "stuck_block" in requests.get(f"{probed}/metrics", timeout=PATIENCE).text
            server.shutdown()
            server.server_close()
        with watching_chain(sqlite, honest) as watcher:
            watcher.catch_up()
            assert value_of("stuck_block") == -1


def test_the_command_watches_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'watch.db'}")
    with embedded_node() as url:
        monkeypatch.setenv("JSON_RPC_URL", url)
        monkeypatch.setenv("WATCH_FROM_BLOCK", "0")
        monkeypatch.setenv("JSON_RPC_REQUESTS_PER_SECOND", "10000")
        assert main(["--once", "--from-block", str(HEAD - 3)]) == 0
        monkeypatch.setenv("NOTIFY_URLS", "nonsense")
        assert main(["--once"]) == 2
        assert "NOTIFY_URLS" in capsys.readouterr().err
    monkeypatch.delenv("NOTIFY_URLS")
    monkeypatch.setenv("JSON_RPC_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NODE_PATIENCE_SECONDS", "0")
    assert main(["--once"]) == 1
    opened = Database(f"sqlite:///{tmp_path / 'watch.db'}")
    assert stored(opened, THEFT)[0] is False
    opened.close()


def test_watching_once_sends_all_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/hook").respond_with_data("")
    url = httpserver.url_for("/hook")
    many = 101  # a reading of the queue takes a hundred
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'watch.db'}")
    monkeypatch.setenv("WEBHOOK_URLS", url)
    monkeypatch.setenv("WEBHOOK_SECRET", "a shared secret of some length")
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", "true")
    opened = Database(f"sqlite:///{tmp_path / 'watch.db'}")
    opened.migrate()
    with opened.writing() as connection:
        chain.store_transactions(connection, 1, [transaction()], 1.0)
        new = [alert(alert_id=f"A-{number}") for number in range(many)]
        ids = alerts.store_alerts(connection, new, 1.0)
        channel = Webhook(url, "").name
        watching.queue_notifications(connection, ids, channel, 1.0)
    opened.close()
    with embedded_node() as node:
        monkeypatch.setenv("JSON_RPC_URL", node)
        monkeypatch.setenv("JSON_RPC_REQUESTS_PER_SECOND", "10000")
        assert main(["--once", "--from-block", str(HEAD)]) == 0
    assert len(httpserver.log) >= many


def test_without_a_node_there_is_nothing_to_watch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JSON_RPC_URL", raising=False)
    monkeypatch.delenv("JSON_RPC_HOST", raising=False)
    assert main([]) == 2
    assert "JSON_RPC_URL" in capsys.readouterr().err
