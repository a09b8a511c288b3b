"""What the pages of screenings show, in the service and in the guard."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from src.detection.records import Action
from src.service.database.engine import Database, Page
from src.service.database.screenings import (
    ScreeningFilter,
    StoredScreening,
    list_screenings,
    screening_of,
)
from src.service.http.problems import Problem
from src.service.web.forms import choice_or_none, whole_or_none
from src.service.web.transaction.detectors import MEANING

PAGE: Final = 50

_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_PATH: Final = "/ui/screenings"
_ACTIONS: Final = (("", "All"), ("REVIEW", "REVIEW and BLOCK"), ("BLOCK", "BLOCK"))


def read(database: Database, query: Mapping[str, str]) -> dict[str, Any]:
    """What `screenings.html` shows: newest first, older ones behind a link.

    Raises:
        Problem: 400 for an invalid value in the query.
    """
    action = choice_or_none("action", query.get("action", ""), ("REVIEW", "BLOCK")) or ""
    before = whole_or_none("before", query.get("before", ""))
    wanted = ScreeningFilter(least_action=Action[action] if action else 0)
    with database.reading() as connection:
        found, total = list_screenings(connection, wanted, Page(PAGE + 1, before=before))
    page = found[:PAGE]
    return {
        "screenings": page,
        "total": total,
        "is_newest": before is None,
        "action_links": [(name, words, _link(action=name)) for name, words in _ACTIONS],
        "action": action,
        "newest": _link(action=action),
        "older": _link(action=action, before=page[-1].id) if len(found) > PAGE else None,
    }


def read_one(database: Database, uuid: str, *, is_held: bool = False) -> dict[str, Any]:
    """What `screening.html` shows.

    Args:
        database: of the screenings.
        uuid: of the screening.
        is_held: whether the transaction waits for a person.

    Raises:
        Problem: 404 for an unknown one.
    """
    found = None
    if _ID.fullmatch(uuid):
        with database.reading() as connection:
            found = screening_of(connection, uuid)
    if found is None:
        raise Problem(404, "No screening has this id. They are kept for 30 days.")
    return {"one": found, "held": is_held, "to_do": _to_do(found, is_held=is_held)}


def _to_do(one: StoredScreening, *, is_held: bool) -> str:
    """What a person should do; the decision in the block counts, where there is one."""
    if is_held:
        return "release it or drop it"
    if one.is_withheld:
        return "nothing to do: it was not sent"
    return MEANING[Action(one.action if one.mined_action is None else one.mined_action)]


def _link(**query: str | int) -> str:
    given = {name: value for name, value in query.items() if value}
    return f"{_PATH}?{urlencode(given)}" if given else _PATH
