"""Pages of lists: opaque cursors, and the headers that lead to the next page."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from starlette.responses import Response

from src.service.api.common import MAX_INT64, Limit, Offset
from src.service.database.engine import Page
from src.service.http.problems import Problem

Part = str | float | None
E = TypeVar("E")

Cursor = Annotated[
    str | None,
    Query(
        max_length=500,
        description="Continues a list where a page ended: taken from the `Link` of that page. "
        "Unlike with `offset`, new entries neither shift nor repeat others.",
    ),
]

PAGED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "X-Total-Count": {"description": "Entries in all.", "schema": {"type": "integer"}},
            "Link": {
                "description": 'The next page, with `rel="next"`; missing on the last one.',
                "schema": {"type": "string"},
            },
        }
    }
}
"""The OpenAPI description of the headers of a page."""


def encode_cursor(*parts: Part) -> str:
    """The cursor behind an entry, from what identifies its place."""
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: str | type) -> list[Any]:
    """The parts of a cursor, which a client may have made up.

    Args:
        cursor: as the client sent it.
        kinds: of each part: a text that it must equal, or `float` for a number within 64 bits or
            None.

    Raises:
        Problem: 422, it is no cursor of this list.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    fits = isinstance(parts, list) and len(parts) == len(kinds)
    if not fits or not all(map(_fits, parts, kinds)):
        raise Problem(422, "cursor does not belong to this list and its order: take it from Link.")
    return list(parts)


def _fits(part: object, kind: str | type) -> bool:
    if isinstance(kind, str):
        return part == kind
    if part is None:
        return True
    # Neither an infinity nor NaN is within these limits.
    return isinstance(part, int | float) and not isinstance(part, bool) and abs(part) <= MAX_INT64


def page_headers(request: Request, total: int, **following: str | int) -> dict[str, str]:
    """The headers of a page: the total number of entries and, if there are more, a `Link`.

    Args:
        request: for this page.
        total: `X-Total-Count`.
        following: the query parameter of the next page, `cursor` or `offset`; none if this is the
            last page.
    """
    headers = {"X-Total-Count": str(total)}
    if following:
        url = request.url.remove_query_params(["cursor", "offset"])
        url = url.include_query_params(**following)
        # A relative reference: correct whatever proxy is in front.
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return headers


@dataclass(frozen=True, slots=True)
class Paging:
    """The page of a list that a request asks for, and the headers of its response."""

    request: Request
    response: Response
    limit: int
    offset: int
    cursor: str | None

    def after(self, *kinds: str | type) -> list[Any] | None:
        """The parts of the cursor, see `decode_cursor`; None without one.

        Raises:
            Problem: 422, it is no cursor of this list, or an offset was given as well.
        """
        if self.cursor is None:
            return None
        if self.offset:
            raise Problem(422, "Give cursor or offset, not both.")
        return decode_cursor(self.cursor, *kinds)

    def page(self, name: str) -> Page:
        """Of a list that has the highest id first, with one entry more if there are more.

        Raises:
            Problem: 422, as by `after`.
        """
        last = self.after(name, float)
        before = None if last is None else int(last[1] or 0)
        return Page(self.limit + 1, self.offset, before)

    def shown(
        self, found: Sequence[E], total: int, place: Callable[[E], Iterable[Part]]
    ) -> Sequence[E]:
        """The entries of the page, whose headers are set.

        Args:
            found: the entries, one more than the page takes if there are more.
            total: number of all entries.
            place: of the page's last entry, for the cursor of the next page.
        """
        shown = found[: self.limit]
        following = {}
        if len(found) > self.limit:
            following = {"cursor": encode_cursor(*place(shown[-1]))}
        self.response.headers.update(page_headers(self.request, total, **following))
        return shown


async def _paging(
    request: Request,
    response: Response,
    limit: Limit = 50,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> Paging:
    """A coroutine, since FastAPI would call a function in another thread."""
    return Paging(request, response, limit, offset, cursor)


PagingDep = Annotated[Paging, Depends(_paging)]
