"""What is stored stands once, is found, counted and kept."""

import math
from collections.abc import Iterator
from dataclasses import replace

import alembic.command
import pytest
from sqlalchemy import Connection, func, select

from src.chain.transfers import NativeTransfer, Transfer
from src.decision.tokens import TokenView
from src.service.database import (
    alerts,
    analyses,
    chain,
    decisions,
    registry,
    statistics,
    watching,
)
from src.service.database.engine import Database, Page, alembic_config
from src.service.database.tables import forests
from src.service.records import selector_of
from tests.conftest import ALICE, BOB, TIMESTAMP, TX_HASH, USDC
from tests.service.database.rows import (
    BLOCK_HASH,
    NEW_BLOCK_HASH,
    OTHER_HASH,
    alert,
    decision,
    listed,
    store,
    store_alert,
    transaction,
)


def test_a_transaction_stored_twice_stands_once_with_exact_amounts(database: Database) -> None:
    store(database, transaction())
    store(database, transaction())
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (transaction(), False)


def test_a_log_index_beyond_32_bits_is_stored(database: Database) -> None:
    far = transaction(
        tx_index=2**40,
        transfers=(Transfer(USDC, ALICE, BOB, 1, 2**40),),
        native=(NativeTransfer(ALICE, BOB, 1, 2**63 - 1),),
    )
    store(database, far)
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (far, False)


def test_a_reorganised_transaction_moves_with_its_alerts_and_transfers(database: Database) -> None:
    store(database, transaction())
    store_alert(database)
    with database.writing() as connection:
        assert chain.mark_orphaned(connection, 1, [BLOCK_HASH]) == 1
    assert [one.orphaned for one in listed(database)] == [True]
    moved = transaction(
        block_hash=NEW_BLOCK_HASH, block_number=101, transfers=(Transfer(USDC, ALICE, BOB, 5, 9),)
    )
    store(database, moved)
    store_alert(database, block_number=101)  # decided anew
    assert [(one.orphaned, one.block_number) for one in listed(database)] == [(False, 101)]
    with database.reading() as connection:
        assert chain.find_transaction(connection, 1, TX_HASH) == (moved, False)


def test_an_orphaned_transaction_has_no_decision(database: Database) -> None:
    store(database, transaction())
    with database.writing() as connection:
        decisions.store_decision(connection, decision(), {"density": 1.0, "age": None})
        decisions.store_decision(connection, decision(), {"density": 1.0, "age": None})
    assert decisions.find_decision(database, 1, TX_HASH, "d1") == decision()
    assert decisions.find_decision(database, 1, TX_HASH, "d2") is None
    with database.reading() as connection:
        found = decisions.find_features(connection, 1, TX_HASH, "1650000000")
        assert found == {"density": 1.0, "age": None}
    with database.writing() as connection:
        chain.mark_orphaned(connection, 1, [BLOCK_HASH])
    assert decisions.find_decision(database, 1, TX_HASH, "d1") is None


def test_the_newest_decision_is_the_last_one_stored_even_if_the_clock_went_back(
    database: Database,
) -> None:
    store(database, transaction(), transaction(tx_hash=OTHER_HASH))
    first = decision(decider="d1", decided_at=9.0, action=2, summary="first")
    second = decision(decider="d2", decided_at=5.0, action=0, summary="second")
    for one in (first, second):
        with database.writing() as connection:
            decisions.store_decision(connection, one, {})

    def check(newest: decisions.StoredDecision) -> None:
        with database.reading() as connection:
            assert decisions.newest_decision(connection, 1, TX_HASH) == newest
            assert decisions.newest_decision_time(connection, 1) == newest.decided_at
            shown = newest.action, newest.score, newest.summary
            keys = [(1, TX_HASH), (1, OTHER_HASH), (1, "0x")]
            assert decisions.decided_on(connection, keys) == {(1, TX_HASH): shown}

    check(second)
    with database.writing() as connection:
        decisions.store_decision(connection, first, {})
    check(first)
    with database.writing() as connection:  # of earlier versions, times are all that is known
        alembic.command.downgrade(alembic_config(connection), "0016")
    database.migrate()
    check(first)
    with database.writing() as connection:
        decisions.store_decision(connection, second, {})
    check(second)


@pytest.mark.parametrize(
    ("data", "selector"),
    [
        ("0xA9059CBB" + "00" * 64, "0xa9059cbb"), ("0x", "0x"), ("0xa905", None), ("", None),
        ("0xzz059cbb", None), (None, None), (7, None),
    ],
)  # fmt: skip
def test_the_selector_is_read_from_a_call_s_data(data: object, selector: str | None) -> None:
    assert selector_of(data) == selector


def test_an_alert_stored_twice_keeps_its_id_and_feedback(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        for verdict in (True, False):
            alerts.give_feedback(
                connection, number, "ann", is_true_positive=verdict, note="bot", now=3.0
            )
    assert store_alert(database) == number
    (found,) = listed(database)
    assert found.feedback == (alerts.Feedback("ann", False, "bot", 3.0),)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"a", "b"}),
        ({"since": TIMESTAMP + 1}, {"b"}),
        ({"until": TIMESTAMP}, {"a"}),
        ({"action": 2}, {"a"}),
        ({"severity": "Low"}, {"b"}),
        ({"token": USDC}, {"a"}),
        ({"sender": BOB}, {"b"}),
        ({"alert_id": "LOW"}, {"b"}),
        ({"tx_hash": TX_HASH}, {"a"}),
        ({"with_feedback": True}, {"a"}),
        ({"with_feedback": False}, {"b"}),
        ({"orphaned": True}, set()),
    ],
)
def test_alerts_are_filtered(
    database: Database, wanted: dict[str, object], expected: set[str]
) -> None:
    later = transaction(tx_hash=OTHER_HASH, transfers=())
    store(database, transaction(), later)
    first = store_alert(database)
    store_alert(
        database,
        tx_hash=OTHER_HASH,
        alert_id="LOW",
        severity="Low",
        action=1,
        from_address=BOB,
        block_timestamp=TIMESTAMP + 9,
    )
    with database.writing() as connection:
        alerts.give_feedback(connection, first, "ann", is_true_positive=True, note="", now=3.0)
    names = {TX_HASH: "a", OTHER_HASH: "b"}
    assert {names[one.tx_hash] for one in listed(database, **wanted)} == expected


@pytest.mark.parametrize("sort", ["time", "score", "severity", "action"])
def test_alerts_are_sorted_both_ways_and_paged(database: Database, sort: alerts.SortKey) -> None:
    store(database, transaction(), transaction(tx_hash=OTHER_HASH))
    low = store_alert(
        database, alert_id="LOW", severity="Low", score=None, action=1, block_timestamp=1
    )
    high = store_alert(database, tx_hash=OTHER_HASH)
    with database.reading() as connection:
        for descending, order in ((True, [high, low]), (False, [low, high])):
            pages = [
                alerts.list_alerts(
                    connection,
                    alerts.AlertFilter(),
                    sort=sort,
                    descending=descending,
                    limit=1,
                    offset=offset,
                )
                for offset in (0, 1, 2)
            ]
            ids = [one.id for page, _ in pages for one in page]
            expected = [high, low] if sort == "score" else order
            assert ids == expected  # no score comes last either way
            assert {total for _, total in pages} == {2}


def test_the_overview_counts_what_is_in_the_chain(database: Database) -> None:
    store(database, transaction(), transaction(tx_hash=OTHER_HASH, block_hash=NEW_BLOCK_HASH))
    store_alert(database)
    store_alert(database, tx_hash=OTHER_HASH)
    with database.writing() as connection:
        chain.store_tokens(connection, 1, [TokenView(USDC, "USD Coin", "USDC", 6)])
        decisions.store_decision(connection, decision(score=1.0), {})
        decisions.store_decision(connection, decision(tx_hash=OTHER_HASH), {})
        chain.mark_orphaned(connection, 1, [NEW_BLOCK_HASH])
        found = statistics.overview(
            connection, 1, "d1", since=TIMESTAMP, until=TIMESTAMP, bucket_seconds=3600
        )
        assert statistics.block_times(connection, 1) == (TIMESTAMP, TIMESTAMP)
        chain.store_tokens(connection, 1, [TokenView(USDC, "USD Coin", "USDC", 6, True)])
        fake = statistics.overview(
            connection, 1, "d1", since=TIMESTAMP, until=TIMESTAMP, bucket_seconds=3600
        )
    assert fake.top_tokens == [statistics.Count(USDC, USDC, 1)]
    assert (found.transactions, found.anomalies, found.invalid) == (1, 1, 0)
    assert found.alerts_over_time == [(TIMESTAMP - TIMESTAMP % 3600, "Critical", 1)]
    assert found.score_histogram == [0] * 49 + [1]
    assert found.actions == {2: 1}
    assert found.top_tokens == [statistics.Count(USDC, "USDC", 1)]
    assert found.top_senders == [statistics.Count(ALICE, ALICE, 1)]


def test_models_are_the_chains_own_also_of_two_of_the_same_moment(
    database: Database,
) -> None:
    with database.writing() as connection:
        ids = [
            registry.register_model(
                connection,
                content=content,
                sha256=content.hex(),
                inputs=["value"],
                offset=-0.5,
                training={"chain_id": chain_id},
                now=7.0,
            )
            for content, chain_id in ((b"a", 1), (b"b", 1), (b"c", 56), (b"b", 1))
        ]
        latest = registry.latest_model(connection, 1)
        none = registry.latest_model(connection, 10)
        listed_models, total = registry.list_models(connection, 1, Page(50))
        assert latest is not None
        assert registry.forest_of(connection, latest) == b"b"
    assert none is None
    assert [one.id for one in listed_models] == [ids[3], ids[1], ids[0]]
    assert total == 3


def test_the_same_forest_is_stored_once_however_often_it_is_trained(database: Database) -> None:
    with database.writing() as connection:
        for _ in range(3):
            registry.register_model(
                connection, content=b"a", sha256="a", inputs=[], offset=0.0,
                training={"chain_id": 1}, now=1.0,
            )  # fmt: skip
        assert registry.list_models(connection, 1, Page(50))[1] == 3
        assert connection.scalar(select(func.count()).select_from(forests)) == 1


def analysis_of(database: Database, **changes: object) -> analyses.Analysis:
    with database.writing() as connection:
        model = registry.register_model(
            connection, content=b"", sha256="", inputs=[], offset=0.0, training={}, now=1.0
        )
    return replace(analyses.Analysis("f" * 64, 1, 5, 6, BLOCK_HASH, model, 2, 1, 1.0), **changes)


def latest(database: Database, limit: int = 10) -> list[analyses.Analysis]:
    with database.reading() as connection:
        return analyses.latest_analyses(connection, 1, limit)


ROWS = [
    analyses.AnalysisRow(0, USDC, TX_HASH, "USDC", 1.5, 0.01, 0.7, 0.7, True),
    analyses.AnalysisRow(1, USDC, OTHER_HASH, "USDC", 1.0, 0.01, 0.4, 0.4, False),
]


def test_an_analysis_stored_twice_stands_once(database: Database) -> None:
    analysis = analysis_of(database)
    for _ in range(2):
        analyses.store_analysis(database, analysis, ROWS)
    with database.reading() as connection:
        found = analyses.analysis_rows_of(connection, analysis.id, anomalies_only=False)
        page = analyses.analysis_rows_of(
            connection, analysis.id, anomalies_only=False, limit=1, offset=1
        )
        marked = analyses.analysis_rows_of(connection, analysis.id, anomalies_only=True)
    assert (found, page, marked) == (ROWS, ROWS[1:], ROWS[:1])
    assert latest(database) == [analysis]


def test_others_write_while_an_analysis_is_stored_which_is_complete_once_it_is_there(
    database: Database,
) -> None:
    def rows() -> Iterator[analyses.AnalysisRow]:
        for rank in range(1_200):
            if rank % 400 == 0:
                store(database, transaction(tx_hash=f"0x{rank:064x}"))
                assert latest(database) == []
            yield replace(ROWS[0], rank=rank)

    analysis = analysis_of(database)
    analyses.store_analysis(database, analysis, rows())
    assert latest(database) == [analysis]


def test_the_latest_analysis_is_the_last_one_stored_even_if_the_clock_went_back(
    database: Database,
) -> None:
    first = analysis_of(database, id="b" * 64, analysed_at=9.0)
    second = replace(first, id="a" * 64, analysed_at=3.0)
    for one in (first, second, first):
        analyses.store_analysis(database, one, [])
    assert latest(database) == [second, first]


def test_newer_analyses_of_another_chain_do_not_displace_those_of_a_chain(
    database: Database,
) -> None:
    own = analysis_of(database)
    for one in (own, replace(own, id="b" * 64, chain_id=8453, analysed_at=2.0)):
        analyses.store_analysis(database, one, [])
    assert latest(database, 1) == [own]


def due_now(connection: Connection, now: float) -> list[tuple[int, bool]]:
    due = watching.due_notifications(connection, 1, "c", now, max_attempts=9)
    return [(one.alert, one.is_retraction) for one in due]


def test_a_flood_of_cheap_alerts_does_not_hold_up_a_grave_one(database: Database) -> None:
    store(database, transaction())
    with database.writing() as connection:
        many = [alert(alert_id=f"CHEAP-{n}", action=1) for n in range(30)]
        grave = alert(alert_id="GRAVE", action=2)
        numbers = alerts.store_alerts(connection, [*many, grave], 1.0)
        watching.queue_notifications(connection, numbers, "c", now=1.0)
        assert due_now(connection, 2.0)[0] == (numbers[-1], False)


def test_a_notification_that_failed_is_due_at_once_if_the_clock_is_set_back(
    database: Database,
) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        watching.queue_notifications(connection, [number], "c", now=1000.0)
        assert due_now(connection, 900.0) == [(number, False)]
        (due,) = watching.due_notifications(connection, 1, "c", 1000.0, max_attempts=9)
        watching.note_attempt(connection, due, now=1000.0, failure="HTTP 500", pause=100.0)
        assert due_now(connection, 1050.0) == []
        assert due_now(connection, 900.0) == [(number, False)]
        watching.note_attempt(connection, due, now=900.0, failure="HTTP 500", pause=100.0)
        assert due_now(connection, 950.0) == []


def test_what_was_sent_is_retracted_and_what_was_not_is_dropped(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    hashes = [transaction().tx_hash]

    def send(connection: Connection, now: float) -> str:
        (due,) = watching.due_notifications(connection, 1, "c", now, max_attempts=9)
        watching.note_attempt(connection, due, now=now, failure=None, pause=0.0)
        return due.uuid

    with database.writing() as connection:
        watching.queue_notifications(connection, [number], "c", now=1.0)
        watching.retract_notifications(connection, 1, hashes, 2.0)
        assert due_now(connection, 2.0) == [(number, False)]  # it is not orphaned
        chain.mark_orphaned(connection, 1, [transaction().block_hash])
        watching.retract_notifications(connection, 1, hashes, 2.0)
        assert due_now(connection, 2.0) == []

        alerts.store_alerts(connection, [alert()], 3.0)
        watching.queue_notifications(connection, [number], "c", now=3.0)
        ids = {send(connection, 3.0)}
        chain.mark_orphaned(connection, 1, [transaction().block_hash])
        for _ in range(2):
            watching.retract_notifications(connection, 1, hashes, 4.0)
        assert due_now(connection, 4.0) == [(number, True)]
        alerts.store_alerts(connection, [alert()], 5.0)  # back before anybody was told
        watching.queue_notifications(connection, [number], "c", now=5.0)
        assert due_now(connection, 5.0) == []

        chain.mark_orphaned(connection, 1, [transaction().block_hash])
        watching.retract_notifications(connection, 1, hashes, 6.0)
        ids.add(send(connection, 6.0))
        alerts.store_alerts(connection, [alert()], 7.0)
        watching.queue_notifications(connection, [number], "c", now=7.0)
        assert due_now(connection, 7.0) == [(number, False)]
        ids.add(send(connection, 7.0))
    assert len(ids) == 3


def test_what_a_reorganisation_drops_on_its_way_is_retracted(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        watching.queue_notifications(connection, [number], "c", now=1.0)
        (due,) = watching.due_notifications(connection, 1, "c", 1.0, max_attempts=9)
        chain.mark_orphaned(connection, 1, [transaction().block_hash])
        watching.retract_notifications(connection, 1, [transaction().tx_hash], 2.0)
        watching.note_attempt(connection, due, now=3.0, failure=None, pause=0.0)
        assert due_now(connection, 3.0) == [(number, True)]


def retraction(connection: Connection, number: int) -> watching.DueNotification:
    """Of an alert that was sent and whose transaction left the chain, not tried yet."""
    watching.queue_notifications(connection, [number], "c", now=1.0)
    (due,) = watching.due_notifications(connection, 1, "c", 1.0, max_attempts=9)
    watching.note_attempt(connection, due, now=1.0, failure=None, pause=0.0)
    chain.mark_orphaned(connection, 1, [transaction().block_hash])
    watching.retract_notifications(connection, 1, [transaction().tx_hash], 2.0)
    (due,) = watching.due_notifications(connection, 1, "c", 2.0, max_attempts=9)
    assert due.is_retraction
    return due


def test_an_alert_is_sent_again_if_a_failed_attempt_may_have_retracted_it(
    database: Database,
) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        due = retraction(connection, number)
        watching.note_attempt(connection, due, now=3.0, failure="timed out", pause=9.0)
        alerts.store_alerts(connection, [alert()], 4.0)
        watching.queue_notifications(connection, [number], "c", now=4.0)
        assert due_now(connection, 5.0) == [(number, False)]


def test_an_alert_is_sent_again_if_its_retraction_was_on_its_way_when_it_came_back(
    database: Database,
) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        due = retraction(connection, number)
        alerts.store_alerts(connection, [alert()], 4.0)
        watching.queue_notifications(connection, [number], "c", now=4.0)
        watching.note_attempt(connection, due, now=5.0, failure=None, pause=0.0)
        assert due_now(connection, 5.0) == [(number, False)]


def test_watched_blocks_and_notifications_are_kept(database: Database) -> None:
    store(database, transaction())
    number = store_alert(database)
    with database.writing() as connection:
        for height in (1, 2, 3):
            block = watching.WatchedBlock(height, f"0x{height}", f"0x{height - 1}")
            watching.add_watched(connection, 1, block, keep=2)
        watching.forget_watched(connection, 1, block)
        last = watching.last_watched(connection, 1)
        for _ in range(2):
            watching.queue_notifications(connection, [number], "c", now=1.0)
        (due,) = watching.due_notifications(connection, 1, "c", 1.0, max_attempts=2)
        watching.note_attempt(connection, due, now=1.0, failure="HTTP 500", pause=4.0)
        assert watching.due_notifications(connection, 1, "c", 4.0, max_attempts=2) == []
        (due,) = watching.due_notifications(connection, 1, "c", 5.0, max_attempts=2)
        assert due.attempts == 1
        watching.note_attempt(connection, due, now=6.0, failure=None, pause=0.0)
        assert watching.due_notifications(connection, 1, "c", math.inf, max_attempts=9) == []
    assert last == watching.WatchedBlock(2, "0x2", "0x1")
