"""Transactions, decisions and alerts to store."""

from dataclasses import replace
from typing import Any

from src.chain.transfers import Transfer
from src.service.database import (
    alerts,
    chain,
    decisions,
    screenings,
)
from src.service.database.engine import Database
from src.service.records import LoadedTransaction
from tests.conftest import ALICE, BOB, TIMESTAMP, TX_HASH, USDC

OTHER_HASH = "0x" + "cd" * 32

BLOCK_HASH, NEW_BLOCK_HASH = "0x" + "b1" * 32, "0x" + "b2" * 32

LARGEST = 2**256 - 1


def transaction(**changes: object) -> LoadedTransaction:
    usual = LoadedTransaction(
        tx_hash=TX_HASH,
        block_number=100,
        block_hash=BLOCK_HASH,
        block_timestamp=TIMESTAMP,
        tx_index=0,
        sender=ALICE,
        to=USDC,
        nonce=7,
        gas_used=50_000,
        gas_price=10**9,
        transfers=(Transfer(USDC, ALICE, BOB, LARGEST, 3),),
        selector="0xa9059cbb",
        status=1,
    )
    return replace(usual, **changes)


def decision(**changes: object) -> decisions.StoredDecision:
    usual = decisions.StoredDecision(
        chain_id=1,
        tx_hash=TX_HASH,
        decider="d1",
        model_version="1650000000",
        action=2,
        reasons=[{"detector": "forest", "action": "BLOCK", "reason": "high", "status": "decided"}],
        shadow=[],
        score=0.75,
        percentile=99.9,
        threshold=0.5,
        prediction="ANOMALY",
        explanation=[],
        attack_score=0.9997,
        attack_model_version="1660000000",
        attack_explanation=[{"feature": "density", "value": 2.0, "weight": 0.5}],
        invalid_reason=None,
        decided_at=5.5,
        summary="A gained 5 USDC.",
        called_is_new=True,
    )
    return replace(usual, **changes)


def alert(**changes: object) -> alerts.NewAlert:
    usual = alerts.NewAlert(
        chain_id=1,
        tx_hash=TX_HASH,
        alert_id="ANOMALOUS-TOKEN-TRANSFERS-TX",
        name="Anomalous Transaction",
        description="",
        reason="",
        severity="Critical",
        action=2,
        score=0.75,
        attack_score=0.9997,
        gained_usd=1234.5,
        lost_usd=None,
        model_version="1650000000",
        from_address=ALICE,
        block_number=100,
        block_timestamp=TIMESTAMP,
    )
    return replace(usual, **changes)


def screening(number: int, **changes: Any) -> screenings.NewScreening:
    usual: dict[str, Any] = {
        "uuid": f"u{number}", "chain_id": 1, "tx_hash": f"0x{number:064x}", "from_address": ALICE,
        "screened_at": 1_700_000_000.0 + number, "block_number": 7, "status": "success",
        "action": 1, "reasons": ["odd"], "summary": f"It moves {number}.", "problem": "",
    }  # fmt: skip
    return screenings.NewScreening(**usual | changes)


def store(database: Database, *loaded: LoadedTransaction) -> None:
    with database.writing() as connection:
        chain.store_transactions(connection, 1, loaded, now=1.0)


def store_alert(database: Database, **changes: object) -> int:
    with database.writing() as connection:
        return alerts.store_alerts(connection, [alert(**changes)], now=2.0)[0]


def listed(database: Database, **wanted: object) -> list[alerts.Alert]:
    with database.reading() as connection:
        return alerts.list_alerts(connection, alerts.AlertFilter(**wanted))[0]
