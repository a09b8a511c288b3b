"""The OpenAPI description: what FastAPI derives from the routes, and what holds for all of them."""

from http import HTTPMethod
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from src.service.http.problems import BODY_STATUSES, described_problem
from src.service.http.security import OPEN_PATHS

TITLE: Final = "Anomalous Token Transfers"
DESCRIPTION: Final = """\
Finds anomalous token transfers on Ethereum and decides whether to allow, review or block them.

Errors are [problem details](https://www.rfc-editor.org/rfc/rfc9457): 4xx state what to change in
the request, 5xx contain the request id for the service's log. Times are Unix seconds; beside each
stands the same time as RFC 3339. Every `GET` answers `HEAD`, and JSON carries an `ETag` for
`If-None-Match`. Lists have `X-Total-Count` and, if there is a next page, a `Link` to it.
"""
_METHODS: Final = frozenset(method.value.lower() for method in HTTPMethod)
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "An `ETag` of this answer: 304 without a body if nothing has changed.",
    "schema": {"type": "string"},
}
_ETAG: Final = {"description": "Identifies the content.", "schema": {"type": "string"}}


def operation_id(route: APIRoute) -> str:
    """A route's operation id, such as `listAlerts`: the function's name in camel case."""
    first, *others = route.name.split("_")
    return first + "".join(word.capitalize() for word in others)


def describe(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI description."""
    schema = get_openapi(
        title=TITLE,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        separate_input_output_schemas=False,
    )
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    schema["security"] = [{"bearer": []}, {"key": []}, {}]
    for path, methods in schema["paths"].items():
        for method in _METHODS & set(methods):
            _complete(methods[method], method, is_open=path in OPEN_PATHS)
    return schema


def _complete(operation: dict[str, Any], method: str, *, is_open: bool) -> None:
    answers = operation["responses"]
    if "requestBody" in operation:
        for status in BODY_STATUSES:
            answers.setdefault(str(status), described_problem(status))
    if method == "get" and "application/json" in answers["200"]["content"]:
        operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
        answers["200"].setdefault("headers", {})["ETag"] = _ETAG
        answers["304"] = {"description": "Not Modified", "headers": {"ETag": _ETAG}}
    if is_open:
        operation["security"] = []
        for barred in ("401", "403", "429"):
            answers.pop(barred)
    operation["responses"] = dict(sorted(answers.items()))
