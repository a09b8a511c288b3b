"""The page of alerts: turns the URL's query into a filter, and links into other queries."""

from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlencode

from src.chain.text import sanitise_text
from src.detection.records import Action
from src.service.api.common import address_or_none
from src.service.context import Service
from src.service.database.alerts import SEVERITIES, AlertFilter, SortKey, list_alerts
from src.service.web.forms import choice_or_none, time_or_none, whole_or_none
from src.service.web.queries import known_alert_ids, tokens_moved

PAGE: Final = 25
_SORTS: Final = ("time", "severity", "action", "score")
_FIELDS: Final = ("since", "until", "action", "severity", "alert_id", "token", "sender", "judged")
_ACTIONS: Final = tuple(action.name for action in Action)
_MAX_PAGE: Final = 40_000


def read(service: Service, query: Mapping[str, str]) -> dict[str, Any]:
    """What `alerts.html` shows.

    Raises:
        Problem: 400 or 422 for an invalid value in the query; the message names it.
    """
    given = {name: query.get(name, "").strip()[:100] for name in _FIELDS}
    sort = cast(SortKey, choice_or_none("sort", query.get("sort", ""), _SORTS) or "time")
    descending = query.get("order") != "asc"
    number = min(max(1, whole_or_none("page", query.get("page", "")) or 1), _MAX_PAGE)
    with service.database.reading() as connection:
        found, total = list_alerts(
            connection,
            _filter(given),
            sort=sort,
            descending=descending,
            limit=PAGE,
            offset=(number - 1) * PAGE,
        )
        moved = tokens_moved(connection, service.chain_id, {alert.tx_hash for alert in found})
        alert_ids = list(known_alert_ids(connection, service.chain_id))
    kept = {name: value for name, value in given.items() if value}
    return {
        "alerts": found,
        "total": total,
        "first": (number - 1) * PAGE + 1,
        "moved": moved,
        "given": given,
        "is_filtered": bool(kept),
        "choices": {"action": _ACTIONS, "severity": SEVERITIES, "alert_id": alert_ids},
        "sort": sort,
        "order": "desc" if descending else "asc",
        "sort_links": {
            one: _link(kept, one, "asc" if one == sort and descending else "desc") for one in _SORTS
        },
        "page_number": number,
        "pages": max(1, -(-total // PAGE)),
        "earlier": _link(kept, sort, query.get("order", ""), number - 1) if number > 1 else None,
        "later": _link(kept, sort, query.get("order", ""), number + 1)
        if number * PAGE < total
        else None,
    }


def _filter(given: Mapping[str, str]) -> AlertFilter:
    action = choice_or_none("action", given["action"], _ACTIONS)
    judged = choice_or_none("judged", given["judged"], ("yes", "no"))
    return AlertFilter(
        since=time_or_none("since", given["since"]),
        until=time_or_none("until", given["until"]),
        action=None if action is None else int(Action[action]),
        severity=choice_or_none("severity", given["severity"], SEVERITIES),
        token=address_or_none("token", given["token"] or None),
        sender=address_or_none("sender", given["sender"] or None),
        alert_id=sanitise_text(given["alert_id"], 64) or None,
        with_feedback=None if judged is None else judged == "yes",
    )


def _link(kept: Mapping[str, str], sort: str, order: str, number: int = 1) -> str:
    changed = {"sort": sort, "order": order if order == "asc" else "desc"}
    if number > 1:
        changed["page"] = str(number)
    return f"/ui/alerts?{urlencode({**kept, **changed})}"
