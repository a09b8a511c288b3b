"""What goes wrong for a caller, as RFC 9457 problem details.

Every error of the API is an object with `type`, `title`, `status`, `detail` and `request_id`. 4xx
means the caller's mistake and says which; 5xx means ours or the node's, to be found in the log by
the request id. Nothing in it comes from an exception's text that could hold a secret.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from src.chain.errors import DeadlineExceeded, NotFound, RateLimited, SourceError
from src.chain.recording.fetch import UnverifiedBlock

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A problem to tell the caller.

    Args:
        status: HTTP status.
        detail: what is wrong, for this request.
        headers: further headers of the answer.
        extra: further members of the object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem as the answer's object."""
        known = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return known | ({"request_id": request_id} if request_id else {}) | self.extra


class ProblemDocument(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Bad Request"])
    status: int
    detail: str = Field(description="What is wrong with this request.")
    request_id: str | None = Field(default=None, description="Names the request in our log.")
    errors: list[dict[str, Any]] | None = Field(
        default=None, description="Each input that is wrong: where it stands and why."
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of these problems, and of those that any request can have."""
    everywhere = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in sorted({*everywhere, *statuses})
    }


def our_mistake() -> Problem:
    """What is said of an exception that nobody expected: nothing of itself."""
    return Problem(500, "Our mistake; the log has it by the request id.")


def problem_of_source(error: SourceError | NotFound | UnverifiedBlock) -> Problem:
    """What a failing node means for the caller: 502, or 504 when it took too long."""
    if isinstance(error, DeadlineExceeded):
        return Problem(504, f"The node took too long: {error}.")
    if isinstance(error, RateLimited):
        return Problem(503, f"The node limits us: {error}.", headers={"Retry-After": "5"})
    return Problem(502, f"The node's answer cannot be used: {error}.")
