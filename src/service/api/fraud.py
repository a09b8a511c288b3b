"""The supervised model: `POST /predict_fraud` and `POST /predict`."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from src.chain.text import sanitise_text
from src.detection.supervised.model import InvalidInputs, SupervisedModel
from src.monitoring import metrics
from src.service.api.common import ServiceDep
from src.service.context import Service
from src.service.http.problems import Problem, responses

router = APIRouter(tags=["Supervised model"])

_MAX_DETAIL = 2_000
_NO_MODEL = "No supervised model is installed: train one with `npm run train:fraud`."
_EXAMPLE = {"Time": 406, "V1": -2.312, "V2": 1.952, "Amount": 0.0}
_Inputs = Annotated[
    dict[str, Any],
    Body(
        description="Exactly the model's inputs by name, each a finite number; `GET /models` "
        "lists them.",
        examples=[_EXAMPLE],
    ),
]


class Prediction(BaseModel):
    """1 for fraud, else 0."""

    prediction: int = Field(ge=0, le=1)


class Probability(BaseModel):
    """Probability of fraud."""

    fraud_probability: float = Field(ge=0, le=1)


@router.post("/predict_fraud", summary="Fraud or not", responses=responses(404))
def predict_fraud(inputs: _Inputs, service: ServiceDep) -> Prediction:
    """1 if the probability reaches the model's threshold, else 0."""
    probability, is_fraud = _predict(inputs, service)
    del probability
    return Prediction(prediction=int(is_fraud))


@router.post("/predict", summary="Probability of fraud", responses=responses(404))
def predict(inputs: _Inputs, service: ServiceDep) -> Probability:
    """For inputs with the distribution of the training data."""
    return Probability(fraud_probability=_predict(inputs, service)[0])


def _predict(inputs: dict[str, Any], service: Service) -> tuple[float, bool]:
    model: SupervisedModel | None = service.fraud
    if model is None:
        raise Problem(404, _NO_MODEL)
    if not inputs:
        raise Problem(422, f"The request has no inputs; the model needs {', '.join(model.inputs)}.")
    started = time.perf_counter()
    try:
        probability = model.predict_proba(inputs)
    except InvalidInputs as error:
        metrics.error_occurred(error)
        raise Problem(
            422,
            f"{sanitise_text(str(error), _MAX_DETAIL)}.",
            missing=list(error.missing),
            not_finite=list(error.not_finite),
            not_numeric=list(error.not_numeric),
        ) from None
    is_fraud = probability >= model.threshold
    metrics.fraud_predicted(is_fraud=is_fraud, seconds=time.perf_counter() - started)
    return probability, is_fraud
