"""HTML rendering with Jinja, which escapes everything; files to save."""

import csv
import functools
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from src.chain.names.book import AddressBook
from src.chain.networks import network
from src.chain.quantities import dollars
from src.chain.text import plain_cell, short, shortened
from src.detection.detectors.base import percentage, than_training
from src.detection.records import Action
from src.service import formatting as text
from src.service.http.problems import Problem

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_LONG_WORD = 16
_TITLES = {
    400: "Bad request",
    403: "Forbidden",
    404: "Page not found",
    409: "No longer possible",
    422: "Invalid input",
    429: "Too many requests",
    502: "The node failed",
    503: "Service unavailable",
    504: "The node timed out",
}
_UNBROKEN = re.compile(
    r"0x[0-9a-f]{40}(?![0-9a-f])|0x[0-9a-f]{6}…[0-9a-f]{4}|[$]?[0-9][0-9.,]* [kMBT]\b"
)


class KeptFiles(StaticFiles):
    """Static files that browsers may cache: their URLs change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See StaticFiles."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "private, max-age=86400"
        return response


@functools.lru_cache(maxsize=8)
def environment(names: AddressBook) -> Environment:
    """The templates' environment; an undefined name in a template is an error.

    Args:
        names: of the addresses that the pages show.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=text.number,
        exact_amount=text.exact_amount,
        percent=text.percent,
        score=text.score,
        signed=text.signed,
        moment=text.moment,
        iso=text.iso,
        short=short,
        shortened=shortened,
        words=text.words,
        dollars=dollars,
        unbroken=_unbroken,
        isolated=_isolated,
        percentage=percentage,
        than_training=than_training,
        action=lambda value: Action(value).name,
    )
    # The guard has pages of its own, and `rules`.
    made.globals.update(asset=_asset, name_of=names.name_of, network=network, rules=None)
    return made


def page(template: str, names: AddressBook, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page as a response.

    Args:
        template: file name in `templates/`.
        names: see `environment`.
        status: HTTP status.
        **values: values of the template.
    """
    content = environment(names).get_template(template).render(values)
    # Browsers then send `Origin` with our forms, which the middleware checks, but others get no
    # referrer.
    return HTMLResponse(content, status, {"referrer-policy": "same-origin"})


def problem_page(
    problem: Problem, names: AddressBook, request_id: str, **values: Any
) -> HTMLResponse:
    """What went wrong, as a page; see `page`."""
    response = page(
        "problem.html",
        names,
        status=problem.status,
        code=problem.status,
        title=_TITLES.get(problem.status, "Internal error"),
        detail=problem.detail,
        request_id=request_id,
        **values,
    )
    response.headers.update(problem.headers)
    return response


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    """Rows as a CSV file to save, in which no cell is a formula; None is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: plain_cell(one) if isinstance(one, str) else one for key, one in row.items()}
        )
    return Response(out.getvalue(), headers=_saved_as(name), media_type="text/csv")


def json_file(name: str, content: Any) -> Response:
    """A JSON file to save."""
    content_text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    return Response(content_text, headers=_saved_as(name), media_type="application/json")


def _saved_as(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def explorer_of(chain_id: int, *, is_demo: bool) -> str | None:
    """The block explorer's URL; None for chains without one."""
    return None if is_demo else network(chain_id).explorer


def _isolated(text: str) -> Markup:
    """A stranger's text with a direction of its own; a long word may break anywhere."""
    is_long = any(len(word) > _LONG_WORD for word in text.split())
    around = '<bdi class="wrap">{}</bdi>' if is_long else "<bdi>{}</bdi>"
    return Markup(around).format(_unbroken(text))  # noqa: S704  a constant


def _unbroken(sentence: str) -> Markup:
    """A sentence whose amounts and addresses, in their short form, stay on one line each."""

    def marked(found: re.Match[str]) -> str:
        shown = short(found[0])
        title = f' title="{found[0]}"' if shown != found[0] else ""
        return f'<span class="nowrap"{title}>{shown}</span>'

    return Markup(_UNBROKEN.sub(marked, str(escape(sentence))))  # noqa: S704  escaped


@functools.cache
def _asset(name: str) -> str:
    """The URL of a static file; it changes with the content, so that browsers may cache it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/ui/static/{name}?{digest[:12]}"
