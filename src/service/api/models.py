"""The models in use, and the registry of the batch analysis."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from src.service.api.common import Limit, Offset, ServiceDep, page_headers
from src.service.context import Service
from src.service.database.registry import RegisteredModel, list_models
from src.service.http.problems import Problem, responses
from src.service.model_refresh import FraudInUse

router = APIRouter(tags=["Models"])

NO_FRAUD_MODEL = "No supervised model is installed: train one with `npm run train:fraud`."


class DetectionModel(BaseModel):
    """The Isolation Forest behind the decisions."""

    version: str = Field(description="Creation time, Unix seconds.")
    sha256: str
    sklearn_version: str
    inputs: list[str]
    anomaly_threshold: float
    detectors: dict[str, str] = Field(description="Detectors of the policy: on or shadow.")
    training: dict[str, Any]


class SupervisedModelView(BaseModel):
    """The supervised model behind `/predict_fraud` and `/predict`."""

    version: str
    sha256: str
    classifier: str
    inputs: list[str]
    threshold: float
    in_use_since: float = Field(description="Unix seconds.")


class FraudModelCard(SupervisedModelView):
    """The supervised model with all that its training says of it."""

    label: str = Field(description="The column that it predicts.")
    sklearn_version: str
    training: dict[str, Any] = Field(description="Data, parameters, and figures on held-out rows.")
    card: str = Field(description="The training report in Markdown; empty where there is none.")


class BatchModel(BaseModel):
    """A forest that an analysis trained."""

    id: int
    created_at: float = Field(description="Unix seconds.")
    sha256: str
    inputs: list[str]
    training: dict[str, Any]


class Models(BaseModel):
    """All models."""

    detection: DetectionModel
    supervised: SupervisedModelView | None
    registry: list[BatchModel] = Field(description="Models of the batch analysis, newest first.")


@router.get("/models", summary="Models in use and in the registry", responses=responses())
def get_models(
    service: ServiceDep, response: Response, limit: Limit = 50, offset: Offset = 0
) -> Models:
    """`X-Total-Count` is the number of models in the registry."""
    with service.database.reading() as connection:
        registered, total = list_models(connection, limit=limit, offset=offset)
    response.headers.update(page_headers(total))
    return Models(
        detection=_detection(service),
        supervised=_supervised(in_use) if (in_use := service.fraud.in_use) else None,
        registry=[_batch(model) for model in registered],
    )


@router.get("/models/fraud", summary="The supervised model with its card", responses=responses(404))
def get_fraud_model(service: ServiceDep) -> FraudModelCard:
    """What it was trained on, how it was chosen, and how it does on held-out rows."""
    in_use = service.fraud.in_use
    if in_use is None:
        raise Problem(404, NO_FRAUD_MODEL)
    manifest = in_use.model.manifest
    return FraudModelCard(
        **_supervised(in_use).model_dump(),
        label=manifest.label,
        sklearn_version=manifest.sklearn_version,
        training=dict(manifest.training),
        card=in_use.card,
    )


def _detection(service: Service) -> DetectionModel:
    manifest = service.decider.model.manifest
    return DetectionModel(
        version=service.decider.model.version,
        sha256=manifest.sha256,
        sklearn_version=manifest.sklearn_version,
        inputs=list(manifest.inputs),
        anomaly_threshold=service.decider.threshold,
        detectors=dict(service.decider.detectors),
        training=dict(manifest.training),
    )


def _supervised(in_use: FraudInUse) -> SupervisedModelView:
    model = in_use.model
    return SupervisedModelView(
        version=model.version,
        sha256=model.manifest.sha256,
        classifier=model.manifest.classifier,
        inputs=list(model.inputs),
        threshold=model.threshold,
        in_use_since=in_use.since,
    )


def _batch(model: RegisteredModel) -> BatchModel:
    return BatchModel(
        id=model.id,
        created_at=model.created_at,
        sha256=model.sha256,
        inputs=model.inputs,
        training=model.training,
    )
