"""HTML rendering with Jinja, which escapes everything."""

import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from src.chain.names.book import AddressBook
from src.chain.networks import network
from src.chain.text import short
from src.detection.records import Action
from src.service import formatting as text

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


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
        signed=text.signed,
        moment=text.moment,
        iso=text.iso,
        short=short,
        words=text.words,
        with_names=names.with_names,
        action=lambda value: Action(value).name,
    )
    made.globals.update(asset=_asset, name_of=names.name_of)
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
    # Browsers then send `Origin` with our forms, which the guard checks, but no referrer to others.
    return HTMLResponse(content, status, {"referrer-policy": "same-origin"})


def explorer_of(chain_id: int, *, is_demo: bool) -> str | None:
    """The block explorer's URL; None for chains without one."""
    return None if is_demo else network(chain_id).explorer


@functools.cache
def _asset(name: str) -> str:
    """The URL of a static file; it changes with the content, so that browsers may cache it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/ui/static/{name}?{digest[:12]}"
