"""What the handlers say where nodes and explorers know, fail, hang or contradict."""

import json

import pytest

from src import agent
from tests.agent.handling import answering, handle
from tests.conftest import (
    ALICE,
    BLOCK,
    TIMESTAMP,
    TX_HASH,
    UNKNOWN_TOKEN,
    event_of,
    transfer_log,
)
from tests.support import raw_server
from tests.support.fake_chain import (
    ETHERSCAN_LIMIT,
    NO_TRANSACTIONS,
    FakeNode,
    block_timestamp,
    etherscan_answer,
    serve,
    usual_token,
)


def test_without_any_source_the_score_stands_and_the_unknown_is_said(start_bot):
    start_bot()
    metadata = handle(event_of([transfer_log(UNKNOWN_TOKEN, amount=5)]))["metadata"]
    assert metadata["prediction"] in {"NORMAL", "ANOMALY"}
    assert metadata[f"{UNKNOWN_TOKEN}_transfers"] == "1"
    assert metadata[f"{UNKNOWN_TOKEN}_value"] == "unknown"
    assert metadata["account_active_period_in_minutes"] == "unknown"
    assert metadata["account_active_period_in_minutes_source"].startswith("none: node")


def test_with_a_node_alone_tokens_and_the_age_are_known(start_bot):
    node = FakeNode(
        tokens={UNKNOWN_TOKEN: usual_token()}, sent_in_blocks={ALICE: [BLOCK - 1000, BLOCK]}
    )
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        metadata = handle(event_of([transfer_log(UNKNOWN_TOKEN, amount=10**18)]))["metadata"]
    assert metadata["SOME_value"] == "1"
    age = (TIMESTAMP - block_timestamp(BLOCK - 1000)) / 60
    assert float(metadata["account_active_period_in_minutes"]) == pytest.approx(age)
    assert metadata["account_active_period_in_minutes_source"] == "node"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": "0", "message": "NOTOK", "result": "error"}, 429),
        ("oops", 500),
        ("<html>Just a moment...</html>", 200),
        ({"status": "1", "message": "OK", "result": []}, 200),
        (ETHERSCAN_LIMIT, 200),
        (["surprise"], 200),
        ("null", 200),
    ],
    ids=["429", "500", "html", "empty result", "rate limit with 200", "list", "null"],
)
def test_an_etherscan_failure_is_survived_and_not_remembered(start_bot, answer, status):
    answers = [answering(answer, status)]
    with serve(lambda request: answers[0](request)) as url:
        start_bot(ETHERSCAN_URL=url, ETHERSCAN_API_KEY="planted")
        first = handle(event_of([transfer_log()]))["metadata"]
        assert first["prediction"] in {"NORMAL", "ANOMALY"}
        assert first["account_active_period_in_minutes"] == "unknown"
        assert "planted" not in json.dumps(first)
        answers[0] = answering(etherscan_answer(str(TIMESTAMP - 600)))
        # A source that refused is left alone for a moment; a bot that starts anew asks at once.
        agent.BOT.lookups.close()
        agent.BOT = None
        start_bot()
        second = handle(event_of([transfer_log()]))["metadata"]
    assert second["account_active_period_in_minutes"] == "10"
    assert second["account_active_period_in_minutes_source"] == "etherscan"
    assert second["anomaly_score"] == first["anomaly_score"]


def test_a_new_address_has_age_zero_and_is_not_remembered(start_bot):
    answers = [answering(NO_TRANSACTIONS)]
    with serve(lambda request: answers[0](request)) as url:
        start_bot(ETHERSCAN_URL=url, ETHERSCAN_API_KEY="k")
        first = {"hash": TX_HASH, "from": ALICE, "nonce": 0}
        metadata = handle(event_of([transfer_log()], transaction=first))["metadata"]
        assert metadata["account_active_period_in_minutes"] == "0"
        answers[0] = answering(etherscan_answer(str(TIMESTAMP - 60)))
        metadata = handle(event_of([transfer_log()]))["metadata"]
    assert metadata["account_active_period_in_minutes"] == "1"


def test_an_explorer_that_hangs_delays_no_longer_than_the_deadline(start_bot):
    with raw_server.raw_server(raw_server.hang) as url:
        start_bot(ETHERSCAN_URL=url, ETHERSCAN_API_KEY="k", LOOKUP_DEADLINE_SECONDS="0.5")
        metadata = handle(event_of([transfer_log()]))["metadata"]
        usage = agent.BOT.lookups.usage()["etherscan"]
    assert not usage.outcomes  # the request goes on, and nothing but the deadline ends the wait
    assert metadata["prediction"] in {"NORMAL", "ANOMALY"}
    assert metadata["account_active_period_in_minutes"] == "unknown"
