"""Decisions on transactions: action and reasons; the score only with details."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from src.chain.quantities import as_int
from src.chain.transfers import normalise_address
from src.detection.records import Action
from src.service.api.common import MAX_INT64, ServiceDep, TxHash, json_response
from src.service.database.decisions import StoredDecision, find_features
from src.service.decider import without_score
from src.service.http.problems import responses
from src.service.node import approvals_of, decoded_logs
from src.service.records import LoadedTransaction

router = APIRouter(tags=["Decisions"])

MAX_LOGS = 5_000
_Quantity = Annotated[int | str | None, Field(description="A number, decimal or 0x text.")]


class RawLog(BaseModel):
    """A log as in JSON-RPC or a Forta event; other members are ignored."""

    address: Annotated[str, Field(max_length=100)]
    topics: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=4)]
    data: Annotated[str, Field(max_length=2**20)] = "0x"
    logIndex: _Quantity = None  # noqa: N815  JSON-RPC's name


class TransactionPart(BaseModel):
    """The transaction itself."""

    model_config = ConfigDict(populate_by_name=True)

    hash: Annotated[str, Field(max_length=100)] | None = None
    from_: Annotated[str, Field(max_length=100)] | None = Field(None, alias="from")
    to: Annotated[str, Field(max_length=100)] | None = None
    nonce: _Quantity = None
    value: _Quantity = Field(None, description="Wei.")


class BlockPart(BaseModel):
    """Its block."""

    number: _Quantity = None
    timestamp: _Quantity = None


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

    logs: Annotated[list[RawLog], Field(max_length=MAX_LOGS)]
    transaction: TransactionPart = Field(default_factory=TransactionPart.model_construct)
    block: BlockPart = Field(default_factory=BlockPart)


class Reason(BaseModel):
    """One detector's result."""

    detector: str
    action: str
    reason: str
    status: str = Field(description="decided, failed, missing inputs, or out of scope")


class DecisionAnswer(BaseModel):
    """An action and its reasons. Members after `summary` are present only with details."""

    transaction_hash: str
    action: str = Field(description="ALLOW, REVIEW or BLOCK, in this order of severity.")
    reasons: list[Reason]
    summary: str | None = Field(
        None,
        description="Who gained and lost what, in one sentence; null without ERC-20 transfers.",
    )
    money: dict[str, Any] | None = Field(
        None,
        description="What the sender's side gained, and the account that lost most, in USD, with "
        "the parts and what priced them; null where nothing is reported.",
    )
    prediction: str | None = None
    anomaly_score: float | None = None
    anomaly_percentile: float | None = None
    anomaly_threshold: float | None = None
    model_version: str | None = None
    attack_score: float | None = Field(
        None, description="Share of ordinary transactions that rank lower, 0 to 1."
    )
    attack_percentile: float | None = Field(None, description="The same in percent.")
    attack_model_version: str | None = None
    attack_explanation: list[dict[str, Any]] | None = Field(
        None, description="Where the attack score asks for more than ALLOW."
    )
    invalid_reason: str | None = None
    features: dict[str, Any] | None = None
    explanation: list[dict[str, Any]] | None = None
    shadow: list[Reason] | None = None
    decided_at: float | None = None


Details = Annotated[bool, Query(description="Also the score, the features and the explanation.")]


@router.post(
    "/transactions/{tx_hash}/decision",
    summary="Decide on a transaction on the chain",
    response_model=DecisionAnswer,
    responses=responses(404, 502, 504),
)
def decide_transaction(tx_hash: TxHash, service: ServiceDep, details: Details = False) -> Response:
    """Decided once per model and policy; later requests return the stored decision."""
    decision = service.decision(tx_hash.lower())
    features = None
    if details:
        with service.database.reading() as connection:
            features = find_features(
                connection, decision.chain_id, decision.tx_hash, decision.model_version
            )
    return json_response(answer_of(decision, features if details else None, details=details))


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
    features = outcome.features if details else None
    return json_response(answer_of(outcome.decision, features, details=details))


def answer_of(
    decision: StoredDecision, features: dict[str, Any] | None, *, details: bool
) -> dict[str, Any]:
    """A decision as a response. Without details it does not reveal the score."""
    answer: dict[str, Any] = {
        "transaction_hash": decision.tx_hash,
        "action": Action(decision.action).name,
        "reasons": decision.reasons,
        "summary": decision.summary,
    }
    if not details:
        answer["reasons"] = [without_score(one, decision) for one in decision.reasons]
        return answer
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
        "features": features or {},
        "explanation": decision.explanation or [],
        "shadow": decision.shadow,
        "decided_at": decision.decided_at,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _loaded(event: TransactionEvent) -> LoadedTransaction:
    transaction, block = event.transaction, event.block
    tx_hash = (transaction.hash or "").lower()
    is_hash = len(tx_hash) == 66 and as_int(tx_hash) is not None
    logs = [log.model_dump() for log in event.logs]
    decoded = decoded_logs(logs)
    return LoadedTransaction(
        tx_hash=tx_hash if is_hash else "",
        block_number=_bounded(block.number) or 0,
        block_hash="",
        block_timestamp=_bounded(block.timestamp) or 0,
        tx_index=0,
        sender=normalise_address(transaction.from_),
        to=normalise_address(transaction.to),
        nonce=_bounded(transaction.nonce),
        gas_used=None,
        gas_price=None,
        transfers=tuple(decoded.transfers),
        native=tuple(decoded.native),
        value=as_int(transaction.value),
        approvals=approvals_of(logs),
    )


def _bounded(value: int | str | None) -> int | None:
    number = as_int(value)
    return number if number is not None and number <= MAX_INT64 else None
