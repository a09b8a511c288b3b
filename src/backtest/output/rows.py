"""Decisions and alerts as tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from src.backtest.scoring.decisions import Judged
from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import TransactionBatch
from src.datasets.fixed_bytes import hex_column
from src.decision.alerts import Alert, alerts_of
from src.detection.forest.model import ANOMALY, NORMAL
from src.detection.records import Action, Attribution, Verdict

INVALID: Final = "INVALID"
UNSCORED: Final = "the transaction could not be scored"
_PREDICTIONS = pa.array([NORMAL, ANOMALY, INVALID])
_ACTIONS = pa.array([action.name for action in Action])


@dataclass(frozen=True, slots=True)
class SliceRows:
    """One slice's decisions, in columns with one entry per transaction."""

    tx_hash: pa.Array
    from_address: pa.Array
    batch: TransactionBatch
    judged: Mapping[int, Judged]  # transactions with verdicts of detectors, by position
    # Positions of anomalies and of `REVIEW` and `BLOCK`, including shadow actions.
    alerts: NDArray[np.int64]
    scores: Scores
    anomaly: NDArray[np.bool_]  # whether the score reaches the threshold
    # action, shadow_action: as numbers of `Action`.
    action: NDArray[np.int8]
    shadow_action: NDArray[np.int8]

    def table(self, feature_names: Sequence[str]) -> pa.Table:
        """The decisions; with these features."""
        scores = self.scores
        unscored = np.isnan(scores.score)
        prediction = np.where(unscored, 2, self.anomaly).astype(np.int8)
        columns = {
            "tx_hash": self.tx_hash,
            "block_number": _known(self.batch.block_number),
            "block_timestamp": _known(self.batch.timestamp),
            "tx_index": _known(self.batch.tx_index),
            "from_address": self.from_address,
            "n_transfers": pa.array(self.batch.transfers.n_transfers),
            "anomaly_score": _scored(scores.score),
            "anomaly_percentile": _scored(scores.percentile),
            "attack_score": _scored(scores.attack),
            "attack_percentile": _scored(100 * scores.attack),
            "prediction": pa.DictionaryArray.from_arrays(prediction, _PREDICTIONS),
            "action": pa.DictionaryArray.from_arrays(self.action, _ACTIONS),
            "shadow_action": pa.DictionaryArray.from_arrays(self.shadow_action, _ACTIONS),
        }
        for column, name in enumerate(feature_names):
            columns[name] = pa.array(scores.features[:, column], mask=unscored)
        return pa.table(columns)

    def facts(self, position: int) -> dict[str, Any]:
        """One transaction for the report."""
        judged = self.judged.get(position)
        money = judged.moved.money.as_json() if judged else {}
        deciding = judged.decision.deciding if judged else None
        offsets = self.batch.transfers.offsets
        return {
            "tx_hash": self.tx_hash[position].as_py(),
            "block_number": _or_none(self.batch.block_number[position]),
            "from_address": self.from_address[position].as_py(),
            "n_transfers": int(offsets[position + 1] - offsets[position]),
            "anomaly_score": _score(self.scores.score[position]),
            "attack_score": _score(self.scores.attack[position]),
            "anomaly": bool(self.anomaly[position]),
            "action": Action(int(self.action[position])).name,
            "reason": deciding.reason if deciding else "",
            "summary": judged.moved.summary if judged else "",
            "gained_usd": money.get("gained_usd"),
            "lost_usd": money.get("lost_usd"),
        }


def decision_rows(
    batch: TransactionBatch, scores: Scores, judged: Mapping[int, Judged], threshold: float
) -> SliceRows:
    """Put decisions side by side with scores."""
    action = np.zeros(len(batch), np.int8)
    shadow = np.zeros(len(batch), np.int8)
    for position, answer in judged.items():
        action[position] = answer.decision.action
        shadow[position] = max((verdict.action for verdict in answer.decision.shadow), default=0)
    anomaly = scores.score >= threshold
    return SliceRows(
        tx_hash=hex_column(batch.tx_hash),
        from_address=hex_column(batch.sender),
        batch=batch,
        judged=judged,
        alerts=np.flatnonzero(anomaly | (action > 0) | (shadow > 0)),
        scores=scores,
        anomaly=anomaly,
        action=action,
        shadow_action=shadow,
    )


def alert_table(decisions: pa.Table, rows: SliceRows, judged: Mapping[int, Judged]) -> pa.Table:
    """The rows of `decisions` that raise an alert, with their alerts, reasons and explanations."""
    table = decisions.take(pa.array(rows.alerts))
    positions = rows.alerts.tolist()
    answers = [judged[position] for position in positions]
    columns = {
        "alerts": [
            _alerts(
                alerts_of(
                    answer.decision,
                    sender,
                    is_anomaly=bool(rows.anomaly[position]),
                    problem=UNSCORED if np.isnan(rows.scores.score[position]) else None,
                )
            )
            for position, sender, answer in zip(
                positions, table["from_address"].to_pylist(), answers, strict=True
            )
        ],
        "reasons": [_verdicts(answer.decision.reasons) for answer in answers],
        "shadow_reasons": [_verdicts(answer.decision.shadow) for answer in answers],
        "model_explanations": [
            explanation(answer.explanation) if answer.explanation else None for answer in answers
        ],
        "attack_explanations": [
            explanation(answer.attack_explanation) if answer.attack_explanation else None
            for answer in answers
        ],
    }
    moved = [answer.moved for answer in answers]
    money = [one.money.as_json() for one in moved]
    columns["summary"] = [one.summary for one in moved]
    columns["lost_by"] = [one["lost_by"] for one in money]
    columns |= {name: [json.dumps(one[name]) for one in money] for name in ("gained", "lost")}
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.large_string()))
    for name in ("gained_usd", "lost_usd"):
        table = table.append_column(name, pa.array([one[name] for one in money], pa.float64()))
    return table


@lru_cache(maxsize=10_000)  # anomalies have few distinct shapes
def explanation(attributions: tuple[Attribution, ...]) -> str:
    """The inputs that weigh most, as JSON."""
    return json.dumps([{"feature": f, "value": v, "weight": w} for f, v, w in attributions])


def _alerts(alerts: Sequence[Alert]) -> str:
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
    return f"[{', '.join(map(_verdict, verdicts))}]"


@lru_cache(maxsize=1_024)  # the forest has few distinct verdicts
def _verdict(verdict: Verdict) -> str:
    return json.dumps(
        {
            "detector": verdict.detector,
            "action": verdict.action.name,
            "status": str(verdict.status),
            "reason": verdict.reason,
        }
    )


def _score(score: np.float64) -> float | None:
    return None if np.isnan(score) else float(score)


def _scored(scores: NDArray[np.float64]) -> pa.Array:
    return pa.array(scores, mask=np.isnan(scores))


def _or_none(number: np.int64) -> int | None:
    return int(number) if number >= 0 else None


def _known(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, mask=values < 0)
