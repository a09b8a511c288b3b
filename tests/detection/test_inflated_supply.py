"""Much of a supply that is minted for nothing is seen; what is paid for is not."""

from collections.abc import Sequence

import pytest

from src.detection.detectors.mints import MAX_TOKENS, InflatedSupplyDetector
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS, Action, Status, Verdict
from tests.detection.test_parties import GOLD, HUB, IRON, OTHER, POOL, SENDER, WETH, Ether, Moved

DETECTOR = InflatedSupplyDetector(min_share=0.1)
MINTED = [Moved(GOLD, ZERO_ADDRESS, SENDER, 10)]
SUPPLY = {(ZERO_ADDRESS, GOLD): (100, 100)}
FEE = 10**17


def evidence(transfers: Sequence[Moved], **facts: object) -> Evidence:
    usual = {"sender": SENDER, "to": HUB, "values": {WETH: 1.0}, "held": SUPPLY}
    return Evidence(transfers, **(usual | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("theft", "transfers", "facts"),
    [
        ("to the sender", MINTED, {}),
        ("to another", [Moved(GOLD, ZERO_ADDRESS, OTHER, 10)], {}),
        ("far more than there was", [Moved(GOLD, ZERO_ADDRESS, OTHER, 10**30)], {}),
        ("in parts", [Moved(GOLD, ZERO_ADDRESS, OTHER, 5), Moved(GOLD, ZERO_ADDRESS, POOL, 5)], {}),
        ("for a fee", MINTED, {"value": FEE}),
        ("and sold", [*MINTED, Moved(GOLD, SENDER, POOL, 10), Moved(WETH, POOL, SENDER, 9)], {}),
    ],
)
def test_much_that_is_minted_for_nothing_is_reviewed(
    theft: str, transfers: list[Moved], facts: dict[str, object]
) -> None:
    verdict = DETECTOR.evaluate(evidence(transfers, **facts))
    assert verdict.action is Action.REVIEW, theft
    assert f" the supply of token {GOLD} is minted, and neither who gets it nor " in verdict.reason


@pytest.mark.parametrize(
    ("honest", "transfers", "facts"),
    [
        ("little", [Moved(GOLD, ZERO_ADDRESS, SENDER, 9)], {}),
        ("burnt again", [*MINTED, Moved(GOLD, SENDER, ZERO_ADDRESS, 10)], {}),
        ("the first", MINTED, {"held": {(ZERO_ADDRESS, GOLD): (0, 0)}}),
        ("a new token", MINTED, {"unknown_tokens": frozenset({GOLD})}),
        ("a deposit", [Moved(IRON, SENDER, HUB, 1), *MINTED], {}),
        ("a deposit of ether", MINTED, {"value": FEE + 1}),
        ("a deposit of logged ether", MINTED, {"native": [Ether(SENDER, HUB, FEE + 1)]}),
        (
            "a deposit by one who signed before",
            [Moved(IRON, OTHER, HUB, 1), Moved(GOLD, ZERO_ADDRESS, OTHER, 10)],
            {},
        ),
        ("no mint", [Moved(GOLD, POOL, SENDER, 10)], {}),
        ("no sender", MINTED, {"sender": None}),
    ],
)
def test_what_is_paid_for_little_or_new_is_not(
    honest: str, transfers: list[Moved], facts: dict[str, object]
) -> None:
    found = DETECTOR.evaluate(evidence(transfers, **facts))
    assert found == Verdict("inflated_supply"), honest


@pytest.mark.parametrize(
    ("amount", "much"),
    [
        (10, "10.0% of the supply"),
        (99, "99.0% of the supply"),
        (4800, "48.0 times the supply"),
        (2**256 - 1, "more than 1,000,000 times the supply"),
    ],
)
def test_the_reason_says_how_much(amount: int, much: str) -> None:
    minted = [Moved(GOLD, ZERO_ADDRESS, SENDER, amount)]
    said = f"{much} of token {GOLD} is minted, and neither who gets it nor the sender pays for it"
    assert DETECTOR.evaluate(evidence(minted, native=[])).reason == said
    unseen = " (without internal transfers of ETH, which are unknown)"
    assert DETECTOR.evaluate(evidence(minted)).reason == said + unseen


def test_it_asks_for_the_supply_and_says_when_it_is_unknown() -> None:
    assert DETECTOR.holdings(evidence(MINTED)) == [(ZERO_ADDRESS, GOLD)]
    assert DETECTOR.evaluate(evidence(MINTED, held={})).status is Status.MISSING_INPUTS
    assert not DETECTOR.holdings(evidence([Moved(GOLD, POOL, SENDER, 10)]))


def test_other_mints_hide_none() -> None:
    others = [f"0x{number:040x}" for number in range(900, 910)]
    nothing = [Moved(one, ZERO_ADDRESS, SENDER, 0) for one in others]
    assert DETECTOR.holdings(evidence([*nothing, *MINTED])) == [(ZERO_ADDRESS, GOLD)]
    more = [*(Moved(one, ZERO_ADDRESS, SENDER, 10**9) for one in others), *MINTED]
    valuable = evidence([*more, Moved(WETH, ZERO_ADDRESS, SENDER, 1)])
    asked = DETECTOR.holdings(valuable)
    assert asked == [(ZERO_ADDRESS, one) for one in (WETH, *others[: MAX_TOKENS - 1])]
    rich = evidence(more, held=dict.fromkeys(asked, (10**30, 10**30)))
    assert DETECTOR.evaluate(rich).status is Status.MISSING_INPUTS  # that of GOLD is not known
