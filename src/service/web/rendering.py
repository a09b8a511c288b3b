"""HTML rendering with one Jinja environment, which escapes everything."""

import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from src.chain.networks import network
from src.detection.records import Action
from src.service import formatting as text

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


@functools.cache
def environment() -> Environment:
    """The templates' environment; an undefined name in a template is an error."""
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
        short=text.short,
        words=text.words,
        action=lambda value: Action(value).name,
    )
    made.globals.update(asset=_asset)
    return made


def page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page as a response.

    Args:
        template: file name in `templates/`.
        status: HTTP status.
        **values: values of the template.
    """
    content = environment().get_template(template).render(values)
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
