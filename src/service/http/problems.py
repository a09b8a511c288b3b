"""Errors of the API as RFC 9457 problem details.

Every error is an object with `type`, `title`, `status`, `detail` and `request_id`. 4xx states what
is wrong with the request; 5xx is an error of the service or the node, which the log describes under
the request id. Details never contain the text of an exception that could hold a secret.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from src.chain.errors import DeadlineExceeded, NotFound, RateLimited, SourceError, SourceUnavailable
from src.chain.recording.fetch import UnverifiedBlock
from src.chain.text import in_short, sanitise_text

MEDIA_TYPE = "application/problem+json"
_MAX_ERRORS: Final = 20
_MAX_DETAIL: Final = 1_000


class Problem(Exception):
    """An error response for the client.

    `kind` counts it in `error_count`; `extra` are further members of the object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        kind: str = "Problem",
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.kind = kind
        self.extra = extra

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """The response body."""
        known = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return known | ({"request_id": request_id} if request_id else {}) | self.extra


class InvalidInput(BaseModel):
    """One invalid input of a request."""

    where: list[str] = Field(
        description="Its place: `body`, `query`, `path` or `header`, and names below."
    )
    problem: str = Field(description="What is wrong with it.")


_Names = Annotated[
    list[str] | None, Field(description="Of a prediction: the names of these inputs.")
]


class ProblemDocument(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="Always about:blank.", examples=["about:blank"])
    title: str = Field(description="The status in words.", examples=["Bad Request"])
    status: int = Field(description="The HTTP status.", examples=[400])
    detail: str = Field(description="What is wrong with this request.")
    request_id: str | None = Field(
        default=None, description="Identifies the request in the service's log."
    )
    errors: list[InvalidInput] | None = Field(default=None, description="Each invalid input.")
    missing: _Names = None
    unknown: _Names = None
    not_numeric: _Names = None
    not_finite: _Names = None


BODY_STATUSES = (400, 408, 413, 415)
"""Errors of requests that have a body."""


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of these errors, and of those common to all requests."""
    everywhere = (401, 403, 422, 429, 500, 503)
    return {status: described_problem(status) for status in sorted({*everywhere, *statuses})}


def described_problem(status: int) -> dict[str, Any]:
    """The OpenAPI description of one error."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    content = {MEDIA_TYPE: {"schema": schema}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def our_mistake() -> Problem:
    """The problem for an unexpected exception, without its text."""
    return Problem(500, "Internal error. Quote the request id when you report it.")


def problem_of_input(error: RequestValidationError) -> Problem:
    """The problem for input that is not as described: 400 for a body that is no JSON, else 422."""
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return Problem(400, "The body is not JSON.")
    errors = [
        {
            "where": [sanitise_text(str(part)) for part in one["loc"]],
            "problem": in_short(one["msg"]),
        }
        for one in found[:_MAX_ERRORS]
    ]
    detail = "; ".join(f"{'.'.join(one['where'])}: {one['problem']}" for one in errors)
    return Problem(422, in_short(detail, _MAX_DETAIL), errors=errors)


def problem_of_source(error: SourceError | NotFound | UnverifiedBlock) -> Problem:
    """The problem for a failure of the node: 502, or 504 for a timeout."""
    if isinstance(error, DeadlineExceeded):
        return Problem(504, f"The node timed out: {error}.")
    if isinstance(error, RateLimited):
        return Problem(
            503, f"The node's rate limit is exceeded: {error}.", headers={"Retry-After": "5"}
        )
    if isinstance(error, SourceUnavailable):
        return Problem(502, f"The node does not answer: {error}.")
    return Problem(502, f"The node's response is unusable: {error}.")
