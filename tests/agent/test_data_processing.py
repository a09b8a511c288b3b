"""The helpers that the contract names: cached answers, uncached failures, features, validity."""

import math

import pytest
from eth_utils import to_checksum_address
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src import agent
from src.chain.errors import NotFound, SourceError
from src.chain.facts import Facts, token_info
from src.chain.transactions import TransactionFields
from src.chain.transfers import Transfer
from src.detection.features.definitions import FEATURE_NAMES, FOREST_INPUTS
from src.utils import data_processing
from src.utils.data_processing import (
    get_account_active_period,
    get_features,
    get_first_tx_timestamp,
    get_token_info,
    valid_features,
)
from tests.agent.handling import answering
from tests.conftest import ALICE, BLOCK, BOB, TIMESTAMP, TX_HASH, UNKNOWN_TOKEN, USDC
from tests.support.fake_chain import NO_TRANSACTIONS, FakeNode, etherscan_answer, serve, usual_token

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"


def transfer(token=USDC, sender=ALICE, recipient=BOB, amount=10**6, index=0):
    return Transfer(token, sender, recipient, amount, index)


def test_the_first_transaction_is_asked_once(start_bot):
    asked = []

    def explorer(request):
        asked.append(request.args["address"])
        return answering(etherscan_answer("1600000000"))(request)

    with serve(explorer) as url:
        start_bot(ETHERSCAN_URL=url)
        assert get_first_tx_timestamp(ALICE) == 1_600_000_000
        assert get_first_tx_timestamp(ALICE) == 1_600_000_000
    assert asked == [ALICE]


def test_a_failure_is_an_error_and_asked_again(start_bot):
    start_bot()
    for _ in range(2):
        with pytest.raises(SourceError):
            get_first_tx_timestamp(ALICE)
        with pytest.raises(SourceError):
            get_token_info(UNKNOWN_TOKEN)


def test_token_metadata_is_asked_once(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("Some Token", "SOME", 9)})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        assert get_token_info(UNKNOWN_TOKEN) == ("Some Token", "SOME", 9)
        asked = len(node.calls)
        assert get_token_info(UNKNOWN_TOKEN) == ("Some Token", "SOME", 9)
    assert len(node.calls) == asked > 0


def test_the_active_period_is_in_minutes(start_bot):
    with serve(answering(etherscan_answer(str(TIMESTAMP - 90)))) as url:
        start_bot(ETHERSCAN_URL=url)
        assert get_account_active_period(ALICE, TIMESTAMP) == 1.5


def test_a_new_address_has_been_active_for_no_time(start_bot):
    with serve(answering(NO_TRANSACTIONS)) as url:
        start_bot(ETHERSCAN_URL=url)
        with pytest.raises(NotFound):
            get_first_tx_timestamp(ALICE)
        assert get_account_active_period(ALICE, TIMESTAMP) == 0


def test_features_count_and_sum_by_token(start_bot):
    start_bot()
    transfers = [
        transfer(amount=1_500_000),
        transfer(amount=2_000_000, index=1),
        transfer(WETH, amount=5 * 10**17, index=2),
    ]
    valid, features = get_features(ALICE, TIMESTAMP, transfers)
    assert valid
    assert features["transfer_counts"] == 3
    assert features["tokens_type_counts"] == 2
    assert features["USDC_transfers"] == 2
    assert features["USDC_value"] == 3.5
    assert features["WETH_transfers"] == 1
    assert features["WETH_value"] == 0.5
    assert features["token_types"] == sorted(features["token_types"])
    assert features["max_single_token_transfers_name"] == "USD Coin"
    assert features["max_single_token_transfers_count"] == 2
    assert features["max_single_token_transfers_value"] == 3.5
    assert set(FEATURE_NAMES) <= features.keys()


def test_the_order_of_tokens_in_the_logs_does_not_name_another_largest_token(start_bot):
    start_bot()
    one = [transfer(USDC), transfer(WETH, index=1)]
    _, first = get_features(ALICE, TIMESTAMP, one)
    _, second = get_features(ALICE, TIMESTAMP, one[::-1])
    assert first["max_single_token_transfers_name"] == second["max_single_token_transfers_name"]


def test_valid_features_needs_every_input_finite_and_no_negative_age(start_bot):
    start_bot()
    good = dict.fromkeys(FEATURE_NAMES, 0.0) | {"account_active_period_in_minutes": 5.0}
    assert valid_features(good)
    assert valid_features(good | {"account_active_period_in_minutes": 0.0})
    assert valid_features(good | {"account_active_period_in_minutes": None})
    assert not valid_features(good | {"account_active_period_in_minutes": -0.1})
    assert not valid_features(good | {"account_active_period_in_minutes": math.nan})
    for name in FOREST_INPUTS:
        assert not valid_features({key: good[key] for key in good if key != name})
        for bad in (math.nan, math.inf, None, "1"):
            assert not valid_features(good | {name: bad})


def test_a_token_cannot_take_the_name_of_a_feature(start_bot):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token("Kept", "kept", 0)})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        _, features = get_features(ALICE, TIMESTAMP, [transfer(UNKNOWN_TOKEN, amount=7)])
    assert features["kept_value"] == 0.0
    assert features[f"kept ({UNKNOWN_TOKEN})_value"] == 7


def test_two_unknown_tokens_of_one_symbol_are_told_apart(start_bot):
    twins = ["0x" + "a1" * 20, "0x" + "b2" * 20]
    node = FakeNode(tokens={twin: usual_token("Twin", "TWIN", 0) for twin in twins})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url)
        transfers = [transfer(twins[0], amount=3), transfer(twins[1], amount=4, index=1)]
        _, features = get_features(ALICE, TIMESTAMP, transfers)
    assert features[f"TWIN ({twins[0]})_value"] == 3
    assert features[f"TWIN ({twins[1]})_value"] == 4


def test_without_initialize_the_helpers_use_the_settings_and_the_model_in_place(
    start_bot, bundle_path, monkeypatch
):
    monkeypatch.setenv("MODEL_PATH", str(bundle_path))
    monkeypatch.setenv("JSON_RPC_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FORTA_CHAIN_ID", "1")
    valid, features = get_features(ALICE, TIMESTAMP, [transfer()])
    assert valid
    assert features["USDC_value"] == 1
    _, lookups = data_processing._in_use
    lookups.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    amounts=st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=8),
    decimals=st.integers(0, 255),
    symbol=st.text(max_size=40),
)
def test_values_are_finite_whatever_amounts_and_decimals(start_bot, amounts, decimals, symbol):
    if agent.BOT is None:
        start_bot()
    pipeline = agent.BOT.pipeline
    transfers = [transfer(UNKNOWN_TOKEN, amount=a, index=i) for i, a in enumerate(amounts)]
    transaction = TransactionFields(TX_HASH, ALICE, BOB, 1, TIMESTAMP, BLOCK)
    facts = Facts({UNKNOWN_TOKEN: token_info("a source", symbol, symbol, decimals)})
    features = pipeline.features(transaction, transfers, facts)
    assert valid_features(features)
    value = features["max_single_token_transfers_value"]
    assert math.isfinite(value)
    assert value == sum(amounts) / 10**decimals


def filtered(token, sender, recipient, amount, **more):
    """An event as web3 and `TransactionEvent.filter_log` return it: with checksummed addresses."""
    arguments = {"from": to_checksum_address(sender), "to": recipient, "value": amount}
    return {"address": to_checksum_address(token), "args": arguments, **more}


def test_events_of_filter_log_give_the_same_features_as_decoded_transfers(start_bot):
    start_bot()
    transfers = [transfer(), transfer(WETH, BOB, ALICE, 5 * 10**17, 1), transfer(amount=7, index=2)]
    events = [filtered(*one[:4], logIndex=one.log_index) for one in transfers]
    sender = to_checksum_address(ALICE)
    assert get_features(sender, TIMESTAMP, events) == get_features(ALICE, TIMESTAMP, transfers)


def test_arguments_of_other_names_count_in_their_order(start_bot):
    start_bot()
    event = {"address": USDC, "args": {"src": ALICE, "dst": BOB, "wad": 10**6}}
    assert get_features(ALICE, TIMESTAMP, [event]) == get_features(ALICE, TIMESTAMP, [transfer()])


@pytest.mark.parametrize(
    "event",
    [
        {"address": USDC},
        {"address": "USDC", "args": {"from": ALICE, "to": BOB, "value": 1}},
        {"address": USDC, "args": {"from": ALICE, "to": BOB}},
        {"address": USDC, "args": {"from": ALICE, "to": None, "value": 1}},
        {"address": USDC, "args": {"from": ALICE, "to": BOB, "value": -1}},
        {"address": USDC, "args": {"from": ALICE, "to": BOB, "value": 2**256}},
        {"address": USDC, "args": {"from": ALICE, "to": BOB, "value": "1"}},
    ],
)
def test_what_is_no_transfer_event_is_refused(start_bot, event):
    start_bot()
    with pytest.raises(ValueError, match="transfer event"):
        get_features(ALICE, TIMESTAMP, [event])
    with pytest.raises(ValueError, match="at least one transfer"):
        get_features(ALICE, TIMESTAMP, [])
