"""Notifications of what was watched: signed, sent once, tried again, taken back."""

import hashlib
import hmac
import json
import math
import threading
import time
from typing import Any
from uuid import UUID

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.decision.tokens import TokenView
from src.detection.records import Action
from src.monitoring import metrics
from src.service.database import alerts, chain, decisions, watching
from src.service.database.engine import Database
from src.service.embedded import embedded_node
from src.service.watch.message import Notice, read_message
from src.service.watch.notify import (
    MAX_ATTEMPTS,
    AppriseChannel,
    Channel,
    Notifier,
    Webhook,
    signature,
)
from tests.conftest import ALICE, BOB, USDC
from tests.service.chain import HEAD
from tests.service.database.rows import alert, decision, transaction
from tests.service.watch.watching import all_alerts, watching_chain
from tests.support.fake_chain import serve
from tests.support.waiting import FOR_EVER, wait_until

SECRET = "a shared secret"


def one_alert(database: Database, channel: str, **changes: Any) -> int:
    with database.writing() as connection:
        chain.store_transactions(connection, changes.get("chain_id", 1), [transaction()], 1.0)
        (number,) = alerts.store_alerts(connection, [alert(**changes)], 1.0)
        watching.queue_notifications(connection, [number], channel, 1.0)
    return number


def unsent(database: Database, channel: str) -> list[watching.DueNotification]:
    with database.reading() as connection:
        return watching.due_notifications(connection, 1, channel, math.inf, MAX_ATTEMPTS)


def test_a_webhook_is_signed_and_sent_once(sqlite: Database) -> None:
    received: list[Request] = []

    def receive(request: Request) -> Response:
        request.get_data()
        received.append(request)
        return Response("", 204)

    with serve(receive) as url:
        channel = Webhook(url, SECRET, allow_private=True)
        number = one_alert(sqlite, channel.name)
        notifier = Notifier(sqlite, [channel], 1)
        assert notifier.send_due() == 1
        assert notifier.send_due() == 0
    (request,) = received
    body = request.get_data()
    told = request.headers["X-Timestamp"].encode() + b"." + body
    expected = hmac.new(SECRET.encode(), told, hashlib.sha256).hexdigest()
    assert request.headers["X-Signature"] == f"sha256={expected}"
    assert signature(SECRET.encode(), "1", b"{}") != signature(b"another", "1", b"{}")
    document = json.loads(body)
    assert (document["id"], document["action"]) == (number, "BLOCK")
    assert "score" not in document
    assert document["details"]["score"] is not None
    assert document["links"]["explorer"].endswith(document["transaction_hash"])
    identity = request.headers["X-Notification-Id"]
    assert str(UUID(identity)) == identity == document["notification_id"]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_webhook_that_fails_is_tried_again(
    sqlite: Database, status: int, httpserver: HTTPServer
) -> None:
    httpserver.expect_ordered_request("/").respond_with_data("", status)
    httpserver.expect_ordered_request("/").respond_with_data("")
    channel = Webhook(httpserver.url_for("/"), SECRET, allow_private=True)
    one_alert(sqlite, channel.name)
    notifier = Notifier(sqlite, [channel], 1, first_pause=0.0)
    assert [notifier.send_due(), notifier.send_due(), notifier.send_due()] == [0, 1, 0]


def test_watchers_of_two_chains_with_one_receiver_tell_it_each_of_their_own(
    sqlite: Database,
) -> None:
    received: list[Any] = []

    def receive(request: Request) -> Response:
        received.append(request.get_json()["chain_id"])
        return Response("", 204)

    with serve(receive) as url:
        channel = Webhook(url, SECRET, allow_private=True)
        for chain_id in (1, 8453):
            one_alert(sqlite, channel.name, chain_id=chain_id)
        for chain_id in (8453, 1):
            assert Notifier(sqlite, [channel], chain_id).send_due() == 1
    assert received == [8453, 1]


def test_a_receiver_that_is_away_is_not_asked_again_at_once(sqlite: Database) -> None:
    channel = Webhook("http://127.0.0.1:1/", SECRET, allow_private=True)
    one_alert(sqlite, channel.name)
    notifier = Notifier(sqlite, [channel], 1)
    assert [notifier.send_due(), notifier.send_due()] == [0, 0]
    assert len(unsent(sqlite, channel.name)) == 1


def test_attempts_are_counted_until_the_last(sqlite: Database) -> None:
    def attempts(outcome: str) -> float:
        (counter,) = metrics.NOTIFICATIONS.labels(outcome).collect()
        return counter.samples[0].value

    outcomes = ("delivered", "failed", "given_up")
    before = [attempts(outcome) for outcome in outcomes]
    channel = Webhook("http://127.0.0.1:1/", SECRET, allow_private=True)
    one_alert(sqlite, channel.name)
    notifier = Notifier(sqlite, [channel], 1, first_pause=0.0)
    for _ in range(MAX_ATTEMPTS + 1):
        notifier.send_due()
    made = [attempts(outcome) - earlier for outcome, earlier in zip(outcomes, before, strict=True)]
    assert made == [0, MAX_ATTEMPTS - 1, 1]


def test_a_delivered_alert_that_a_reorganisation_took_away_is_retracted(sqlite: Database) -> None:
    sent: list[tuple[str, str]] = []

    class Kept:
        name = "kept"

        def send(self, message: Notice) -> str | None:
            sent.append((message.content["event"], message.title))
            return None

    one_alert(sqlite, "kept")
    notifier = Notifier(sqlite, [Kept()], 1)
    assert notifier.send_due() == 1
    with sqlite.writing() as connection:
        chain.mark_orphaned(connection, 1, [transaction().block_hash])
        watching.retract_notifications(connection, 1, [transaction().tx_hash], time.time())
    assert notifier.send_due() == 1
    assert notifier.send_due() == 0
    title = "BLOCK: Anomalous Transaction"
    assert sent == [("alert", title), ("retraction", f"Retracted: {title}")]


def test_a_message_tells_what_was_gained_and_lost_and_where_to_look(sqlite: Database) -> None:
    evil = "[click](https://evil.example) @everyone"
    with sqlite.writing() as connection:
        tokens = [TokenView(USDC, "USD Coin", evil, 6)]
        chain.store_tokens(connection, 1, tokens)
    number = one_alert(sqlite, "c")
    (due,) = unsent(sqlite, "c")
    with sqlite.writing() as connection:
        decisions.store_decision(connection, decision(), {})
        message = read_message(connection, due, "https://pages.example/")
    assert message is not None
    document = message.content
    assert document["id"] == number
    assert document["details"]["percentile"] == decision().percentile
    assert document["details"]["reasons"] == decision().reasons
    lost, gained = document["details"]["changes"]
    assert (lost["account"], lost["is_gain"], lost["token"]) == (ALICE, False, USDC)
    assert (gained["account"], gained["is_gain"]) == (BOB, True)
    tx_hash = transaction().tx_hash
    assert document["links"] == {
        "explorer": f"https://etherscan.io/tx/{tx_hash}",
        "page": f"https://pages.example/ui/transactions/{tx_hash}",
    }
    assert document["summary"] == decision().summary
    assert f"{decision().summary}\n" in message.text
    assert "evil" not in message.text
    assert "Anomaly score 0.750" in message.text


def test_nobody_hears_of_what_a_reorganisation_took_away(sqlite: Database) -> None:
    class Silent:
        name = "silent"

        def send(self, message: Notice) -> str | None:
            raise AssertionError(message)

    one_alert(sqlite, "silent")
    with sqlite.writing() as connection:
        chain.mark_orphaned(connection, 1, [transaction().block_hash])
    Notifier(sqlite, [Silent()], 1).send_due()
    assert unsent(sqlite, "silent") == []


def test_a_channel_that_raises_does_not_stop_the_others(sqlite: Database) -> None:
    sent = []

    class Broken:
        name = "broken"

        def send(self, message: Notice) -> str | None:
            raise ValueError

    class Sound:
        name = "sound"

        def send(self, message: Notice) -> str | None:
            sent.append(message.content["id"])
            return None

    number = one_alert(sqlite, "broken")
    with sqlite.writing() as connection:
        watching.queue_notifications(connection, [number], "sound", 1.0)
    channels: list[Channel] = [Broken(), Sound()]
    assert Notifier(sqlite, channels, 1).send_due() == 1
    assert sent == [number]


def test_a_receiver_that_hangs_does_not_delay_the_others(sqlite: Database) -> None:
    answers = threading.Event()
    arrived = threading.Event()

    class Hanging:
        name = "hanging"

        def send(self, _: Notice) -> str | None:
            answers.wait(FOR_EVER)
            return None

    class Sound:
        name = "sound"

        def send(self, _: Notice) -> str | None:
            arrived.set()
            return None

    number = one_alert(sqlite, "hanging")
    with sqlite.writing() as connection:
        watching.queue_notifications(connection, [number], "sound", 1.0)
    notifier = Notifier(sqlite, [Hanging(), Sound()], 1)
    notifier.start()
    try:
        wait_until(arrived.is_set)
    finally:
        answers.set()
        notifier.stop()


@pytest.mark.filterwarnings("ignore")
def test_apprise_delivers_to_its_channels(sqlite: Database) -> None:
    received: list[Any] = []

    def receive(request: Request) -> Response:
        received.append(request.get_json())
        return Response("{}")

    with serve(receive) as url:
        channel = AppriseChannel(url.replace("http://", "json://"))
        one_alert(sqlite, channel.name, reason="gained 5 @everyone from evil.example")
        assert Notifier(sqlite, [channel], 1).send_due() == 1
    (document,) = received
    assert document["title"] == "BLOCK: Anomalous Transaction"
    assert "@everyone" not in document["message"]
    assert "evil.example" not in document["message"]
    assert "5 @\u200beveryone from evil.\u200bexample" in document["message"]
    assert f"https://etherscan.io/tx/{transaction().tx_hash}" in document["message"].split()
    assert document["type"] == "failure"
    assert url not in channel.name


def test_only_drastic_enough_actions_are_told(database: Database) -> None:
    with embedded_node() as url:
        settings: dict[str, Any] = {"watch_from": HEAD - 20, "notify_from": Action.BLOCK}
        with watching_chain(database, url, channels=("c",), **settings) as watcher:
            watcher.catch_up()
    with database.reading() as connection:
        due = watching.due_notifications(connection, 1, "c", time.time(), 5)
    told = {one.alert for one in due}
    blocking = {one.id for one in all_alerts(database) if one.action == Action.BLOCK}
    assert told == blocking
    assert told
