"""Shared by the routers: the service, validated path and query values, pagination."""

import json
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from starlette.responses import Response

from src.chain.networks import network
from src.chain.transfers import normalise_address
from src.service.context import Service
from src.service.http.problems import Problem

MAX_INT64 = 2**63 - 1
HASH_PATTERN = "^0x[0-9a-fA-F]{64}$"


def service_of(request: Request) -> Service:
    """The worker's service."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
TxHash = Annotated[
    str,
    Path(pattern=HASH_PATTERN, description="Hash of a transaction: 0x and 64 hex digits."),
]
Limit = Annotated[int, Query(ge=1, le=1_000, description="Maximum number of entries on the page.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="Entries to skip.")]


def address_or_none(name: str, value: str | None) -> str | None:
    """An address of the query, lowercase. Raises Problem 422 if it is invalid."""
    if value is None:
        return None
    address = normalise_address(value)
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


def page_headers(total: int) -> dict[str, str]:
    """The header with the total number of entries."""
    return {"X-Total-Count": str(total)}
