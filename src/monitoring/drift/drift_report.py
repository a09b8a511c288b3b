"""The result of a drift check as JSON and as metrics."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from src.monitoring import metrics
from src.monitoring.drift.verdict import Drift, Verdict


def publish(outcome: Mapping[str, Any], *, at: float | None = None) -> None:
    """Set the metrics from a result as JSON values; `at` is when it was found, None for now."""
    measured: dict[str, dict[str, float]] = {
        measure: {
            name: moved[measure]
            for name, moved in outcome["effects"].items()
            if moved[measure] is not None
        }
        for measure in ("psi", "wasserstein")
    }
    metrics.drift_checked(int(Verdict[outcome["verdict"].upper()]), **measured, at=at)


def as_json(drift: Drift) -> dict[str, Any]:
    """The result as JSON values."""
    (before, *before_span), (now, *now_span) = drift.rates
    return {
        "verdict": drift.verdict.name.lower(),
        "reasons": list(drift.reasons),
        "model_version": drift.reference.model_version,
        "attack_model_version": drift.reference.attack_version,
        "dates": {"reference": drift.reference.dates, "current": drift.current.dates},
        "transactions": {"reference": drift.reference.size, "current": drift.current.size},
        "anomaly_rate": {
            "reference": before, "reference_interval": before_span,
            "current": now, "current_interval": now_span,
        },
        "unknown_tokens": {"reference": drift.unknown[0], "current": drift.unknown[1]},
        "effects": {name: asdict(moved) for name, moved in drift.effects.items()},
    }  # fmt: skip


def to_json(drift: Drift) -> str:
    """The result as JSON."""
    return json.dumps(as_json(drift), indent=1, allow_nan=False) + "\n"
