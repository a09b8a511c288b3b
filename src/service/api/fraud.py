"""The supervised model: `POST /predict_fraud` and `POST /predict`."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, Discriminator, Field, Tag

from src.chain.text import in_short, sanitise_text
from src.detection.supervised.model import InvalidInputs
from src.monitoring import metrics
from src.service.api.common import ServiceDep
from src.service.api.models import NO_FRAUD_MODEL
from src.service.api.route import ApiRoute
from src.service.context import Service
from src.service.http.problems import Problem, responses
from src.service.model_refresh import FraudInUse

router = APIRouter(tags=["Supervised model"], route_class=ApiRoute)

MAX_BATCH = 1_000

_MAX_DETAIL = 2_000
_MAX_NAMES, _MAX_NAME_CHARACTERS = 100, 64
# The card-fraud model's inputs; `GET /models/fraud` lists those of the model in use.
_EXAMPLE = {
    "Time": 406,
    **{
        f"V{number}": value
        for number, value in enumerate(
            (-2.312, 1.952, -1.61, 3.998, -0.522, -1.427, -2.537, 1.392, -2.77, -2.772, 3.202,
             -2.9, -0.595, -4.289, 0.39, -1.141, -2.83, -0.017, 0.417, 0.127, 0.517, -0.035,
             -0.465, 0.32, 0.045, 0.178, 0.261, -0.143),
            start=1,
        )
    },
    "Amount": 0.0,
}  # fmt: skip
_ABOUT = (
    "Exactly the model's inputs by name, each a finite number; `GET /models/fraud` lists them. The "
    "example has those of the card-fraud model."
)
_Inputs = Annotated[dict[str, Any], Body(description=_ABOUT, examples=[_EXAMPLE])]
_Batch = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_BATCH)]
_InputsOrBatch = Annotated[
    Annotated[dict[str, Any], Tag("inputs")] | Annotated[_Batch, Tag("list")],
    # An error is said of what was sent, not of both.
    Discriminator(lambda body: "list" if isinstance(body, list) else "inputs"),
    Body(description=f"{_ABOUT} Or a list of up to {MAX_BATCH:,}.", examples=[_EXAMPLE]),
]


class Prediction(BaseModel):
    """1 for fraud, else 0."""

    prediction: Literal[0, 1] = Field(description="1 from the model's threshold on.")


class Probability(BaseModel):
    """Probability of fraud."""

    fraud_probability: float = Field(ge=0, le=1, description="0 to 1.")


@router.post("/predict_fraud", summary="Fraud or not", responses=responses(404))
def predict_fraud(inputs: _Inputs, service: ServiceDep) -> Prediction:
    """1 if the probability reaches the model's threshold, else 0."""
    model = _in_use(service)
    (probability,) = _predict(model, {"": inputs})
    return Prediction(prediction=1 if probability >= model.model.threshold else 0)


@router.post("/predict", summary="Probability of fraud", responses=responses(404))
def predict(inputs: _InputsOrBatch, service: ServiceDep) -> Probability | list[Probability]:
    """For inputs with the distribution of the training data; of a list, one for each entry."""
    model = _in_use(service)
    if isinstance(inputs, dict):
        (probability,) = _predict(model, {"": inputs})
        return Probability(fraud_probability=probability)
    entries = {f"entry {place}: ": one for place, one in enumerate(inputs)}
    return [Probability(fraud_probability=one) for one in _predict(model, entries)]


def _in_use(service: Service) -> FraudInUse:
    in_use = service.fraud.in_use  # the same one throughout, even if the model changes meanwhile
    if in_use is None:
        raise Problem(404, NO_FRAUD_MODEL)
    return in_use


def _predict(in_use: FraudInUse, entries: Mapping[str, dict[str, Any]]) -> list[float]:
    """The probabilities of entries, each under what begins an error about it.

    Raises:
        Problem: 422; nothing was predicted then, also in the metrics and for drift.
    """
    model, found = in_use.model, []
    for where, inputs in entries.items():
        started = time.perf_counter()
        try:
            found.append((model.predict_proba(inputs), time.perf_counter() - started))
        except InvalidInputs as error:
            said = in_short(str(error), _MAX_DETAIL)
            if not inputs:
                said = f"no inputs given; {said}"
            raise Problem(
                422,
                f"{where}{said}.",
                kind=type(error).__name__,
                missing=_names(error.missing),
                unknown=_names(error.unknown),
                not_numeric=_names(error.not_numeric),
                not_finite=_names(error.not_finite),
            ) from None
    for inputs, (probability, seconds) in zip(entries.values(), found, strict=True):
        in_use.remember(inputs)
        metrics.fraud_predicted(is_fraud=probability >= model.threshold, seconds=seconds)
    return [probability for probability, _ in found]


def _names(names: tuple[str, ...]) -> list[str]:
    """Names, which a stranger may have chosen, printable and not too many."""
    return [sanitise_text(name, _MAX_NAME_CHARACTERS) for name in names[:_MAX_NAMES]]
