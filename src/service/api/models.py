"""The models in use, and the registry of the batch analysis."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from src.service.api.common import Record, ServiceDep, time_of
from src.service.api.paging import PAGED, PagingDep
from src.service.api.route import ApiRoute
from src.service.context import Service
from src.service.database import registry
from src.service.http.problems import Problem, responses
from src.service.model_refresh import FraudInUse

router = APIRouter(tags=["Models"], route_class=ApiRoute)

NO_FRAUD_MODEL = "No supervised model is installed: train one with `npm run train:fraud`."


_Version = Annotated[
    str, Field(description="Identifies it: its creation time, Unix seconds, as text.")
]
_Digest = Annotated[str, Field(description="SHA-256 of the model's file, hex.")]
_Sklearn = Annotated[str, Field(description="scikit-learn's version that trained it.")]
_Inputs = Annotated[list[str], Field(description="Names of the model's inputs, in its order.")]


class DetectionModel(BaseModel):
    """The Isolation Forest behind the decisions."""

    version: _Version
    sha256: _Digest
    sklearn_version: _Sklearn
    inputs: _Inputs
    anomaly_threshold: float = Field(description="Scores at or above it are anomalies.")
    detectors: dict[str, str] = Field(description="Detectors of the policy: on or shadow.")
    training: dict[str, Any] = Field(description="Data, parameters and figures of its training.")


class AttackModelView(BaseModel):
    """The attack model behind the attack scores, which belongs to the Isolation Forest."""

    version: _Version
    sha256: _Digest
    inputs: _Inputs
    training: dict[str, Any] = Field(description="Data and parameters of its training.")


class SupervisedModelView(BaseModel):
    """The supervised model behind `/predict_fraud` and `/predict`."""

    version: _Version
    sha256: _Digest
    classifier: str = Field(description="Its kind.", examples=["RandomForest"])
    inputs: _Inputs
    threshold: float = Field(description="Probabilities at or above it are fraud.")
    in_use_since: float = Field(description="When this process took it, Unix seconds.")
    in_use_since_rfc3339 = time_of("in_use_since")


class FraudModelCard(SupervisedModelView):
    """The supervised model with all that its training says of it."""

    label: str = Field(description="The column that it predicts.")
    sklearn_version: _Sklearn
    training: dict[str, Any] = Field(description="Data, parameters, and figures on held-out rows.")
    card: str = Field(description="The training report in Markdown; empty where there is none.")


class BatchModel(Record):
    """A forest that an analysis trained."""

    id: int = Field(description="Identifies it in the registry; grows with time.")
    created_at: float = Field(description="Unix seconds.")
    created_at_rfc3339 = time_of("created_at")
    sha256: _Digest
    inputs: _Inputs
    training: dict[str, Any] = Field(description="Its blocks and parameters.")


class Models(BaseModel):
    """All models."""

    detection: DetectionModel = Field(description="Behind the decisions.")
    attack: AttackModelView | None = Field(
        description="Behind the attack scores; null where there is none for the forest."
    )
    supervised: SupervisedModelView | None = Field(
        description="Behind the predictions of fraud; null where none is installed."
    )
    registry: list[BatchModel] = Field(description="Models of the batch analysis, newest first.")


@router.get("/models", summary="Models in use and in the registry", responses=responses() | PAGED)
def list_models(service: ServiceDep, paging: PagingDep) -> Models:
    """`X-Total-Count` is the number of models in the registry, `Link` leads to the next page."""
    wanted = paging.page("models")
    with service.database.reading() as connection:
        found, total = registry.list_models(connection, service.chain_id, wanted)
    page = paging.shown(found, total, lambda model: ("models", model.id))
    return Models(
        detection=_detection(service),
        attack=_attack(service),
        supervised=_supervised(in_use) if (in_use := service.fraud.in_use) else None,
        registry=[BatchModel.model_validate(model) for model in page],
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


def _attack(service: Service) -> AttackModelView | None:
    model = service.decider.pipeline.attack.model
    if model is None:
        return None
    return AttackModelView(
        version=model.version,
        sha256=model.manifest.sha256,
        inputs=list(model.inputs),
        training=dict(model.manifest.training),
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
