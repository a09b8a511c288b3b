"""Findings say what was gained and lost, and a policy may ask for a least gain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forta_agent import FindingSeverity

from src import agent
from src.chain.transfers import SYSTEM_ADDRESS
from tests.conftest import ALICE, BOB, UNKNOWN_TOKEN, USDC, event_of, transfer_log

CAROL, POOL = "0x" + "c3" * 20, "0x" + "70" * 20
LOOT = 22 * 10**6  # of USDC


def loan() -> list[dict[str, Any]]:
    return [
        transfer_log(sender=POOL, recipient=BOB, amount=10**9),
        transfer_log(sender=CAROL, recipient=BOB, amount=LOOT),
        transfer_log(sender=BOB, recipient=POOL, amount=10**9),
    ]


def trace(payer: str, payee: str, value: int, place: list[int], **changes: Any) -> dict[str, Any]:
    action = {"callType": "call", "from": payer, "to": payee, "value": hex(value)}
    return {"type": "call", "action": action, "traceAddress": place} | changes


def policy(folder: Path, least: int) -> str:
    path = folder / f"{least}.yaml"
    path.write_text(
        "version: 1\ndetectors:\n"
        f"  isolation_forest: {{mode: on, min_gained_usd: {least}}}\n"
        f"  flash_loan_profit: {{mode: on, min_gained_usd: {least}}}\n"
    )
    return str(path)


def test_a_finding_names_the_gain_the_loser_and_what_is_not_counted(
    start_bot: Callable[..., None],
) -> None:
    start_bot(ANOMALY_THRESHOLD="0")
    (found,) = agent.handle_transaction(event_of(loan()))
    said = found.metadata
    assert (said["gained_usd"], said["lost_usd"], said["lost_by"]) == ("22", "22", CAROL)
    assert said["summary"] == (
        "0xa1a1a1…a1a1 (2nd transaction) gained 22 USDC (about $22); "
        "0xc3c3c3…c3c3 lost 22 USDC (about $22)."
    )
    assert json.loads(said["gained"]) == [
        {"token": USDC, "amount": str(LOOT), "usd": 22.0, "source": "fixed"}
    ]
    assert json.loads(said["lost"])[0]["amount"] == str(-LOOT)
    assert json.loads(said["not_counted"]) == ["internal native transfers", "gas"]


def test_what_has_no_price_is_unknown_and_never_zero(start_bot: Callable[..., None]) -> None:
    start_bot(ANOMALY_THRESHOLD="0")
    logs = [*loan(), transfer_log(UNKNOWN_TOKEN, CAROL, BOB, 5)]
    (found,) = agent.handle_transaction(event_of(logs))
    assert (found.metadata["gained_usd"], found.metadata["lost_usd"]) == ("unknown", "unknown")
    parts = [(part["token"], part["usd"]) for part in json.loads(found.metadata["gained"])]
    assert parts == [(USDC, 22.0), (UNKNOWN_TOKEN, None)]


def test_nothing_is_said_of_what_is_not_reported(start_bot: Callable[..., None]) -> None:
    start_bot(ANOMALY_THRESHOLD="1")
    (found,) = agent.handle_transaction(event_of([transfer_log()]))
    assert not {"gained_usd", "summary"} & found.metadata.keys()


def test_a_least_gain_silences_small_gains_that_are_known_and_no_others(
    start_bot: Callable[..., None], tmp_path: Path
) -> None:
    still = [trace(ALICE, BOB, 0, [])]
    to_bob = [trace(ALICE, BOB, 0, []), trace(POOL, BOB, 10**18, [0])]  # ether, without a price
    reverted = [trace(ALICE, BOB, 0, []), trace(POOL, BOB, 10**18, [0], error="Reverted"),
                trace(BOB, CAROL, 10**18, [0, 0])]  # fmt: skip
    ether = transfer_log(SYSTEM_ADDRESS, POOL, BOB, 10**18)
    seen = {}
    for least in (10, 1000):
        agent.BOT = None
        start_bot(ANOMALY_THRESHOLD="0", POLICY_PATH=policy(tmp_path, least))
        for name, logs, changes in (
            ("known", loan(), {"traces": still}),
            ("reverted", loan(), {"traces": reverted}),
            ("no traces", loan(), {}),
            ("ether from traces", loan(), {"traces": to_bob}),
            ("ether from logs", [*loan(), ether], {}),
        ):
            (found,) = agent.handle_transaction(event_of(logs, **changes))
            seen[least, name] = (found.severity, found.metadata["action"], len(found.labels))
    critical = (FindingSeverity.Critical, "REVIEW", 1)
    assert seen[10, "known"] == critical
    assert seen[1000, "known"] == seen[1000, "reverted"] == (FindingSeverity.Info, "ALLOW", 0)
    for name in ("no traces", "ether from traces", "ether from logs"):
        assert seen[1000, name] == critical, name
