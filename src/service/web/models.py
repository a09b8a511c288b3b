"""The page of models: in use, challenger, supervised, and the batch analysis' registry."""

from collections.abc import Mapping
from typing import Any

from src.detection.features.definitions import FEATURES
from src.monitoring.drift.levels import Levels
from src.registry.bundle import EVALUATION_FILE
from src.service.context import Service
from src.service.database.engine import Page
from src.service.database.registry import list_models
from src.service.database.scheduled_tasks import last_outcome
from src.service.drift_check import CHORE, FRAUD_CHORE
from src.service.web.evaluation import read_checks, read_evaluation

_LISTED = 25
_EFFECTS = 6


def read(service: Service) -> dict[str, Any]:
    """What `models.html` shows."""
    manifest = service.decider.model.manifest
    with service.database.reading() as connection:
        registry, total = list_models(connection, service.chain_id, Page(_LISTED))
    evaluation = read_evaluation(manifest.sha256)
    fraud = service.fraud.in_use
    return {
        "manifest": manifest,
        "threshold": service.decider.threshold,
        "detectors": service.decider.detectors,
        "evaluation": evaluation,
        "inputs": [
            (name, FEATURES.get(name, ""), evaluation.features.get(name) if evaluation else None)
            for name in manifest.inputs
        ],
        "attack": service.decider.pipeline.attack,
        "supervised": fraud,
        "registry": registry,
        "registry_total": total,
        "drift_check": _last_check(
            service,
            f"{CHORE}-{service.chain_id}",
            service.decider.model.version,
            manifest.training.get("data", {}),
        ),
        "fraud_check": fraud and _last_check(service, FRAUD_CHORE, fraud.model.version, {}),
        "least": Levels().least,
        "unseen": evaluation.unseen if evaluation else (),
        **_challenger(service),
    }


def _challenger(service: Service) -> dict[str, Any]:
    """The challenger's manifest and how it compares, as far as its folder says."""
    challenger, path = service.decider.pipeline.challenger, service.common.challenger_model_path
    if challenger is None or path is None:
        return {"challenger": None, "challenger_unseen": {}, "checks": ()}
    manifest, beside = challenger.model.manifest, path.with_name(EVALUATION_FILE)
    evaluation = read_evaluation(manifest.sha256, beside)
    return {
        "challenger": manifest,
        "challenger_unseen": {one.name: one for one in evaluation.unseen} if evaluation else {},
        "checks": read_checks(beside),
    }


def _last_check(
    service: Service, task: str, version: str, data: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The last check, if it was of the model in use.

    Args:
        service: whose database holds it.
        task: its name.
        version: of the model in use.
        data: what the model says of its training data, for the days of a reference without any.

    Returns:
        `checked_at`, `verdict` and `reasons` as stored; `dates`: (what, first and last day,
        transactions, anomaly rate with its interval) of the reference and of the traffic;
        `effects`: (column, population stability index, what chance alone gives), largest first.
    """
    with service.database.reading() as connection:
        checked_at, outcome = last_outcome(connection, task)
    if outcome is None or outcome.get("model_version") != version:
        return None
    rate = outcome["anomaly_rate"]
    days = [str(data[key]) for key in ("first_date", "last_date") if key in data]
    own_days = {"reference": days, "current": []}
    effects = [
        (name, one["psi"], one["psi_noise"])
        for name, one in outcome["effects"].items()
        if one["psi"] is not None
    ]
    return {
        "checked_at": checked_at,
        "verdict": outcome["verdict"],
        "reasons": outcome["reasons"],
        "dates": [
            (
                what,
                " to ".join(outcome["dates"][key] or own_days[key]) or "unknown",
                outcome["transactions"][key],
                rate[key],
                rate[f"{key}_interval"],
            )
            for what, key in (("training", "reference"), ("traffic", "current"))
        ],
        "effects": sorted(effects, key=lambda one: one[2] - one[1])[:_EFFECTS],
    }
