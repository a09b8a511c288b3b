"""Decisions on transactions: action and reasons; the score only with details."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from src.chain.quantities import as_int
from src.chain.transfers import normalise_address
from src.detection.records import Action, Status
from src.service.api.common import (
    QUANTITY,
    ActionName,
    Quantity,
    ServiceDep,
    TxHash,
    json_response,
    rfc3339,
)
from src.service.api.route import ApiRoute
from src.service.context import Service
from src.service.database.decisions import StoredDecision, find_features
from src.service.decider import without_score
from src.service.http.problems import Problem, responses
from src.service.node import approvals_of, as_bounded, decoded_logs, hash_of
from src.service.records import LoadedTransaction

router = APIRouter(tags=["Decisions"], route_class=ApiRoute)

MAX_LOGS = 5_000


def _text(description: str) -> Any:
    return Field(max_length=100, description=description)


class RawLog(BaseModel):
    """A log as in JSON-RPC or a Forta event; other members are ignored."""

    address: Annotated[str, _text("The contract that emitted it.")]
    topics: Annotated[
        list[Annotated[str, Field(max_length=100)]],
        Field(max_length=4, description="The first identifies the event; 0x and 64 hex digits."),
    ]
    data: Annotated[
        str, Field(max_length=2**20, description="The event's other values, 0x and hex digits.")
    ] = "0x"
    logIndex: Quantity = Field(None, description=f"{QUANTITY}.")  # noqa: N815  JSON-RPC's name


class TransactionPart(BaseModel):
    """The transaction itself."""

    model_config = ConfigDict(populate_by_name=True)

    hash: Annotated[str | None, _text("0x and 64 hex digits.")] = None
    from_: Annotated[str | None, Field(alias="from", max_length=100, description="The sender.")] = (
        None
    )
    to: Annotated[str | None, _text("The called account; null creates a contract.")] = None
    nonce: Quantity = Field(None, description=f"{QUANTITY}: the sender's earlier transactions.")
    value: Quantity = Field(None, description=f"{QUANTITY}, in wei.")


class BlockPart(BaseModel):
    """Its block."""

    number: Quantity = Field(None, description=f"{QUANTITY}.")
    timestamp: Quantity = Field(None, description=f"{QUANTITY}, in Unix seconds.")


class TransactionEvent(BaseModel):
    """A Forta transaction event, or only its raw logs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "transaction": {"from": "0x" + "a1" * 20},
                    "block": {"number": 20000000, "timestamp": 1717281407},
                    "logs": [
                        {
                            "address": "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
                            "topics": [
                                "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
                                "0x" + "0" * 24 + "a1" * 20,
                                "0x" + "0" * 24 + "b2" * 20,
                            ],
                            "data": "0x" + "0" * 60 + "2710",
                        }
                    ],
                }
            ]
        }
    )

    logs: Annotated[list[RawLog], Field(max_length=MAX_LOGS, description="In log order.")]
    transaction: TransactionPart = Field(
        default_factory=TransactionPart.model_construct, description="As far as it is known."
    )
    block: BlockPart = Field(
        default_factory=BlockPart.model_construct, description="As far as it is known."
    )


class Reason(BaseModel):
    """One detector's result."""

    detector: str = Field(description="Its name in the policy.", examples=["isolation_forest"])
    action: ActionName = Field(description="What it asks for.")
    reason: str = Field(description="Why, in words.")
    status: Status = Field(description="How it came about; only `decided` asks for an action.")


class Part(BaseModel):
    """One token of a gain or a loss."""

    token: str = Field(description="Its address, or `native` for the chain's own currency.")
    amount: str = Field(
        description="In the token's smallest unit, negative for a loss; text, since it may have "
        "more digits than a JSON number holds.",
        examples=["4320495831248"],
    )
    usd: float | None = Field(description="Its worth; null if unknown.")
    source: str = Field(description='What priced it; "" if nothing did.')


class MoneyView(BaseModel):
    """What the sender's side gained, and the account that lost most."""

    gained_usd: float | None = Field(description="Net gain; null if a part is unknown.")
    lost_usd: float | None = Field(description="Net loss; null if unknown, or nobody lost.")
    lost_by: str | None = Field(description="The account that lost most.")
    gained: list[Part] = Field(description="Net changes of the sender's side.")
    lost: list[Part] = Field(description="Net changes of the account that lost most.")
    native_is_known: bool = Field(description="Whether internal native transfers are in.")
    gas_is_known: bool = Field(description="Whether the cost of gas is in.")


class Attribution(BaseModel):
    """A feature's part in a score."""

    feature: str = Field(description="Its name.")
    value: float | None = Field(description="Of this transaction.")
    weight: float = Field(description="Its part; positive pushes towards anomaly.")
    factor: float | None = Field(None, description="Its part as a factor; of the forest only.")


class DecisionAnswer(BaseModel):
    """An action and its reasons. Members after `summary` are present only with details."""

    transaction_hash: str = Field(description='Lowercase; "" for an event without one.')
    action: ActionName = Field(description="In this order of severity.")
    reasons: list[Reason] = Field(description="The deciding one first.")
    summary: str | None = Field(
        None,
        description="Who gained and lost what, in one sentence; null without ERC-20 transfers.",
    )
    money: MoneyView | None = Field(
        None, description="Who gained and lost how much; null where nothing is reported."
    )
    prediction: Literal["NORMAL", "ANOMALY"] | None = Field(
        None, description="Of the isolation forest; null without a score."
    )
    anomaly_score: float | None = Field(None, description="0 to 1, near 1 = anomalous.")
    anomaly_percentile: float | None = Field(
        None, description="Share of training transactions with a lower score, percent."
    )
    anomaly_threshold: float | None = Field(
        None, description="Scores at or above it are anomalies."
    )
    model_version: str | None = Field(None, description="Version of the isolation forest.")
    attack_score: float | None = Field(
        None, description="Share of ordinary transactions that rank lower, 0 to 1."
    )
    attack_percentile: float | None = Field(None, description="The same in percent.")
    attack_model_version: str | None = Field(None, description="Version of the attack model.")
    attack_explanation: list[Attribution] | None = Field(
        None, description="Where the attack score asks for more than ALLOW."
    )
    invalid_reason: str | None = Field(None, description="Why there is no score.")
    features: dict[str, Any] | None = Field(
        None, description="The features by name, and what describes the transaction."
    )
    explanation: list[Attribution] | None = Field(
        None, description="Of the anomaly score, largest weight first."
    )
    shadow: list[Reason] | None = Field(
        None, description="Results of detectors in shadow, which do not count."
    )
    decided_at: float | None = Field(None, description="Unix seconds.")
    decided_at_rfc3339: datetime | None = Field(
        None, description="The same as `decided_at`, RFC 3339 in UTC."
    )


Details = Annotated[bool, Query(description="Also the score, the features and the explanation.")]


@router.post(
    "/transactions/{tx_hash}/decision",
    summary="Decide on a transaction on the chain",
    response_model=DecisionAnswer,
    responses=responses(404, 502, 504),
)
def decide_transaction(tx_hash: TxHash, service: ServiceDep, details: Details = False) -> Response:
    """Decided once per model and policy; later requests return the stored decision."""
    return _answer(service, service.decision(tx_hash.lower()), details=details)


@router.get(
    "/transactions/{tx_hash}/decision",
    summary="The stored decision on a transaction",
    response_model=DecisionAnswer,
    responses=responses(404),
)
def get_decision(tx_hash: TxHash, service: ServiceDep, details: Details = False) -> Response:
    """Asks no node and stores nothing: 404 until the transaction was decided on."""
    decision = service.stored_decision(tx_hash.lower())
    if decision is None:
        raise Problem(404, "There is no decision on this transaction yet: POST here to have one.")
    return _answer(service, decision, details=details)


def _answer(service: Service, decision: StoredDecision, *, details: bool) -> Response:
    if not details:
        return json_response(answer_of(decision))
    with service.database.reading() as connection:
        features = find_features(
            connection, decision.chain_id, decision.tx_hash, decision.model_version
        )
    return json_response(answer_of(decision, features or {}))


@router.post(
    "/decisions",
    summary="Decide on a transaction event or raw logs",
    response_model=DecisionAnswer,
    responses=responses(),
)
def decide_event(
    event: TransactionEvent, service: ServiceDep, details: Details = False
) -> Response:
    """Nothing is stored: the transaction need not be on the chain."""
    outcome = service.decider.decide(_loaded(event))
    return json_response(answer_of(outcome.decision, outcome.features if details else None))


def answer_of(decision: StoredDecision, features: dict[str, Any] | None = None) -> dict[str, Any]:
    """A decision as a response; with the details if features are given, else without the score."""
    answer: dict[str, Any] = {
        "transaction_hash": decision.tx_hash,
        "action": Action(decision.action).name,
        "reasons": decision.reasons,
        "summary": decision.summary,
    }
    if features is None:
        answer["reasons"] = [without_score(one, decision) for one in decision.reasons]
        return answer
    decided = rfc3339(decision.decided_at)
    return answer | {
        "money": decision.money,
        "prediction": decision.prediction,
        "anomaly_score": decision.score,
        "anomaly_percentile": decision.percentile,
        "anomaly_threshold": decision.threshold,
        "model_version": decision.model_version,
        "attack_score": decision.attack_score,
        "attack_percentile": _percent(decision.attack_score),
        "attack_model_version": decision.attack_model_version,
        "attack_explanation": decision.attack_explanation or [],
        "invalid_reason": decision.invalid_reason,
        "features": features,
        "explanation": decision.explanation or [],
        "shadow": decision.shadow,
        "decided_at": decision.decided_at,
        "decided_at_rfc3339": decided.isoformat() if decided else None,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _loaded(event: TransactionEvent) -> LoadedTransaction:
    transaction, block = event.transaction, event.block
    logs = [log.model_dump() for log in event.logs]
    decoded = decoded_logs(logs)
    return LoadedTransaction(
        tx_hash=hash_of(transaction.hash) or "",
        block_number=as_bounded(block.number) or 0,
        block_hash="",
        block_timestamp=as_bounded(block.timestamp) or 0,
        tx_index=0,
        sender=normalise_address(transaction.from_),
        to=normalise_address(transaction.to),
        nonce=as_bounded(transaction.nonce),
        gas_used=None,
        gas_price=None,
        transfers=tuple(decoded.transfers),
        native=tuple(decoded.native),
        value=as_int(transaction.value),
        approvals=approvals_of(logs),
    )
