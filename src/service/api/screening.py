"""Screening: decisions on transactions that are not mined yet, by simulation."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from src.chain.quantities import as_int
from src.chain.simulation.call import MAX_DATA_BYTES, UnsignedCall
from src.chain.simulation.raw import MAX_RAW_BYTES
from src.chain.simulation.simulator import MAX_CALLS
from src.detection.records import Action
from src.service.api.common import (
    ADDRESS_PATTERN,
    HASH_PATTERN,
    QUANTITY,
    ActionName,
    NamedAction,
    Quantity,
    Record,
    ServiceDep,
    json_response,
    time_of,
)
from src.service.api.decisions import DecisionAnswer, Details, answer_of
from src.service.api.paging import PAGED, PagingDep
from src.service.api.route import ApiRoute
from src.service.database.engine import Database
from src.service.database.screenings import ScreeningFilter, StoredScreening, list_screenings
from src.service.http.problems import Problem, responses
from src.service.screening.screener import Screened, Screening

router = APIRouter(tags=["Decisions"], route_class=ApiRoute)

_Status = Literal["success", "reverts", "unknown"]

_RawText = Annotated[
    str,
    Field(
        pattern="^0x(?:[0-9a-fA-F]{2})+$",
        max_length=2 + 2 * MAX_RAW_BYTES,
        description="A raw signed transaction of any type, as `eth_sendRawTransaction` takes it.",
    ),
]


def _price(description: str) -> Any:
    return Field(None, description=f"{QUANTITY}: {description}, wei.")


class CallPart(BaseModel):
    """A transaction without a signature, as `eth_sendTransaction` takes it."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Annotated[
        str, Field(alias="from", pattern=ADDRESS_PATTERN, description="Who would send it.")
    ]
    to: Annotated[
        str | None,
        Field(pattern=ADDRESS_PATTERN, description="The called account; null creates a contract."),
    ] = None
    input: Annotated[
        str | None,
        Field(max_length=2 + 2 * MAX_DATA_BYTES, description="Call data, 0x and hex digits."),
    ] = None
    data: Annotated[
        str | None, Field(max_length=2 + 2 * MAX_DATA_BYTES, description="The same as `input`.")
    ] = None
    value: Quantity = Field(None, description=f"{QUANTITY}, in wei.")
    gas: Quantity = Field(None, description=f"{QUANTITY}: its limit; estimated if left out.")
    chainId: Quantity = Field(  # noqa: N815
        None, description=f"{QUANTITY}: the chain that it is for; this one if left out."
    )
    nonce: Quantity = Field(None, description=f"{QUANTITY}; the sender's next if left out.")
    gasPrice: Quantity = _price("for a unit of gas")  # noqa: N815  JSON-RPC's names
    maxFeePerGas: Quantity = _price("at most for a unit of gas")  # noqa: N815
    maxPriorityFeePerGas: Quantity = _price("tip for a unit of gas")  # noqa: N815
    accessList: Annotated[  # noqa: N815
        list[dict[str, Any]] | None, Field(max_length=4_096, description="See EIP-2930.")
    ] = None
    authorizationList: Annotated[  # noqa: N815
        list[dict[str, Any]] | None, Field(max_length=4_096, description="See EIP-7702; signed.")
    ] = None


class ScreeningRequest(BaseModel):
    """Transactions in order, each on the state that the one before leaves."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "transactions": [
                        {
                            "from": "0x" + "a1" * 20,
                            "to": "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
                            "input": "0xa9059cbb" + "0" * 24 + "b2" * 20 + "0" * 60 + "2710",
                        }
                    ]
                }
            ]
        }
    )

    transactions: Annotated[
        list[_RawText | CallPart],
        Field(min_length=1, max_length=MAX_CALLS, description="Raw ones and unsigned ones."),
    ]


class ScreenedAnswer(DecisionAnswer):
    """One transaction of a screening."""

    transaction_hash: str = Field(description='Lowercase; "" for an unsigned one.')
    sender: str | None = Field(description="Who signed it, or would send it.")
    status: Literal["success", "reverts"] = Field(description="Of the simulation.")
    problem: str = Field(description='Why it would revert; "" if it would not.')
    gas_used: int | None = Field(description="Units of gas; null if unknown.")


class ScreeningAnswer(BaseModel):
    """The decision on transactions that are not mined."""

    decision_id: str = Field(description="Random; identifies the decision in logs.")
    action: ActionName = Field(
        description="The most severe one. Of what reverts or is unknown, the policy's `on_unknown`."
    )
    status: _Status = Field(
        description="`reverts` is not safe: what it does if it does not revert is unknown."
    )
    reasons: list[str] = Field(description="Of the action, without scores.")
    summary: str = Field(description='Who would gain and lose what; "" if unknown.')
    block: int | None = Field(description="Number of the block of the simulation; null if unknown.")
    problem: str = Field(description='Why it is unknown or reverts; "" otherwise.')
    method: str = Field(description='What the node was asked; "" if unknown.')
    transactions: list[ScreenedAnswer] = Field(description="One by one; none if unknown.")


@router.post(
    "/screen",
    summary="Decide on transactions before they are mined",
    response_model=ScreeningAnswer,
    responses=responses(),
)
def screen_transactions(
    request: ScreeningRequest, service: ServiceDep, details: Details = False
) -> Response:
    """Simulated on the node in the next block. Nothing is stored, and nothing is sent."""
    chain_id = service.chain_id
    given = [_read(at, one, chain_id) for at, one in enumerate(request.transactions)]
    return json_response(_answer(service.screener.screen(given), details=details))


def _read(position: int, given: str | CallPart, chain_id: int) -> bytes | UnsignedCall:
    if isinstance(given, str):
        return bytes.fromhex(given[2:])
    try:
        if given.chainId is not None and as_int(given.chainId) != chain_id:
            raise ValueError(f"chainId must be {chain_id}, or be left out")
        return UnsignedCall.from_rpc(given.model_dump(by_alias=True))
    except ValueError as error:
        where = ["body", "transactions", str(position)]
        problem = str(error)
        raise Problem(
            422,
            f"transactions.{position}: {problem}.",
            errors=[{"where": where, "problem": problem}],
        ) from None


def _answer(screening: Screening, *, details: bool) -> dict[str, Any]:
    return {
        "decision_id": screening.decision_id,
        "action": screening.action.name,
        "status": screening.status,
        "reasons": list(screening.reasons),
        "summary": screening.sentence,
        "block": screening.block,
        "problem": screening.problem,
        "method": screening.method,
        "transactions": [_screened(one, details=details) for one in screening.transactions],
    }


def _screened(one: Screened, *, details: bool) -> dict[str, Any]:
    answer = answer_of(one.outcome.decision, one.outcome.features if details else None)
    return answer | {
        "sender": one.transaction.sender,
        "status": one.status,
        "problem": one.problem,
        "gas_used": one.transaction.gas_used,
    }


class ScreeningView(Record):
    """A screening of a transaction, and what became of the transaction."""

    id: str = Field(
        validation_alias="uuid",
        description="The decision's id, which clients and receivers are told.",
    )
    source: Literal["pending", "guard"] = Field(description="`pending` for watch mode's.")
    chain_id: int = Field(description="The chain.")
    transaction_hash: str | None = Field(
        validation_alias="tx_hash",
        description="Null for a bundle, and for one that cannot be read.",
    )
    from_address: str | None = Field(description="Who signed it.")
    to_address: str | None = Field(description="The called account, if watch mode screened it.")
    screened_at: float = Field(description="Unix seconds.")
    screened_at_rfc3339 = time_of("screened_at")
    block: int | None = Field(
        validation_alias="block_number",
        description="Number of the block of the simulation; null if unknown.",
    )
    status: _Status = Field(description="Of the simulation.")
    action: NamedAction = Field(description="Before it was mined.")
    reasons: list[str] = Field(description="Of the action, without scores.")
    summary: str = Field(description='Who would gain and lose what; "" if unknown.')
    problem: str = Field(description='Why it is unknown or reverts; "" otherwise.')
    outcome: str | None = Field(
        description="What the guard did, or in observe mode would have done; null for watch mode's."
    )
    enforced: bool | None = Field(
        validation_alias="is_enforced", description="Whether the guard did it."
    )
    client: str | None = Field(
        description="The guard's client: the name of its key, or its address."
    )
    seconds: float | None = Field(description="That the client waited for the screening.")
    state: Literal["pending", "mined", "dropped"] = Field(description="What became of it.")
    told: Annotated[
        bool,
        BeforeValidator(bool),
        Field(description="Whether a receiver was told before it was mined."),
    ]
    mined_block: int | None = Field(description="Number of its block; null if not mined.")
    mined_action: NamedAction | None = Field(
        description="The action in its block; it differs where the chain's state has moved."
    )
    reverted: bool | None = Field(
        validation_alias="is_reverted", description="Whether it failed in its block."
    )
    lead_seconds: float | None = Field(
        description="From the screening to the moment when its block was read."
    )


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


screenings = APIRouter(tags=["Decisions"], route_class=ApiRoute)
"""Of the service and of the guard."""


@screenings.get(
    "/screenings",
    summary="Screenings of transactions that were not mined yet",
    response_model=list[ScreeningView],
    responses=responses() | PAGED,
)
def list_all_screenings(
    database: Annotated[Database, Depends(_database)],
    paging: PagingDep,
    state: Annotated[
        Literal["pending", "mined", "dropped"] | None, Query(description="Only of this state.")
    ] = None,
    source: Annotated[
        Literal["pending", "guard"] | None, Query(description="Only of watch mode, or of guards.")
    ] = None,
    action: Annotated[ActionName, Query(description="Only from this one on.")] = ActionName.ALLOW,
    transaction: Annotated[
        str | None, Query(pattern=HASH_PATTERN, description="Only of this transaction.")
    ] = None,
) -> Sequence[StoredScreening]:
    """Newest first; made by guards and by `npm run watch -- --pending` on the same database."""
    wanted = ScreeningFilter(
        state=state,
        source=source,
        least_action=Action[action],
        tx_hash=None if transaction is None else transaction.lower(),
    )
    page = paging.page("screenings")
    with database.reading() as connection:
        found, total = list_screenings(connection, wanted, page)
    return paging.shown(found, total, lambda one: ("screenings", one.id))
