"""Statistics of one day of published alerts, compared with the training data."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from src.chain.quantities import as_int
from src.decision.sentence import MAX_LENGTH
from src.detection.detectors.arbitrage import ArbitrageDetector
from src.reports.intervals import share_interval
from src.utils.constants import ANOMALOUS_ALERT_ID as ANOMALOUS
from src.utils.constants import INVALID_ALERT_ID as INVALID
from src.utils.constants import NORMAL_ALERT_ID as NORMAL

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFO", "UNKNOWN")
THRESHOLDS = tuple(round(0.4 + 0.05 * step, 2) for step in range(11))
TOP_ANOMALOUS = 5
TOP_GAINS = 5
_GAIN = ["tx_hash", "gained_usd", "is_arbitrage", "summary"]
COLUMNS = (
    "tx_hash",
    "alert_id",
    "severity",
    "block",
    "time",
    "score",
    "threshold",
    "model_version",
    "gained_usd",
    "summary",
    "is_arbitrage",
)


@dataclass(frozen=True, slots=True)
class DailyStatistics:
    """One day."""

    transactions: int  # number of transactions with one of the bot's three primary alerts
    repeated: int  # further primary alerts of the same transactions, which are ignored
    other: dict[str, int]  # rule findings, by alert id
    counts: dict[str, int]  # transactions by alert id
    # Share of `ANOMALOUS` among all, with its 95% interval.
    anomaly_rate: tuple[float, float, float]
    invalid_rate: tuple[float, float, float]  # the same of `INVALID`
    expected_anomaly_rate: float  # in training, at that threshold
    deviation: float | None  # of the anomaly rate from the expected one, in percent of it
    threshold: float | None  # see `threshold_in_force`
    # Share of the scored transactions at or above other thresholds, and that one.
    by_threshold: dict[str, float]
    model_versions: dict[str, int]  # transactions by model version
    most_anomalous: list[dict[str, Any]]  # hash, score and block of the highest scores
    # Transactions of which a finding says who gained what, those of them that are named as
    # arbitrage, and those whose gain in USD is known, with the median.
    reported: int
    arbitrage: int
    gains_known: int
    median_gain_usd: float | None
    # Hash, gain in USD, whether it is arbitrage, and the sentence, of the largest gains.
    largest_gains: list[dict[str, Any]]


def alerts_table(alerts: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Alerts as rows of `COLUMNS`; missing and invalid values become None or NaN."""
    table = pd.DataFrame([_row(alert) for alert in alerts], columns=list(COLUMNS))
    table["time"] = pd.to_datetime(table["time"], utc=True)
    numbers = ["score", "threshold", "gained_usd"]
    table[numbers] = table[numbers].astype(np.float64)
    return table


def primary(table: pd.DataFrame) -> pd.DataFrame:
    """The first primary alert of each transaction."""
    chosen = table[table["alert_id"].isin([NORMAL, ANOMALOUS, INVALID])]
    return chosen.drop_duplicates("tx_hash", ignore_index=True)


def threshold_in_force(table: pd.DataFrame) -> float | None:
    """The threshold that most transactions were compared with; None if no alert states it."""
    stated = primary(table)["threshold"].dropna()
    return float(stated.mode().iloc[0]) if len(stated) else None


def daily_statistics(table: pd.DataFrame, expected_anomaly_rate: float) -> DailyStatistics:
    """Statistics of a day's alerts.

    Raises:
        ValueError: the day has none.
    """
    alerts = primary(table)
    many = len(alerts)
    if many == 0:
        raise ValueError("no alerts: the bot did not run, or the id or the date is wrong")
    counts = {
        alert_id: int((alerts["alert_id"] == alert_id).sum())
        for alert_id in (NORMAL, ANOMALOUS, INVALID)
    }
    ours = table["alert_id"].isin(counts)
    anomalies = counts[ANOMALOUS]
    rate = anomalies / many
    scores = alerts["score"].dropna()
    threshold = threshold_in_force(table)
    thresholds = sorted({*THRESHOLDS, *([] if threshold is None else [threshold])})
    highest = alerts.dropna(subset=["score"]).nlargest(TOP_ANOMALOUS, "score")
    reported = table[table["summary"] != ""].drop_duplicates("tx_hash")
    gains = reported.dropna(subset=["gained_usd"])
    largest = gains[gains["gained_usd"] > 0].nlargest(TOP_GAINS, "gained_usd")
    return DailyStatistics(
        transactions=many,
        repeated=int(ours.sum()) - many,
        other=_count(table[~ours]["alert_id"]),
        counts=counts,
        anomaly_rate=(rate, *share_interval(anomalies, many)),
        invalid_rate=(counts[INVALID] / many, *share_interval(counts[INVALID], many)),
        expected_anomaly_rate=expected_anomaly_rate,
        deviation=(
            (rate / expected_anomaly_rate - 1) * 100 if expected_anomaly_rate > 0 else None
        ),
        threshold=threshold,
        by_threshold={
            shown(at): float((scores >= at).mean()) if len(scores) else 0.0 for at in thresholds
        },
        model_versions=_count(alerts["model_version"]),
        most_anomalous=[
            # If one block is unknown, the column's other values are floats.
            {"tx_hash": tx_hash, "score": score, "block": None if pd.isna(block) else int(block)}
            for tx_hash, score, block in zip(
                highest["tx_hash"].tolist(), highest["score"].tolist(),
                highest["block"].tolist(), strict=True,
            )
        ],
        reported=len(reported),
        arbitrage=int(reported["is_arbitrage"].sum()),
        gains_known=len(gains),
        median_gain_usd=float(gains["gained_usd"].median()) if len(gains) else None,
        largest_gains=[
            dict(zip(_GAIN, row, strict=True)) for row in largest[_GAIN].itertuples(index=False)
        ],
    )  # fmt: skip


def shown(threshold: float) -> str:
    """A threshold as a key of `by_threshold`."""
    return f"{threshold:.2f}" if threshold in THRESHOLDS else f"{threshold:g}"


def by_hour(table: pd.DataFrame) -> pd.DataFrame:
    """Alerts per hour of the day that most are of, one column per severity."""
    # A wrong time, such as 0, would add the hours of all the days in between.
    days = table["time"].dt.floor("D")
    hours = table["time"].dt.floor("h").where(days.isin(days.mode()))
    counted = table.groupby([hours, "severity"]).size().unstack(fill_value=0)
    present = [severity for severity in SEVERITIES if severity in counted.columns]
    return counted[present]


def _row(alert: dict[str, Any]) -> dict[str, Any]:
    source = alert.get("source")
    source = source if isinstance(source, dict) else {}
    block = source.get("block")
    block = block if isinstance(block, dict) else {}
    metadata = alert.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    severity = str(alert.get("severity")).upper()
    return {
        "tx_hash": _text(source.get("transactionHash")) or _text(alert.get("hash")),
        "alert_id": _text(alert.get("alertId")),
        "severity": severity if severity in SEVERITIES else "UNKNOWN",
        "block": as_int(block.get("number")),
        "time": _time(block.get("timestamp")) or _time(alert.get("createdAt")),
        "score": _score(metadata.get("anomaly_score")),
        "threshold": _score(metadata.get("anomaly_threshold")),
        "model_version": _text(metadata.get("model_version")) or "unknown",
        "gained_usd": _number(metadata.get("gained_usd")),
        "summary": _text(metadata.get("summary"), MAX_LENGTH),
        "is_arbitrage": f'"{ArbitrageDetector.NAME}"' in str(metadata.get("reasons")),
    }


def _text(value: Any, length: int = 100) -> str:
    # JSON may contain lone surrogates, which tables cannot hold.
    return value[:length].encode(errors="replace").decode() if isinstance(value, str) else ""


def _number(value: Any) -> float:
    """NaN where it is unknown."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _score(value: Any) -> float:
    score = _number(value)
    return score if 0 <= score <= 1 else math.nan


def _time(value: Any) -> datetime | None:
    """Parses ISO 8601, or Unix seconds, which some versions of the API return."""
    try:
        if isinstance(value, str) and not value.isdigit():
            stamp = datetime.fromisoformat(value)
            stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
        else:
            stamp = datetime.fromtimestamp(as_int(value), UTC)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    # Around the first and the last year, a plot's axis has times that there are not.
    return stamp if MINYEAR + 1 < stamp.year < MAXYEAR else None


def _count(column: "pd.Series[str]") -> dict[str, int]:
    return {str(name): int(count) for name, count in column.value_counts().items()}
