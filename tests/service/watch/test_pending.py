"""Pending transactions: screened before their block, told once, joined to what is mined."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests
from eth_utils.crypto import keccak
from werkzeug import Request, Response

from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import SourceUnavailable
from src.demo.anvil import Chain, anvil
from src.detection.records import Action
from src.service.context import open_screener
from src.service.database.engine import Database, Page
from src.service.database.screenings import (
    NewScreening,
    ScreeningFilter,
    StoredScreening,
    list_screenings,
)
from src.service.decider import Decider
from src.service.node import NodeReader
from src.service.screening.notices import EarlyAlerts
from src.service.screening.pending import PendingWatcher
from src.service.watch.notify import Notifier
from src.service.watch.watcher import Watcher
from tests.service.chain import common_settings, service_settings
from tests.support.fake_chain import serve
from tests.support.recording_chain import call_data, creation_code
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.integration

FEES = {"gas": hex(200_000), "maxFeePerGas": hex(10**11), "maxPriorityFeePerGas": hex(10**9)}
PAID = "0x" + "b2" * 20


class Receiver:
    """A channel that keeps what it is sent; it fails while `broken`."""

    name = "receiver"

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.broken = False

    def send(self, message: Any) -> str | None:
        if self.broken:
            return "out of order"
        self.got.append(message.content | {"title": message.title, "text": message.text})
        return None


class Stage:
    """A chain whose blocks are mined by the test, with what watches it."""

    def __init__(
        self,
        opened: ExitStack,
        database: Database,
        chain: Chain,
        url: str | None = None,
        **changes: Any,
    ) -> None:
        self.chain, self.database = chain, database
        self.owner, self.thief = chain.accounts[:2]
        types = ["string", "string", "uint256", "address"]
        code = creation_code("ERC20PresetFixedSupply", types, "Token", "TKN", 10**24, self.owner)
        self.token = str(chain.send(self.owner, data=code)["contractAddress"]).lower()
        chain.rpc("evm_setAutomine", False)
        common = common_settings(url or chain.url)
        decider = Decider(common)
        opened.callback(decider.close)
        reader = NodeReader(chain.url, requests_per_second=10_000, verify=True, patience=0.2)
        opened.callback(reader.close)
        node = JsonRpcClient(chain.url)
        opened.callback(node.close)
        self.receiver = Receiver()
        self.early = EarlyAlerts(database, [self.receiver], Action.REVIEW)
        self.notifier = Notifier(database, [self.receiver], 1)
        head = int(chain.rpc("eth_blockNumber"), 16)
        settings = service_settings("", watch_from=head + 1)
        self.watcher = Watcher(database, reader, decider, settings, 1, self.notifier.channel_names)
        self.now = 1_000.0
        settings_of_pending = {"accounts": frozenset({self.owner}), "per_second": 100} | changes
        self.pending = PendingWatcher(
            database, node, open_screener(opened, common, decider), decider,
            on_screening=self.early.add, clock=lambda: self.now, **settings_of_pending,
        )  # fmt: skip
        self.pending.open()

    def send(self, amount: int = 5, sender: str | None = None, **more: Any) -> str:
        """An unusual payment of the watched account: it is reviewed."""
        data = call_data("0xa9059cbb", ["address", "uint256"], PAID, amount)
        call = {"from": sender or self.owner, "to": self.token, "data": data, **FEES, **more}
        return str(self.chain.rpc("eth_sendTransaction", call))

    def mine(self) -> None:
        self.chain.rpc("evm_mine")
        self.watcher.catch_up()
        self.notifier.send_due()

    def screening(self, tx_hash: str) -> StoredScreening:
        with self.database.reading() as connection:
            stored, _ = list_screenings(connection, ScreeningFilter(), Page(50))
        (found,) = (one for one in stored if one.tx_hash == tx_hash)
        return found


@contextmanager
def staged(database: Database, **changes: Any) -> Iterator[Stage]:
    with ExitStack() as opened:
        chain = opened.enter_context(anvil(timestamp=1_700_000_000))
        yield Stage(opened, database, chain, **changes)


def test_an_alert_comes_before_the_block_and_is_told_once(database: Database) -> None:
    with staged(database) as stage:
        tx_hash = stage.send()
        assert stage.pending.poll() == 1
        stage.early.send_due()
        (early,) = stage.receiver.got
        assert early["event"] == "pending"
        assert early["transaction_hash"] == tx_hash
        assert "Not mined yet" in early["text"]
        before = stage.screening(tx_hash)
        assert (before.state, before.status, before.action) == ("pending", "success", Action.REVIEW)
        stage.mine()
        assert stage.receiver.got == [early], "the alert of the mined transaction is not told again"
        joined = stage.screening(tx_hash)
        assert (joined.state, joined.mined_action) == ("mined", before.action)
        assert joined.lead_seconds is not None


def test_who_was_not_told_early_is_told_once_it_is_mined(sqlite: Database) -> None:
    with staged(sqlite) as stage:
        tx_hash = stage.send()
        stage.receiver.broken = True
        stage.pending.poll()
        stage.early.send_due()
        stage.receiver.broken = False
        stage.mine()
        (told,) = stage.receiver.got
        assert (told["event"], told["transaction_hash"]) == ("alert", tx_hash)


@pytest.mark.parametrize("change", [100, -100], ids=["later", "clock set back"])
def test_a_transaction_that_disappears_is_marked_dropped(sqlite: Database, change: int) -> None:
    with staged(sqlite) as stage:
        tx_hash = stage.send()
        stage.pending.poll()
        stage.chain.rpc("anvil_dropTransaction", tx_hash)
        stage.now += change
        stage.pending.poll()
        assert stage.screening(tx_hash).state == "dropped"


def test_a_replaced_block_makes_it_pending_again(sqlite: Database) -> None:
    with staged(sqlite) as stage:
        before = stage.chain.rpc("evm_snapshot")
        tx_hash = stage.send()
        stage.pending.poll()
        stage.mine()
        assert stage.screening(tx_hash).state == "mined"
        stage.chain.rpc("evm_revert", before)
        stage.chain.rpc("anvil_mine", "0x2")
        stage.watcher.catch_up()
        assert stage.screening(tx_hash).state == "pending"


def test_state_that_moves_in_between_shows_as_a_difference(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with staged(sqlite) as stage:
        data = call_data("0xa9059cbb", ["address", "uint256"], stage.thief, 7)
        stage.chain.rpc(
            "eth_sendTransaction", {"from": stage.owner, "to": stage.token, "data": data, **FEES}
        )
        stage.mine()
        spent = stage.send(7, sender=stage.thief, to=stage.token)
        watched = stage.pending
        watched._accounts = frozenset({stage.thief})
        watched.poll()
        assert stage.screening(spent).action == Action.REVIEW
        # The tokens are gone before its block: it moves nothing there.
        balance = keccak(bytes.fromhex(stage.thief[2:].zfill(64) + "0" * 64)).hex()
        stage.chain.rpc("anvil_setStorageAt", stage.token, "0x" + balance, "0x" + "0" * 64)
        stage.mine()
        after = stage.screening(spent)
        assert (after.state, after.mined_action) == ("mined", Action.ALLOW)
        assert "was mined as ALLOW, and screened as REVIEW" in caplog.text


def test_only_watched_accounts_and_new_contracts_are_screened(sqlite: Database) -> None:
    with staged(sqlite, accounts=frozenset()) as stage:
        stage.send()
        stage.chain.rpc(
            "eth_sendTransaction", {"from": stage.thief, "data": "0x600a80600b6000396000f3", **FEES}
        )
        assert stage.pending.poll() == 1, "a creation, and no payment by nobody in particular"


def test_a_new_contract_is_screened_and_an_old_one_is_not(sqlite: Database) -> None:
    new = "0x" + "c0" * 20
    with ExitStack() as opened:
        chain = opened.enter_context(anvil(timestamp=1_700_000_000))

        def archive(request: Request) -> Response:
            """The chain, as if it kept the states of the last day: Anvil has too few."""
            asked = request.get_json()
            if asked["method"] == "eth_getCode":
                code = "0x" if asked["params"][0] == new else "0x60"
                return Response(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": code}))
            answer = requests.post(chain.url, json=asked, timeout=PATIENCE)
            return Response(answer.content)

        url = opened.enter_context(serve(archive))
        stage = Stage(opened, sqlite, chain, url, accounts=frozenset())
        chain.rpc("anvil_mine", hex(7_500))
        stage.send()
        assert stage.pending.poll() == 0
        stage.send(to=new)
        assert stage.pending.poll() == 1


def test_a_flood_stays_within_the_budget(sqlite: Database) -> None:
    with staged(sqlite) as stage:
        for _ in range(8):
            stage.send()
        stage.pending._budget = RateLimit(Rate(3, 1.0), clock=lambda: 0.0)  # within one second
        assert stage.pending.poll() == 3


class FailsOnce:
    """A node that cannot say one transaction, once."""

    def __init__(self, node: JsonRpcClient) -> None:
        self._node = node
        self._has_failed = False

    def call(self, method: str, params: list[Any]) -> Any:
        if method == "eth_getTransactionByHash" and not self._has_failed:
            self._has_failed = True
            raise SourceUnavailable("node", "busy")
        return self._node.call(method, params)


def test_a_look_up_that_fails_takes_no_other_transaction_along(sqlite: Database) -> None:
    with staged(sqlite) as stage:
        stage.pending._node = FailsOnce(stage.pending._node)  # type: ignore[assignment]
        for _ in range(3):
            stage.send()
        assert stage.pending.poll() == 0
        stage.send()
        assert stage.pending.poll() == 3


def test_a_filter_that_the_node_forgot_is_made_again(sqlite: Database) -> None:
    with staged(sqlite) as stage:
        stage.chain.rpc("eth_uninstallFilter", stage.pending._filter)
        stage.pending.poll()
        stage.pending.poll()
        stage.send()
        assert stage.pending.poll() == 1


def test_screenings_are_listed_newest_first(sqlite: Database) -> None:
    with staged(sqlite) as stage:
        first = stage.send()
        stage.pending.poll()
        stage.now += 1
        second = stage.send()
        stage.pending.poll()
        with sqlite.reading() as connection:
            found, total = list_screenings(connection, ScreeningFilter(state="pending"), Page(50))
        assert ([one.tx_hash for one in found], total) == ([second, first], 2)
        assert isinstance(found[0], NewScreening)
