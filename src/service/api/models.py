"""The models in use, and the registry of the batch analysis."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from src.service.api.common import Limit, Offset, ServiceDep, page_headers
from src.service.context import Service
from src.service.database.registry import RegisteredModel, list_models
from src.service.http.problems import responses

router = APIRouter(tags=["Models"])


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
    inputs: list[str]
    threshold: float


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
        supervised=_supervised(service),
        registry=[_batch(model) for model in registered],
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


def _supervised(service: Service) -> SupervisedModelView | None:
    model = service.fraud
    if model is None:
        return None
    return SupervisedModelView(
        version=model.version,
        sha256=model.manifest.sha256,
        inputs=list(model.inputs),
        threshold=model.threshold,
    )


def _batch(model: RegisteredModel) -> BatchModel:
    return BatchModel(
        id=model.id,
        created_at=model.created_at,
        sha256=model.sha256,
        inputs=model.inputs,
        training=model.training,
    )
