"""Decisions and alerts as tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from src.backtest.scoring.decisions import Judged
from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import TransactionBatch
from src.datasets.fixed_bytes import hex_column
from src.decision.alerts import alerts_of
from src.detection.forest.model import ANOMALY, NORMAL
from src.detection.records import Action, Attribution, Verdict

INVALID: Final = "INVALID"
UNSCORED: Final = "the transaction could not be scored"
_PREDICTIONS = pa.array([NORMAL, ANOMALY, INVALID])
_ACTIONS = pa.array([action.name for action in Action])


def tables_of(
    batch: TransactionBatch,
    scores: Scores,
    judged: Mapping[int, Judged],
    threshold: float,
    feature_names: Sequence[str] = (),
) -> tuple[pa.Table, pa.Table]:
    """The decisions, with these features, and those that raise an alert.

    Alerts are anomalies, and what has `REVIEW` or `BLOCK`, also in shadow.
    """
    action, shadow = np.zeros(len(batch), np.int8), np.zeros(len(batch), np.int8)
    for position, answer in judged.items():
        action[position] = answer.decision.action
        shadow[position] = max((verdict.action for verdict in answer.decision.shadow), default=0)
    unscored, anomaly = np.isnan(scores.score), scores.score >= threshold
    prediction = np.where(unscored, 2, anomaly).astype(np.int8)
    columns = {
        "tx_hash": hex_column(batch.tx_hash),
        "block_number": _known(batch.block_number),
        "block_timestamp": _known(batch.timestamp),
        "tx_index": _known(batch.tx_index),
        "from_address": hex_column(batch.sender),
        "n_transfers": pa.array(batch.transfers.n_transfers),
        "anomaly_score": _scored(scores.score),
        "anomaly_percentile": _scored(scores.percentile),
        "attack_score": _scored(scores.attack),
        "attack_percentile": _scored(100 * scores.attack),
        "prediction": pa.DictionaryArray.from_arrays(prediction, _PREDICTIONS),
        "action": pa.DictionaryArray.from_arrays(action, _ACTIONS),
        "shadow_action": pa.DictionaryArray.from_arrays(shadow, _ACTIONS),
    }
    for column, name in enumerate(feature_names):
        columns[name] = pa.array(scores.features[:, column], mask=unscored)
    decisions = pa.table(columns)
    alerts = np.flatnonzero(anomaly | (action > 0) | (shadow > 0))
    answers = [judged[position] for position in alerts.tolist()]
    return decisions, _with_reasons(decisions.take(pa.array(alerts)), answers)


def _with_reasons(table: pa.Table, answers: Sequence[Judged]) -> pa.Table:
    """Rows of decisions with their alerts, reasons and explanations, and who gained what."""
    money = [answer.moved.money.as_json() for answer in answers]
    columns = {
        "alerts": list(map(_alerts, answers, table.to_pylist())),
        "reasons": [_verdicts(answer.decision.reasons) for answer in answers],
        "shadow_reasons": [_verdicts(answer.decision.shadow) for answer in answers],
        "model_explanations": [explanation(answer.explanation) for answer in answers],
        "attack_explanations": [explanation(answer.attack_explanation) for answer in answers],
        "summary": [answer.moved.summary for answer in answers],
        "lost_by": [one["lost_by"] for one in money],
        **{name: [json.dumps(one[name]) for one in money] for name in ("gained", "lost")},
    }
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.large_string()))
    for name in ("gained_usd", "lost_usd"):
        table = table.append_column(name, pa.array([one[name] for one in money], pa.float64()))
    return table


def explanation(attributions: Sequence[Attribution]) -> str | None:
    """The inputs that weigh most, as JSON; None where there are none."""
    rows = [{"feature": f, "value": v, "weight": w} for f, v, w in attributions]
    return json.dumps(rows) if rows else None


def _alerts(answer: Judged, row: Mapping[str, Any]) -> str:
    alerts = alerts_of(
        answer.decision,
        row["from_address"],
        is_anomaly=row["prediction"] == ANOMALY,
        problem=UNSCORED if row["prediction"] == INVALID else None,
    )
    return json.dumps(
        [
            {
                "alert_id": alert.spec.id,
                "name": alert.spec.title,
                "description": alert.description,
                "severity": alert.severity.value,
                "action": alert.action.name,
                "reason": alert.reason,
            }
            for alert in alerts
        ]
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    return json.dumps(
        [
            {
                "detector": verdict.detector,
                "action": verdict.action.name,
                "status": str(verdict.status),
                "reason": verdict.reason,
            }
            for verdict in verdicts
        ]
    )


def _scored(scores: NDArray[np.float64]) -> pa.Array:
    return pa.array(scores, mask=np.isnan(scores))


def _known(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, mask=values < 0)
