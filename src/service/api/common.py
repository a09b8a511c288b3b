"""Shared by the routers: the service, validated path and query values, times."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    computed_field,
)
from starlette.responses import Response

from src.chain.networks import network
from src.chain.transfers import normalise_address
from src.detection.records import Action
from src.service.context import Service
from src.service.http.problems import Problem

MAX_INT64 = 2**63 - 1
HASH_PATTERN = "^0x[0-9a-fA-F]{64}$"
ADDRESS_PATTERN = "^0x[0-9a-fA-F]{40}$"
_EXAMPLE_HASH = "0x721212100cd01133abdfce5c7fb9bdc2d1b13de542450f312bf12c25b95dfd0b"


class ActionName(StrEnum):
    """What to do about a transaction, in this order of severity."""

    ALLOW = "ALLOW"
    REVIEW = "REVIEW"
    BLOCK = "BLOCK"


NamedAction = Annotated[
    ActionName, BeforeValidator(lambda stored: Action(stored).name, json_schema_input_type=str)
]
"""A stored action by its name."""


class Record(BaseModel):
    """A response made of a record's attributes of the same names."""

    model_config = ConfigDict(from_attributes=True, validate_by_alias=True)


def service_of(request: Request) -> Service:
    """The worker's service."""
    service: Service = request.app.state.service
    return service


async def _service(request: Request) -> Service:
    """As `service_of`; a coroutine, since FastAPI would call a function in another thread."""
    return service_of(request)


ServiceDep = Annotated[Service, Depends(_service)]
TxHash = Annotated[
    str,
    Path(
        pattern=HASH_PATTERN,
        description="Hash of a transaction: 0x and 64 hex digits.",
        examples=[_EXAMPLE_HASH],
    ),
]
HashField = Annotated[
    str, Field(description="The transaction's hash, lowercase.", examples=[_EXAMPLE_HASH])
]
ABOUT_LINK = 'Its page in the chain\'s block explorer; "" where none is known.'
LinkField = Annotated[str, Field(description=ABOUT_LINK)]
ChainFilter = Annotated[
    int | None,
    Query(ge=0, le=MAX_INT64, description="Only of this chain id; several may share a database."),
]
Limit = Annotated[int, Query(ge=1, le=1_000, description="Maximum number of entries on the page.")]
Offset = Annotated[int, Query(ge=0, le=2**53, description="Entries to skip.")]


QUANTITY = "A number, or a text with a decimal or 0x one"
Quantity = StrictInt | StrictStr | None
"""A quantity of JSON-RPC; strict: else false would be 0."""


def address_or_none(name: str, value: str | None) -> str | None:
    """An address of the query, lowercase. Raises Problem 422 if it is invalid."""
    return None if value is None else checked_address(name, value)


def checked_address(name: str, value: str) -> str:
    """An address, lowercase. Raises Problem 422 if it is invalid."""
    address = normalise_address(value.strip())
    if address is None:
        raise Problem(422, f"{name} must be an address: 0x and 40 hex digits.")
    return address


def transaction_link(chain_id: int, tx_hash: str) -> str:
    """The URL of a transaction in the chain's block explorer; "" where none is known."""
    explorer = network(chain_id).explorer
    return f"{explorer}/tx/{tx_hash}" if explorer else ""


def json_response(
    content: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A JSON response from trusted values, without validation by a model."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(body, status, headers, "application/json")


def rfc3339(seconds: float | None) -> datetime | None:
    """Unix seconds as a time in UTC, which JSON gives as RFC 3339; None beyond the year 9999."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def time_of(name: str) -> Any:
    """A member of a response with the time of another member, Unix seconds, as RFC 3339."""

    def read(answer: BaseModel) -> datetime | None:
        return rfc3339(getattr(answer, name))

    words = f"The same as `{name}`, RFC 3339 in UTC."
    return computed_field(description=words)(property(read))
