"""Cases: alerts by transaction, and what people do about them."""

import alembic.command
from sqlalchemy import text

from src.service.database import alerts, cases, chain, decisions
from src.service.database.alerts import AlertFilter
from src.service.database.cases import Case
from src.service.database.chain import keys_of_account
from src.service.database.engine import Database, alembic_config
from src.service.database.tables import TransactionKey
from src.service.web.explorer import queries
from tests.conftest import BOB, TX_HASH, USDC
from tests.service.database.rows import OTHER_HASH, alert, decision, store, store_alert, transaction

KEY, OTHER = (1, TX_HASH), (1, OTHER_HASH)
MEDIUM = {"alert_id": "B", "severity": "Medium", "action": 1}


def two_cases(database: Database) -> list[int]:
    """Two alerts on one transaction, the more severe in the middle of three, and one on another."""
    store(database, transaction(), transaction(tx_hash=OTHER_HASH))
    return [
        store_alert(database, **MEDIUM),
        store_alert(database, alert_id="A"),
        store_alert(
            database, **MEDIUM, tx_hash=OTHER_HASH, score=0.9, gained_usd=None, block_timestamp=9
        ),
    ]


def listed(database: Database, sort: cases.CaseSort = "time", **wanted: object) -> list[Case]:
    with database.reading() as connection:
        return cases.list_cases(connection, AlertFilter(**wanted), sort=sort)


def hashes(found: list[Case]) -> list[str]:
    return [case.top.tx_hash for case in found]


def triaged(
    database: Database, keys: list[TransactionKey], state: alerts.State, **given: object
) -> None:
    usual = {"author": "ann", "note": "", "now": 3.0}
    with database.writing() as connection:
        cases.set_triage(connection, keys, state, **(usual | given))


def test_a_transaction_is_one_case_with_the_most_severe_alert_on_top(database: Database) -> None:
    two_cases(database)
    first, second = listed(database)
    assert [alert.alert_id for alert in first.alerts] == ["A", "B"]
    assert first.action == 2
    assert (first.top.tx_hash, second.top.tx_hash) == (TX_HASH, OTHER_HASH)


def test_cases_are_sorted_by_the_highest_of_their_alerts(database: Database) -> None:
    two_cases(database)
    assert hashes(listed(database, "severity")) == [TX_HASH, OTHER_HASH]
    assert hashes(listed(database, "action")) == [TX_HASH, OTHER_HASH]
    assert hashes(listed(database, "score")) == [OTHER_HASH, TX_HASH]
    assert hashes(listed(database, "gained")) == [TX_HASH, OTHER_HASH]  # unknown comes last
    with database.reading() as connection:
        found = cases.list_cases(
            connection, AlertFilter(), sort="time", descending=False, limit=1, offset=1
        )
    assert hashes(found) == [TX_HASH]


def test_a_case_matches_with_any_alert_and_is_shown_with_all(database: Database) -> None:
    two_cases(database)
    (found,) = listed(database, alert_id="A")
    assert [alert.alert_id for alert in found.alerts] == ["A", "B"]
    assert len(listed(database, alert_id="B")) == 2
    assert listed(database, chain_id=56) == []


def test_severity_and_action_are_those_of_the_case(database: Database) -> None:
    two_cases(database)
    assert hashes(listed(database, severity="Critical")) == [TX_HASH]
    assert hashes(listed(database, severity="Medium")) == [OTHER_HASH]
    assert hashes(listed(database, action=2)) == [TX_HASH]
    assert hashes(listed(database, action=1)) == [OTHER_HASH]


def test_triage_is_of_the_transaction_and_counted_by_state(database: Database) -> None:
    two_cases(database)
    triaged(database, [KEY], "in_work", note="looking")
    (case,) = listed(database, state="in_work")
    assert case.triage == cases.Triage("in_work", "ann", "looking", 3.0)
    assert case.verdicts == {}
    assert hashes(listed(database, state="new")) == [OTHER_HASH]
    with database.reading() as connection:
        counts = cases.count_cases(connection, AlertFilter())
    assert counts == {(1, "new"): 1, (2, "in_work"): 1}
    triaged(database, [KEY], "new", author="bob", now=4.0)
    assert len(listed(database, state="new")) == 2


def test_a_verdict_is_feedback_on_all_alerts_of_many_transactions(database: Database) -> None:
    two_cases(database)
    triaged(database, [KEY, OTHER], "done", is_true_positive=False, note="drill")
    found = listed(database, state="done")
    assert len(found) == 2
    assert [case.verdicts for case in found] == [{"ann": False}] * 2
    given = [one for case in found for alert in case.alerts for one in alert.feedback]
    assert given == [alerts.Feedback("ann", is_true_positive=False, note="drill", given_at=3.0)] * 3
    triaged(database, [KEY], "done", is_true_positive=True, now=5.0)
    assert [case.verdicts for case in listed(database, "severity")] == [
        {"ann": True},
        {"ann": False},
    ]


def test_who_did_what_is_kept(database: Database) -> None:
    first, *_ = two_cases(database)
    triaged(database, [KEY, OTHER], "in_work", note="mine", now=4.0)
    given = {"author": "bob", "is_true_positive": True, "now": 3.0}  # the clock was set back
    triaged(database, [KEY], "done", alert=first, **given)
    triaged(database, [], "done")
    with database.reading() as connection:
        changes = cases.triage_history(connection, *KEY)
        assert len(cases.triage_history(connection, *OTHER)) == 1
        assert cases.triage_history(connection, 56, TX_HASH) == []
    assert changes == [
        cases.TriageChange("done", is_true_positive=True, author="bob", note="", changed_at=3.0),
        cases.TriageChange(
            "in_work", is_true_positive=None, author="ann", note="mine", changed_at=4.0
        ),
    ]
    (case,) = listed(database, state="done")
    assert [alert.id for alert in case.alerts if alert.feedback] == [first]


def test_a_case_is_found_by_its_alerts(database: Database) -> None:
    two_cases(database)
    with database.reading() as connection:
        assert cases.cases_of(connection, [1, 2, 99]) == [KEY]


def test_more_cases_than_one_statement_takes_are_listed_and_triaged(database: Database) -> None:
    keys = [(1, f"0x{number:064x}") for number in range(1_001)]
    store(database, *(transaction(tx_hash=tx_hash) for _, tx_hash in keys))
    with database.writing() as connection:
        new = [alert(tx_hash=tx_hash) for _, tx_hash in keys]
        alerts.store_alerts(connection, new, now=1.0)
    triaged(database, keys, "done", is_true_positive=True)
    with database.reading() as connection:
        found = cases.list_cases(connection, AlertFilter(state="done"), limit=2_000)
    assert hashes(found) == [tx_hash for _, tx_hash in reversed(keys)]
    assert all(case.verdicts == {"ann": True} for case in found)


def test_what_had_feedback_before_there_was_triage_is_done_and_keeps_its_verdict(
    database: Database,
) -> None:
    first, second, _ = two_cases(database)
    with database.writing() as connection:
        alerts.give_feedback(connection, second, "ann", is_true_positive=False, note="c", now=2.0)
        alerts.give_feedback(connection, first, "ann", is_true_positive=True, note="a", now=3.0)
        alerts.give_feedback(connection, second, "bob", is_true_positive=True, note="b", now=4.0)
        alembic.command.downgrade(alembic_config(connection), "0010")
    database.migrate()
    with database.reading() as connection:
        rows = connection.execute(text("SELECT tx_hash, state, author, note FROM triage")).all()
    assert rows == [(TX_HASH, "done", "bob", "b")]
    assert [case.verdicts for case in listed(database, "severity")] == [
        {"ann": True, "bob": True},
        {},
    ]
    triaged(database, [KEY], "done", is_true_positive=False, now=1.0)  # the clock was set back
    assert listed(database, "severity")[0].verdicts == {"ann": False, "bob": True}


def test_the_newest_verdict_is_the_last_one_even_if_the_clock_went_back(
    database: Database,
) -> None:
    first, second, _ = two_cases(database)
    triaged(database, [KEY], "done", alert=second, is_true_positive=True, now=9.0)
    triaged(database, [KEY], "done", author="bob", is_true_positive=True, now=9.0)
    triaged(database, [KEY], "done", alert=first, is_true_positive=False, now=3.0)
    triaged(database, [KEY], "in_work", now=4.0)
    assert [case.verdicts for case in listed(database, "severity")] == [
        {"ann": False, "bob": True},
        {},
    ]


def test_a_case_says_what_the_newest_decision_says(database: Database) -> None:
    two_cases(database)
    with database.writing() as connection:
        for decider, at, summary in (("d1", 5.0, "old"), ("d2", 6.0, "new")):
            made = decision(decider=decider, decided_at=at, summary=summary)
            decisions.store_decision(connection, made, {})
    assert [case.sentence for case in listed(database)] == ["new", ""]


def test_an_account_is_not_in_a_transaction_of_the_same_hash_on_another_chain(
    database: Database,
) -> None:
    store(database, transaction())
    with database.writing() as connection:
        # A call replayed on a chain where the token moves nothing.
        chain.store_transactions(connection, 10, [transaction(transfers=())], now=1.0)
    for chain_id in (1, 10):
        store_alert(database, chain_id=chain_id)
    assert [case.top.chain_id for case in listed(database, account=BOB)] == [1]
    with database.reading() as connection:
        numbers = [
            queries.summary_of(connection, queries.among(chain_id, keys)).transactions
            for chain_id in (1, 10)
            for keys in (keys_of_account(BOB), queries.keys_of_token(USDC))
        ]
    assert numbers == [1, 1, 0, 0]
