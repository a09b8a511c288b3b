"""What the handlers say where nodes and explorers know, fail, hang or contradict."""

import pytest

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
from tests.support.fake_chain import (
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
