"""A drain by a new contract is seen; what honest new contracts do is not."""

from collections.abc import Sequence

import pytest

from src.chain.transfers import Approval
from src.detection.detectors.fresh_contract_drain import FreshContractDrainDetector
from src.detection.evidence import Evidence
from src.detection.records import ZERO_ADDRESS, Action, Status, Verdict
from tests.detection.test_parties import GOLD, HUB, OTHER, POOL, SENDER, VICTIM, WETH, Ether, Moved

STOLEN = [Moved(WETH, VICTIM, HUB, 100)]


def judge(transfers: Sequence[Moved], **facts: object) -> Verdict:
    usual = {"sender": SENDER, "to": HUB, "values": {WETH: 1.0}, "called_is_new": True, "nonce": 3}
    return FreshContractDrainDetector(20).evaluate(Evidence(transfers, **(usual | facts)))


@pytest.mark.parametrize(
    "transfers",
    [
        STOLEN,
        [Moved(WETH, VICTIM, SENDER, 100)],
        [Moved(WETH, VICTIM, OTHER, 100)],
        [*STOLEN, Moved(GOLD, VICTIM, OTHER, 5), Moved(WETH, HUB, SENDER, 100)],
        [*STOLEN, Moved(WETH, HUB, VICTIM, 1)],  # a trifle back
    ],
)
def test_a_new_contract_that_takes_tokens_for_nothing_is_a_drain(transfers: list[Moved]) -> None:
    verdict = judge(transfers)
    assert verdict.action is Action.REVIEW
    assert verdict.reason.startswith(
        f"{HUB}, a contract younger than a day, makes {VICTIM}, which has not signed, lose "
    )
    unknown = "(without internal transfers of ETH, which are unknown)"
    assert verdict.reason.endswith(f" for nothing {unknown}; the sender's nonce is 3")


def test_a_constructor_that_takes_tokens_is_one_of_a_new_contract() -> None:
    verdict = judge(STOLEN, to=None, created=HUB, called_is_new=None)
    assert verdict.action is Action.REVIEW
    assert verdict.reason.startswith(f"{HUB}, a contract that the transaction creates, makes ")


def test_an_allowance_is_named_where_the_token_logs_it() -> None:
    approvals = [Approval(WETH, VICTIM, HUB, 0), Approval(WETH, OTHER, POOL, 1)]
    reason = judge(STOLEN, native=[], approvals=approvals).reason
    assert f"for nothing, by an allowance of {HUB};" in reason


@pytest.mark.parametrize(
    ("honest", "transfers", "facts"),
    [
        ("an old contract", STOLEN, {"called_is_new": False}),
        ("an unknown call", STOLEN, {"to": None}),
        (
            "a deployment that takes what lay at its address",
            [Moved(WETH, HUB, OTHER, 100)],
            {"to": None, "created": HUB, "called_is_new": None},
        ),
        ("an own smart wallet", [Moved(WETH, HUB, OTHER, 5)], {}),
        (
            "an account-abstraction wallet, through its entry point",
            [Moved(WETH, OTHER, POOL, 5)],
            {"called_is_new": False},
        ),
        ("a bridge", [Moved(WETH, POOL, SENDER, 5)], {"to": POOL, "called_is_new": False}),
        ("a vesting contract pays what it holds", [Moved(GOLD, HUB, SENDER, 5)], {}),
        ("a deposit address is swept by the exchange", [Moved(GOLD, HUB, OTHER, 5)], {}),
        ("a mint", [Moved(GOLD, ZERO_ADDRESS, SENDER, 5)], {}),
        (
            "a swap through a new router",
            [Moved(WETH, SENDER, HUB, 5), Moved(WETH, HUB, POOL, 5), Moved(GOLD, POOL, SENDER, 9)],
            {},
        ),
        (
            "a sale for ether",
            [Moved(GOLD, POOL, SENDER, 9)],
            {"native": [Ether(SENDER, HUB, 5), Ether(HUB, POOL, 5)], "wrapped_native": WETH},
        ),
        ("many transfers", STOLEN * 21, {}),
        (
            "a token without a reputation",
            [*STOLEN[:0], Moved(GOLD, VICTIM, HUB, 1), Moved(WETH, SENDER, HUB, 1)],
            {"unknown_tokens": frozenset({GOLD})},
        ),
    ],
)
def test_what_honest_contracts_do_is_none(
    honest: str, transfers: list[Moved], facts: dict[str, object]
) -> None:
    assert judge(transfers, **facts) == Verdict("fresh_contract_drain"), honest


def test_it_says_when_the_age_is_unknown_and_only_where_that_matters() -> None:
    assert judge(STOLEN, called_is_new=None).status is Status.MISSING_INPUTS
    assert not judge([Moved(WETH, SENDER, HUB, 1)], called_is_new=None).reason
