"""CSRF protection of forms, and parsing of their values.

The middleware already rejects requests that a browser marks as cross-site. In addition, each form
carries the random value of a cookie that only pages of this service can read (double submit), which
needs neither state shared by workers nor a login.
"""

import math
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from inspect import Parameter, Signature
from typing import Any, Final

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from src.service.formatting import iso
from src.service.http.problems import Problem

_COOKIE: Final = "ui_csrf"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,64}")
_BACK: Final = re.compile(r"/ui/[A-Za-z0-9/_-]*(?:\?[A-Za-z0-9_=&%.:+-]*)?(?:#[a-z0-9-]+)?")
_WHOLE: Final = re.compile(r"[0-9]{1,16}")


def token_of(request: Request) -> str:
    """The CSRF token of this browser, a new one if it has none."""
    given = request.cookies.get(_COOKIE, "")
    return given if _TOKEN.fullmatch(given) else secrets.token_urlsafe(32)


def keep_token(request: Request, response: Response, token: str) -> None:
    """Set the token's cookie."""
    if request.cookies.get(_COOKIE) != token:
        response.set_cookie(
            _COOKIE,
            token,
            path="/ui",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )


def check_token(request: Request, sent: str) -> None:
    """Raise Problem 403 for a form with a missing or wrong token."""
    kept = request.cookies.get(_COOKIE, "")
    if not (_TOKEN.fullmatch(kept) and secrets.compare_digest(kept.encode(), sent.encode())):
        raise Problem(403, "The form has expired. Go back, reload the page and try again.")


def back_to(sent: str) -> str:
    """The page that a form returns to, that of the alerts if it is not one of this service's."""
    return sent if len(sent) < 2_000 and _BACK.fullmatch(sent) else "/ui/alerts"


def fields(*names: str) -> Any:
    """What declares the fields of a page's query, as text: those that are not empty, by name."""

    async def filled(**given: str) -> Mapping[str, str]:
        return {name: value for name, value in given.items() if value}

    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default="", annotation=str) for name in names
    ]
    setattr(filled, "__signature__", Signature(parameters))  # noqa: B010  unknown to mypy
    return Depends(filled)


def whole_or_none(name: str, sent: str) -> int | None:
    """A form's whole number, None if it is empty. Raises Problem 400 if it is invalid."""
    if not sent.strip():
        return None
    if not _WHOLE.fullmatch(sent.strip()):
        raise Problem(400, f"{name} must be a whole number of at most 16 digits.")
    return int(sent.strip())


def number_or_none(name: str, sent: str) -> float | None:
    """A number of at least 0, None if it is empty. Raises Problem 400 if it is none."""
    if not sent.strip():
        return None
    try:
        number = float(sent)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise Problem(400, f"{name} must be a number of at least 0, such as 0.5 or 1e-3.")
    return number


def page_within(query: Mapping[str, str], total: int, size: int) -> tuple[int, int]:
    """The number of the page of a list, from 1, and that of its pages: the last if it is beyond.

    Raises:
        Problem: 400 for an invalid number.
    """
    pages = max(1, -(-total // size))
    return min(max(1, whole_or_none("page", query.get("page", "")) or 1), pages), pages


def time_or_none(name: str, sent: str) -> int | None:
    """A `datetime-local` value as Unix seconds; UTC unless it names a zone. Raises Problem 400."""
    if not sent.strip():
        return None
    try:
        time = datetime.fromisoformat(sent.strip())
        return max(0, int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, OverflowError):
        raise Problem(400, f"{name} must be a time such as 2024-05-30T12:00.") from None


def time_field(at: float) -> str:
    """Unix seconds as a `datetime-local` field holds them."""
    return iso(at).rstrip("Z")


def choice_or_none(
    name: str, sent: str, choices: Mapping[str, int] | tuple[str, ...]
) -> str | None:
    """One of the choices, None if it is empty. Raises Problem 400 if it is invalid."""
    if not sent:
        return None
    if sent not in choices:
        raise Problem(400, f"{name} must be one of {', '.join(choices)}.")
    return sent


def is_descending(query: Mapping[str, str]) -> bool:
    """The order of a list, descending if it is not given. Raises Problem 400 if it is invalid."""
    return choice_or_none("order", query.get("order", ""), ("asc", "desc")) != "asc"
