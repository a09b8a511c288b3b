"""The route class of the API: what holds for every operation before and after its own code."""

import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Form, Query
from fastapi.routing import APIRoute
from starlette.responses import Response

from src.chain.text import sanitise_text
from src.service.http.problems import Problem

_MAX_NAMED = 20
_WITH_ETAG = ("application/json", "text/html")
_KEPT_BY_304 = ("etag", "cache-control", "link", "x-total-count")


class ApiRoute(APIRoute):
    """Refuses unknown and repeated query parameters and bodies that are no JSON.

    A misspelt filter would otherwise silently match everything, and of a repeated one only the
    last value would count. Also answers `If-None-Match`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()
        fields = get_flat_params(self.dependant)
        known = frozenset(one.alias for one in fields if isinstance(one.field_info, Query))
        body = self.body_field
        takes_json = body is not None and not isinstance(body.field_info, Form)

        async def checked(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_query(request, known)
            if takes_json and await request.body():
                _check_media_type(request)
            response = await handle(request)
            return _conditional(request, response) if request.method == "GET" else response

        return checked


def _check_query(request: Request, known: frozenset[str]) -> None:
    unknown = sorted(set(request.query_params) - known)[:_MAX_NAMED]
    if not unknown:
        _check_repeated(request)
        return
    names = [sanitise_text(name, 40) for name in unknown]
    takes = f"known are {', '.join(sorted(known))}" if known else "none is known here"
    raise Problem(
        422,
        f"Unknown query parameters: {', '.join(names)}; {takes}.",
        errors=[{"where": ["query", name], "problem": "unknown parameter"} for name in names],
    )


def _check_repeated(request: Request) -> None:
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise Problem(
            422,
            f"Give each query parameter once; repeated: {', '.join(repeated)}.",
            errors=[{"where": ["query", name], "problem": "repeated"} for name in repeated],
        )


def _check_media_type(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Send the body uncompressed.", headers={"Accept-Encoding": "identity"})
    given = Message()
    given["content-type"] = request.headers.get("content-type", "")
    subtype = given.get_content_subtype()
    is_json = subtype == "json" or subtype.endswith("+json")
    if given.get_content_maintype() != "application" or not is_json:
        raise Problem(
            415,
            "Send JSON with the header `Content-Type: application/json`.",
            headers={"Accept": "application/json"},
        )


def _conditional(request: Request, response: Response) -> Response:
    """Add an `ETag` to JSON or a page; 304 without a body if the client has it already."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    if response.status_code != 200 or kind not in _WITH_ETAG:
        return response
    digest = hashlib.blake2b(bytes(response.body), digest_size=16).hexdigest()
    response.headers["ETag"] = tag = f'"{digest}"'
    if kind == "application/json":  # a page's is for a script that asks whether it has changed
        response.headers["Cache-Control"] = "private, no-cache"  # keep, but ask before each use
    if not _has(request.headers.get("if-none-match", ""), tag):
        return response
    kept = {name: value for name, value in response.headers.items() if name in _KEPT_BY_304}
    return Response(status_code=304, headers=kept)


def _has(tags: str, tag: str) -> bool:
    """Whether an `If-None-Match` names a tag, compared weakly (RFC 9110, 13.1.2)."""
    held = {one.strip().removeprefix("W/") for one in tags.split(",")}
    return bool(held & {tag, "*"})
