"""Who is emptied of a valuable token is seen; who trades, pays or passes on is not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from src.detection.detectors.losses import MAX_LOSSES, EmptiedAccountDetector, Loss
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS, Action, Status, Verdict
from tests.detection.test_parties import (
    GOLD,
    HUB,
    IRON,
    OTHER,
    POOL,
    SENDER,
    TIN,
    VICTIM,
    WETH,
    Ether,
    Moved,
)

DETECTOR = EmptiedAccountDetector(min_value=10, min_share=0.9, max_nonce=1000)
TAKEN = [Moved(WETH, VICTIM, SENDER, 100)]
HELD = {(VICTIM, WETH): (100, 100)}


def evidence(transfers: Sequence[Moved], **facts: object) -> Evidence:
    usual = {"sender": SENDER, "to": VICTIM, "values": {WETH: 1.0, IRON: 1.0}, "nonce": 3}
    return Evidence(transfers, **(usual | {"held": HELD} | facts))  # type: ignore[arg-type]


def judge(transfers: Sequence[Moved], **facts: object) -> Verdict:
    return DETECTOR.evaluate(evidence(transfers, **facts))


@pytest.mark.parametrize(
    ("theft", "transfers", "facts"),
    [
        ("of what the contract called holds", TAKEN, {}),
        ("by an allowance", TAKEN, {"to": HUB}),
        ("to a third account", [Moved(WETH, VICTIM, OTHER, 100)], {"to": HUB}),
        ("of nearly all", TAKEN, {"held": {(VICTIM, WETH): (110, 110)}}),
        ("of what came in this block, too", TAKEN, {"held": {(VICTIM, WETH): (60, 60)}}),
        ("paid with a token of the thief's", [*TAKEN, Moved(GOLD, SENDER, VICTIM, 10**9)], {}),
        ("with something given back", [*TAKEN, Moved(IRON, SENDER, VICTIM, 49)], {}),
        ("with something paid elsewhere", [*TAKEN, Moved(IRON, SENDER, OTHER, 49)], {}),
        ("with ether given back", TAKEN, {"native": [Ether(SENDER, VICTIM, 49)]}),
        ("the last part", TAKEN, {"held": {(VICTIM, WETH): (150, 500)}}),
        ("by a sender whose past is unknown", TAKEN, {"nonce": None}),
        ("on a node of few states", TAKEN, {"held": {(VICTIM, WETH): (110, None)}}),
        ("beside a smaller one", [Moved(WETH, POOL, SENDER, 11), *TAKEN], {}),
        ("in small transfers", [Moved(WETH, VICTIM, SENDER, 5)] * 20, {}),
    ],
)
def test_an_emptied_account_is_reviewed(
    theft: str, transfers: list[Moved], facts: dict[str, object]
) -> None:
    verdict = judge(transfers, **({"wrapped_native": WETH} | facts))
    assert verdict.action is Action.REVIEW, theft
    assert verdict.reason.startswith(f"{VICTIM}, which has not signed, loses ")


def test_the_reason_says_how_much_and_who_ordered_it() -> None:
    assert judge(TAKEN, native=[], held={(VICTIM, WETH): (110, 110)}).reason == (
        f"{VICTIM}, which has not signed, loses 90.9% of the token {WETH} that it held, for "
        "nothing of like worth; the sender's nonce is 3"
    )
    assert judge(TAKEN, nonce=None).reason == (
        f"{VICTIM}, which has not signed, loses all of the token {WETH} that it held, for nothing "
        "of like worth (without internal transfers of ETH, which are unknown)"
    )


def test_the_reason_does_not_say_that_earlier_losses_were_for_nothing() -> None:
    assert judge(TAKEN, native=[], held={(VICTIM, WETH): (150, 500)}).reason == (
        f"{VICTIM}, which has not signed, loses the token {WETH} for nothing of like worth; 90.0% "
        "of what it held 100 blocks before is gone; the sender's nonce is 3"
    )


@pytest.mark.parametrize(
    ("honest", "transfers", "facts"),
    [
        ("much is left", TAKEN, {"held": {(VICTIM, WETH): (112, 112)}}),
        ("much is left of what it had", TAKEN, {"held": {(VICTIM, WETH): (150, 499)}}),
        ("it had less before", TAKEN, {"held": {(VICTIM, WETH): (150, 20)}}),
        ("it passes on what comes in", TAKEN, {"held": {(VICTIM, WETH): (49, 49)}}),
        ("it held nothing before", TAKEN, {"held": {(VICTIM, WETH): (0, 0)}}),
        ("little is lost", [Moved(WETH, VICTIM, SENDER, 9)], {"held": {(VICTIM, WETH): (9, 9)}}),
        ("a sale", [*TAKEN, Moved(IRON, SENDER, VICTIM, 99)], {}),
        ("a sale for ether", TAKEN, {"native": [Ether(SENDER, VICTIM, 99)]}),
        ("a sale for ether that is not logged", TAKEN, {"value": 99}),
        ("a payment", [Moved(WETH, SENDER, OTHER, 100)], {"held": {(SENDER, WETH): (100, 100)}}),
        ("a mint", [Moved(WETH, ZERO_ADDRESS, SENDER, 100)], {}),
        ("a custodian", TAKEN, {"nonce": 1001}),
        ("no sender", TAKEN, {"sender": None}),
        ("a token without a value", [Moved(GOLD, VICTIM, SENDER, 10**9)], {"held": {}}),
        ("a token that nobody knows", [*TAKEN, Moved(GOLD, OTHER, SENDER, 1)],
         {"unknown_tokens": frozenset({WETH})}),
        ("a loan that is repaid", [*TAKEN, Moved(WETH, SENDER, VICTIM, 100)], {}),
    ],
)  # fmt: skip
def test_what_is_bought_paid_or_passed_on_is_not(
    honest: str, transfers: list[Moved], facts: dict[str, object]
) -> None:
    verdict = judge(transfers, **({"wrapped_native": WETH} | facts))
    assert verdict == Verdict("emptied_account"), honest


def test_it_says_when_the_balance_is_unknown_and_only_where_that_matters() -> None:
    assert judge(TAKEN, held={}).status is Status.MISSING_INPUTS
    assert not judge([Moved(WETH, SENDER, HUB, 100)], held={}).reason
    assert judge(TAKEN, held={(VICTIM, WETH): (150, None)}).status is Status.MISSING_INPUTS
    assert not judge(TAKEN, held={(VICTIM, WETH): (49, None)}).reason
    known = [Moved(WETH, VICTIM, SENDER, 50), Moved(WETH, POOL, SENDER, 60)]
    assert judge(known, held={(VICTIM, WETH): (50, 50)}).action is Action.REVIEW


def test_the_most_valuable_losses_are_looked_at() -> None:
    robbed = [f"0x{number:040x}" for number in range(900, 910)]
    transfers = [Moved(WETH, one, SENDER, 10 + at) for at, one in enumerate(robbed)]
    transfers += [Moved(TIN, one, SENDER, 10**9) for one in robbed]
    seen = evidence(transfers, to=HUB)
    asked = DETECTOR.holdings(seen)
    assert asked == [(robbed[9 - n], WETH) for n in range(MAX_LOSSES)]
    rich = replace(seen, held=dict.fromkeys(asked, (10**6, 10**6)))
    assert DETECTOR.evaluate(rich).status is Status.MISSING_INPUTS  # the others are not known


def test_the_native_currency_is_no_token_that_an_account_holds() -> None:
    native = [Ether(VICTIM, SENDER, 1000)]
    values: Mapping[str, float] = {WETH: 1.0}
    losses = DETECTOR.losses(evidence(TAKEN, native=native, wrapped_native=WETH, values=values))
    assert losses == [Loss(VICTIM, WETH, 100)]
