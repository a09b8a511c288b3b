"""Arbitrage is named, and a thief cannot dress as a trader."""

from collections.abc import Sequence

import pytest

from src.detection.detectors.arbitrage import ArbitrageDetector
from src.detection.detectors.balanced import BalancedDetector
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS, Action
from tests.detection.test_parties import (
    GOLD,
    HUB,
    IRON,
    LOAN,
    OTHER,
    POOL,
    SENDER,
    TIN,
    VICTIM,
    WETH,
    Ether,
    Moved,
    account,
)

LENDER, SECOND, THIRD = account(21), account(22), account(23)
ETH = 10**18
CIRCLE = [
    Moved(WETH, HUB, POOL, 100 * ETH),
    Moved(GOLD, POOL, HUB, 70),
    Moved(GOLD, HUB, SECOND, 70),
    Moved(WETH, SECOND, HUB, 101 * ETH),
]
THROUGH = [  # the pools pay one another
    Moved(WETH, SECOND, HUB, 101 * ETH),
    Moved(GOLD, POOL, SECOND, 70),
    Moved(WETH, HUB, POOL, 100 * ETH),
]
LENT = [Moved(WETH, LENDER, HUB, 100 * ETH), *CIRCLE, Moved(WETH, HUB, LENDER, 100 * ETH)]
VAULT = [Moved(WETH, OTHER if one == HUB else one, OTHER if two == HUB else two, amount)
         if token == WETH else Moved(token, one, two, amount)
         for token, one, two, amount in THROUGH[::-1]]  # fmt: skip


def reason(transfers: Sequence[Moved], **facts: object) -> str:
    usual = {"sender": SENDER, "to": HUB, "values": {WETH: 10.0**-18}, "wrapped_native": WETH}
    verdict = ArbitrageDetector(0.1, 5.0).evaluate(Evidence(transfers, **(usual | facts)))
    assert verdict.action is Action.ALLOW
    return verdict.reason


@pytest.mark.parametrize("transfers", [CIRCLE, THROUGH, LENT, VAULT])
def test_a_circle_of_trades_that_ends_richer_is_arbitrage(transfers: list[Moved]) -> None:
    assert reason(transfers) == (
        f"arbitrage: 2 traders in a circle, and 1.00% of token {WETH} that was paid in remains as "
        "profit"
    )


def test_a_tip_in_native_currency_is_part_of_it_unless_nothing_is_left() -> None:
    def tip(amount: int) -> list[Ether]:
        return [Ether(WETH, HUB, amount), Ether(HUB, THIRD, amount)]

    assert reason(CIRCLE, native=tip(9 * ETH // 10))
    assert not reason(CIRCLE, native=tip(ETH))
    assert not reason(CIRCLE, value=2 * ETH)  # sent along, and not seen again


@pytest.mark.parametrize(
    ("why", "transfers"),
    [
        ("a flash-loan attack", LOAN),
        ("the victim gets nothing", [*CIRCLE[:3], Moved(WETH, VICTIM, HUB, 101 * ETH)]),
        ("the circle is a pretext", [*CIRCLE, Moved(WETH, VICTIM, HUB, ETH)]),
        ("one trader", [CIRCLE[0], CIRCLE[1], Moved(GOLD, HUB, POOL, 70), CIRCLE[3]]),
        (
            "gains of two kinds",
            [*CIRCLE, Moved(TIN, THIRD, HUB, 9), Moved(WETH, HUB, THIRD, ETH // 2)],
        ),
        ("no reference value", [Moved(IRON if t == WETH else t, *rest) for t, *rest in CIRCLE]),
        (
            "more than a trader's day",
            [Moved(t, a, b, n * (9 if t == WETH else 1)) for t, a, b, n in CIRCLE],
        ),
        ("a mint", [*CIRCLE, Moved(TIN, ZERO_ADDRESS, HUB, 5), Moved(TIN, HUB, THIRD, 5)]),
        (
            "bought and sold at one pool",
            [*CIRCLE, Moved(GOLD, HUB, POOL, 5), Moved(GOLD, POOL, HUB, 5)],
        ),
    ],
)
def test_what_is_not_arbitrage_is_not_named(why: str, transfers: list[Moved]) -> None:
    assert reason(transfers) == "", why


def test_a_victim_paid_in_dust_and_an_own_trader_name_no_arbitrage() -> None:
    dressed = [
        Moved(WETH, VICTIM, HUB, 4 * ETH),  # the loot
        Moved(TIN, HUB, VICTIM, 1),  # "traded"
        Moved(TIN, OTHER, HUB, 1),  # the thief's own trader closes the circle
        Moved(WETH, HUB, OTHER, 1),
    ]
    assert reason(dressed) == ""
    dressed[3] = Moved(WETH, HUB, OTHER, ETH)
    assert reason(dressed) == ""
    rich = [*dressed[:3], Moved(WETH, THIRD, HUB, 50 * ETH), Moved(WETH, HUB, OTHER, 50 * ETH)]
    assert reason(rich) == ""  # the money is a stranger's, who is not paid


def test_tokens_without_a_reputation_make_no_circle() -> None:
    assert reason(CIRCLE, unknown_tokens=frozenset({GOLD})) == ""


def test_what_is_borrowed_and_repaid_to_the_unit_is_balanced() -> None:
    def balanced(transfers: Sequence[Moved], **facts: object) -> str:
        return BalancedDetector().evaluate(Evidence(transfers, sender=SENDER, **facts)).reason

    repaid = [
        Moved(WETH, LENDER, HUB, 5),
        Moved(WETH, LENDER, HUB, 7),
        Moved(WETH, HUB, LENDER, 12),
    ]
    told = "no account ends richer or poorer of any token"
    assert balanced(repaid, to=HUB) == f"{told}; transfers of ETH unknown"
    assert balanced(repaid, to=HUB, native=[Ether(LENDER, LENDER, 1)]) == told
    assert balanced(repaid, to=HUB, value=1) == ""
    assert balanced([*repaid[:2], Moved(WETH, HUB, LENDER, 13)]) == ""
    assert balanced(repaid[:1]) == ""
    assert balanced([]) == ""
