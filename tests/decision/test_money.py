"""What was gained and lost, in USD: exact where known, unknown where a part is."""

import pytest

from src.chain.facts import Price
from src.decision.money import Money, money_of, tokens_to_price
from src.decision.tokens import TokenView
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence
from src.detection.parties import Gains, gains_of
from src.detection.policy import PolicyError, parse_policy
from src.detection.records import NATIVE, Action, Status, Verdict, decide
from src.detection.suite import DetectorSuite
from tests.detection.test_parties import (
    GOLD,
    HUB,
    LOAN,
    OTHER,
    POOL,
    SENDER,
    VICTIM,
    WETH,
    Ether,
    Moved,
)

ETH = 10**18
VIEWS = {WETH: TokenView(WETH, "", "WETH", 18), GOLD: TokenView(GOLD, "", "GOLD", 2)}
PRICES = {WETH: Price(2000.0, "Chainlink"), GOLD: Price(3.0, "price API", 2)}


def gains(own, others=None, *, native_is_known=True) -> Gains:
    return Gains(frozenset({SENDER}), own, others or {}, native_is_known)


def money(found: Gains, prices=PRICES, gas_cost: int | None = 0, *, arbitrage=False) -> Money:
    return money_of(
        found, prices, VIEWS, wrapped_native=WETH, gas_cost=gas_cost, is_arbitrage=arbitrage
    )


def test_gains_are_net_of_losses_native_value_and_gas() -> None:
    found = money(gains({WETH: 5 * ETH, GOLD: -100, NATIVE: -ETH}), gas_cost=ETH // 10)
    assert found.gained_usd == pytest.approx(5 * 2000 - 3 - 2000 - 200)
    assert [(part.token, part.source) for part in found.gained] == [
        (WETH, "Chainlink"), (NATIVE, "Chainlink"), (GOLD, "price API"),
    ]  # fmt: skip
    assert found.gas_is_known
    assert not money(gains({}), gas_cost=None).gas_is_known


def test_an_unknown_part_makes_the_sum_unknown_and_the_parts_stay() -> None:
    found = money(gains({WETH: ETH, OTHER: 5}))
    assert found.gained_usd is None
    assert [part.usd for part in found.gained] == [2000.0, None]
    assert found.as_json()["gained_usd"] is None


def test_a_price_for_other_decimals_prices_nothing() -> None:
    assert money(gains({GOLD: 100}), {GOLD: Price(3.0, "price API", 18)}).gained_usd is None
    unseen = money(gains({OTHER: 100}), {OTHER: Price(3.0, "price API", 2)})
    assert unseen.gained_usd == 3.0  # the source knows the decimals, the bot does not
    assert money(gains({OTHER: 100}), {OTHER: Price(3.0, "Chainlink")}).gained_usd is None


def test_the_account_that_lost_most_is_named() -> None:
    found = money(
        gains({}, {POOL: {WETH: -ETH, GOLD: 9_000}, VICTIM: {WETH: -ETH}, OTHER: {GOLD: 1}})
    )
    assert (found.lost_by, found.lost_usd) == (VICTIM, 2000.0)
    assert money(gains({}, {POOL: {OTHER: -5}, VICTIM: {OTHER: -500}})).lost_by == VICTIM
    assert money(gains({WETH: 1})).lost_by is None
    assert money(gains({WETH: 1})).lost_usd is None


def test_a_pool_that_was_paid_in_what_has_no_price_has_not_lost_most() -> None:
    found = gains({}, {POOL: {GOLD: -900, WETH: ETH}, VICTIM: {GOLD: -100}})
    only_gold = {GOLD: PRICES[GOLD]}
    usual = {"wrapped_native": WETH, "gas_cost": 0, "is_arbitrage": False}
    value_of = {WETH: 1e-18}.get
    assert money_of(found, only_gold, VIEWS, **usual).lost_by == POOL
    paid = money_of(found, only_gold, VIEWS, **usual, value_of=lambda one: value_of(one, 0.0))
    assert paid.lost_by == VICTIM


def test_the_largest_gain_may_be_a_strangers_and_is_unknown_without_native_transfers() -> None:
    others = {VICTIM: {WETH: -3 * ETH}, OTHER: {WETH: 3 * ETH}}
    assert money(gains({GOLD: 100}, others)).largest_gain_usd == 6000.0
    assert money(gains({GOLD: 100}, others, native_is_known=False)).largest_gain_usd is None
    assert money(gains({GOLD: 100}, {OTHER: {HUB: 1}})).largest_gain_usd is None
    # A thief may pay a little of anything for the loot: a trader's gain counts in full, unless the
    # trades are named as arbitrage.
    paid = gains({GOLD: 100}, {OTHER: {WETH: 3 * ETH, HUB: -1}})
    assert money(paid).largest_gain_usd == 6000.0
    assert money(paid, arbitrage=True).largest_gain_usd == 3.0


def test_prices_are_wanted_for_what_changed_hands_and_for_gas() -> None:
    assert tokens_to_price(gains({GOLD: 1}, {VICTIM: {OTHER: -1}}), WETH) == [GOLD, OTHER, WETH]
    assert tokens_to_price(gains({NATIVE: 1}), None) == []


# Whose gains they are


def found(transfers: list[Moved], **facts) -> Gains:
    usual = {"sender": SENDER, "to": HUB, "values": {WETH: 1.0}, "wrapped_native": WETH}
    return gains_of(Evidence(transfers, **(usual | facts)))


def test_the_side_is_the_sender_and_who_acts_for_it_and_nobody_who_paid() -> None:
    got = found(LOAN)
    assert got.own == {WETH: 1100 - 1000, GOLD: 70}
    assert got.others == {POOL: {WETH: 1000, GOLD: -70}, VICTIM: {WETH: -1100}}
    assert not got.native_is_known


def test_a_theft_that_is_small_beside_the_loan_is_a_gain_all_the_same() -> None:
    small = [Moved(t, a, b, 9 if a == VICTIM else n) for t, a, b, n in LOAN[:-1]]
    assert VICTIM in found(small).others


def test_the_vault_that_was_called_and_paid_is_not_of_the_side() -> None:
    got = found([Moved(WETH, VICTIM, SENDER, 5)], to=VICTIM)
    assert got.own == {WETH: 5}
    assert got.others == {VICTIM: {WETH: -5}}


def test_a_rounding_does_not_make_an_account_a_payer() -> None:
    rounding = [
        Moved(WETH, POOL, HUB, 50),
        Moved(GOLD, POOL, HUB, 10**9),
        Moved(GOLD, HUB, POOL, 10**9 + 9),
    ]
    assert found(rounding).own == {WETH: 50, GOLD: -9}
    loss = [*rounding[:2], Moved(GOLD, HUB, POOL, 2 * 10**9)]
    assert found(loss).own == {}


def test_value_sent_along_is_spent_until_more_is_known() -> None:
    assert found([Moved(GOLD, POOL, SENDER, 5)], to=POOL, value=7).own == {GOLD: 5, NATIVE: -7}
    assert found([Moved(GOLD, POOL, SENDER, 5)], to=POOL, value=7).others == {
        POOL: {GOLD: -5, NATIVE: 7}
    }
    back = [Ether(SENDER, HUB, 7), Ether(HUB, SENDER, 7)]
    assert found([Moved(GOLD, POOL, HUB, 5)], value=7, native=back).own == {GOLD: 5}


# The policy's least gain

POLICY = "version: 1\ndetectors:\n  drained_account: {mode: on, min_gained_usd: 1000}\n"


def test_a_detector_with_a_least_gain_does_not_apply_where_less_was_gained() -> None:
    suite = DetectorSuite.from_policy(parse_policy(POLICY), 1, Equipment())
    asked = Verdict("drained_account", Action.REVIEW, "why")
    other = Verdict("known_bad_address", Action.REVIEW, "listed")
    decision = decide([asked, other])
    assert suite.weighed(decision, None) is decision  # unknown counts as enough
    assert suite.weighed(decision, 1000.0).action is Action.REVIEW
    less = suite.weighed(decision, 22.0)
    (dropped,) = [v for v in less.reasons if v.detector == "drained_account"]
    assert (dropped.action, dropped.status) == (Action.ALLOW, Status.OUT_OF_SCOPE)
    assert dropped.reason == "22 USD gained, less than min_gained_usd 1,000; why"
    assert less.action is Action.REVIEW  # the other has no such limit
    just_less = suite.weighed(decision, 999.6).reasons
    assert "999 USD gained, less than min_gained_usd 1,000; why" in [v.reason for v in just_less]


def test_a_chain_overrides_the_least_gain_and_a_mode_keeps_it() -> None:
    text = POLICY + (
        "chains:\n  56: {detectors: {drained_account: {min_gained_usd: 5}}}\n"
        "  10: {detectors: {drained_account: shadow}}\n"
    )
    policy = parse_policy(text)
    limits = [policy.for_chain(chain)["drained_account"].min_gained_usd for chain in (1, 56, 10)]
    assert limits == [1000.0, 5.0, 1000.0]
    with pytest.raises(PolicyError, match="line 3"):
        parse_policy(POLICY.replace("1000", "-1"))
