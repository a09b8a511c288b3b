"""The result of a drift check as JSON and as metrics."""

import json
from typing import Any

from src.monitoring import metrics
from src.monitoring.drift.verdict import Drift


def publish(drift: Drift) -> None:
    """Set the metrics from the result."""
    metrics.drift_checked(
        int(drift.verdict),
        {name: moved.psi for name, moved in drift.effects.items()},
        {
            name: moved.wasserstein
            for name, moved in drift.effects.items()
            if moved.wasserstein is not None
        },
    )


def to_json(drift: Drift) -> str:
    """The result as JSON."""
    (before, *before_span), (now, *now_span) = drift.rates
    content: dict[str, Any] = {
        "verdict": drift.verdict.name.lower(),
        "reasons": list(drift.reasons),
        "model_version": drift.reference.model_version,
        "dates": {"reference": drift.reference.dates, "current": drift.current.dates},
        "transactions": {"reference": drift.reference.size, "current": drift.current.size},
        "anomaly_rate": {
            "reference": before, "reference_interval": before_span,
            "current": now, "current_interval": now_span,
        },
        "unknown_tokens": {"reference": drift.unknown[0], "current": drift.unknown[1]},
        "effects": {
            name: {
                "psi": moved.psi,
                "psi_noise": moved.psi_noise,
                "wasserstein": moved.wasserstein,
                "wasserstein_noise": moved.wasserstein_noise,
            }
            for name, moved in drift.effects.items()
        },
    }  # fmt: skip
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
