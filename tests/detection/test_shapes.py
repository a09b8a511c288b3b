"""Shapes of attacks and of everyday transactions, and which rules of the shipped policy speak."""

from dataclasses import replace

import pytest

from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence
from src.detection.policy import Mode, parse_policy
from src.detection.records import ZERO_ADDRESS
from src.detection.suite import DetectorSuite
from src.settings import DEFAULT_POLICY_PATH
from tests.detection.test_parties import (
    GOLD,
    HUB,
    IRON,
    LENDER,
    OTHER,
    POOL,
    SENDER,
    TIN,
    VICTIM,
    WETH,
    Moved,
    account,
)

MODELS = ("isolation_forest", "supervised")
VALUES = {WETH: 1.0, GOLD: 1.0}
USERS = [account(number) for number in range(900, 906)]
SHARES = "0x" + "5a" * 20


POLICY = parse_policy(DEFAULT_POLICY_PATH.read_text(encoding="utf-8"))
RULES = {
    name: entry
    for name, entry in POLICY.detectors.items()
    if name not in MODELS and entry.mode is Mode.ON
}
SUITE = DetectorSuite.from_policy(replace(POLICY, detectors=RULES), 1, Equipment())


def each(token: str, recipient: str, amount: int = 50) -> list[Moved]:
    return [Moved(token, user, recipient, amount + n) for n, user in enumerate(USERS)]


def three(payer: str, payee: str) -> list[Moved]:
    return [Moved(token, payer, payee, 300) for token in (WETH, GOLD, IRON)]


SWAP = [Moved(WETH, SENDER, POOL, 100), Moved(IRON, POOL, SENDER, 7)]
SOLD = [Moved(GOLD, HUB, POOL, 315), Moved(WETH, POOL, SENDER, 300)]
LOOT = [Moved(GOLD, VICTIM, HUB, 900), Moved(GOLD, HUB, OTHER, 900)]
AIRDROP = [Moved(TIN, SENDER, account(number), 5) for number in range(700, 720)]

ATTACKS = [
    ("allowances of a router", each(GOLD, HUB), {"drained_account"}),
    ("allowances, sold at once", [*each(GOLD, HUB), *SOLD], {"drained_account"}),
    ("allowances, and an airdrop", [*each(GOLD, HUB), *AIRDROP], {"drained_account"}),
    ("shares of a vault, redeemed", [*each(SHARES, HUB), Moved(SHARES, HUB, ZERO_ADDRESS, 315),
                                     Moved(WETH, POOL, HUB, 300)], {"drained_account"}),
    ("three tokens of a wallet", three(VICTIM, SENDER), {"drained_account"}),
    ("three tokens, given on", [*three(VICTIM, HUB), *three(HUB, OTHER)], {"drained_account"}),
    ("all of a bridge, to another", LOOT, {"emptied_account"}),
    ("all of a bridge, self-transfers", [Moved(GOLD, SENDER, SENDER, 10**6), *LOOT],
     {"emptied_account"}),
    ("a drainer's shares", [Moved(IRON, VICTIM, HUB, 10**6), Moved(IRON, HUB, OTHER, 200_000),
                            Moved(IRON, HUB, POOL, 800_000)], {"drainer_split"}),
    ("an unlimited mint, sold", [Moved(TIN, ZERO_ADDRESS, SENDER, 10**6),
                                 Moved(TIN, SENDER, POOL, 10**6), Moved(WETH, POOL, SENDER, 90)],
     {"inflated_supply"}),
    ("a flash loan, a price moved", [
        Moved(WETH, LENDER, HUB, 1000), Moved(WETH, HUB, POOL, 1000), Moved(TIN, POOL, HUB, 70),
        Moved(TIN, HUB, VICTIM, 70), Moved(WETH, VICTIM, HUB, 1010), Moved(WETH, HUB, LENDER, 1000),
    ], {"flash_loan_profit"}),
    ("zero transfers beside dust", [Moved(GOLD, VICTIM, OTHER, 0), Moved(GOLD, OTHER, VICTIM, 1)],
     {"address_poisoning"}),
]  # fmt: skip

EVERYDAY = [
    ("a swap", SWAP),
    ("a payroll", [Moved(GOLD, SENDER, HUB, 60), *[Moved(GOLD, HUB, user, 10) for user in USERS]]),
    ("six wallets pay six others in a bundle", [
        Moved(IRON, user, account(number), 9) for number, user in enumerate(USERS, start=800)]),
    ("six wallets buy a token", [moved for user in USERS for moved in (
        Moved(GOLD, user, POOL, 9), Moved(TIN, POOL, user, 9))]),
    ("a withdrawal from a pool by a zap",
     [Moved(SHARES, SENDER, ZERO_ADDRESS, 900), *three(POOL, HUB), *three(HUB, SENDER)]),
    ("a withdrawal from a pool by a smart wallet",
     [Moved(SHARES, HUB, ZERO_ADDRESS, 900), *three(POOL, HUB)]),
    ("a migration", [Moved(TIN, SENDER, ZERO_ADDRESS, 9), Moved(IRON, ZERO_ADDRESS, SENDER, 900)]),
    ("a deposit", [Moved(GOLD, SENDER, POOL, 90), Moved(SHARES, ZERO_ADDRESS, SENDER, 90)]),
    ("a bridge that is not emptied", [Moved(GOLD, POOL, OTHER, 90)]),
]  # fmt: skip


def speaking(transfers: list[Moved]) -> set[str]:
    held = {(VICTIM, GOLD): (900, 900), (POOL, GOLD): (10**9, 10**9)}
    held |= {(ZERO_ADDRESS, token): (10**6, 10**6) for token in (TIN, IRON, SHARES)}
    evidence = Evidence(
        transfers, sender=SENDER, to=HUB, nonce=7, values=VALUES, wrapped_native=WETH, held=held
    )
    return {verdict.detector for verdict in SUITE.decide(evidence).reasons if verdict.action}


@pytest.mark.parametrize(("name", "transfers", "rules"), ATTACKS, ids=[a[0] for a in ATTACKS])
def test_an_attack_is_found(name: str, transfers: list[Moved], rules: set[str]) -> None:
    assert rules <= speaking(transfers), name


@pytest.mark.parametrize(("name", "transfers"), EVERYDAY, ids=[e[0] for e in EVERYDAY])
def test_what_people_do_every_day_is_allowed(name: str, transfers: list[Moved]) -> None:
    assert not speaking(transfers), name
