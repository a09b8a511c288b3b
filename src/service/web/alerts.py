"""The page of alerts, grouped by transaction: the URL's query is a filter, links are others."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, cast

from starlette.responses import Response

from src.chain.networks import described, network
from src.chain.text import sanitise_text
from src.detection.records import Action
from src.service.api.alerts import save_triage
from src.service.api.common import address_or_none, transaction_link
from src.service.context import Service
from src.service.database.alerts import SEVERITIES, STATES, AlertFilter, State
from src.service.database.cases import Case, CaseSort, count_cases, list_cases
from src.service.formatting import iso, words
from src.service.http.problems import Problem
from src.service.web.forms import (
    choice_or_none,
    is_descending,
    time_field,
    time_or_none,
    whole_or_none,
)
from src.service.web.lists import MAX_EXPORTED, Listing
from src.service.web.queries import known_alert_ids, known_chains, tokens_moved
from src.service.web.rendering import csv_file, json_file

PAGE: Final = 25
MARKS: Final[Mapping[str, tuple[State, bool | None]]] = {
    "in_work": ("in_work", None),
    "true": ("done", True),
    "false": ("done", False),
    "done": ("done", None),
    "new": ("new", None),
}
"""What the buttons of the triage do: the state, and the feedback on all alerts."""

_SORTS: Final = ("time", "severity", "action", "score", "gained")
_FILTER: Final = (
    "state", "since", "until", "action", "severity", "alert_id", "chain", "token", "account",
    "sender", "judged",
)  # fmt: skip
FIELDS: Final = (*_FILTER, "sort", "order")
"""What the address of the page and of its files may have; the page's also its number."""
_ACTIONS: Final = tuple(action.name for action in Action)
_MAX_CHOSEN: Final = 1_000


def read(service: Service, query: Mapping[str, str]) -> dict[str, Any]:
    """What `alerts.html` shows.

    Raises:
        Problem: 400 or 422 for an invalid value in the query; the message names it.
    """
    given, wanted, listing = _parsed(query)
    with service.database.reading() as connection:
        counts = count_cases(connection, replace(wanted, state=None))
        total = counts.total() if wanted.state is None else _in_state(counts, wanted.state)
        found = list_cases(
            connection,
            wanted,
            sort=cast(CaseSort, listing.sort),
            descending=listing.descending,
            limit=PAGE,
            offset=listing.offset(query, total, PAGE),
        )
        keys = [(case.top.chain_id, case.top.tx_hash) for case in found]
        moved = tokens_moved(connection, keys)
        alert_ids = {*known_alert_ids(connection), given["alert_id"]} - {""}
        chains = {
            *known_chains(connection),
            *([] if wanted.chain_id is None else [wanted.chain_id]),
        }
    return listing.values(query, total, PAGE) | {
        "cases": found,
        "moved": moved,
        "given": given,
        "is_filtered": bool(listing.kept.keys() - {"state"}),
        "choices": {"action": _ACTIONS, "severity": SEVERITIES, "alert_id": sorted(alert_ids)},
        "chains": [(str(one), described(one)) for one in sorted(chains)],
        "own_chain": service.chain_id,
        "states": [("", "All", counts.total())]
        + [(one, words(one).capitalize(), _in_state(counts, one)) for one in STATES],
        "state_links": {one: listing.link(state=one) for one in ("", *STATES)},
    }


def export(service: Service, query: Mapping[str, str], kind: str) -> Response:
    """The cases that match as a CSV or a JSON file, one row a transaction.

    Raises:
        Problem: as `read`.
    """
    _, wanted, listing = _parsed(query)
    with service.database.reading() as connection:
        found = list_cases(
            connection,
            wanted,
            sort=cast(CaseSort, listing.sort),
            descending=listing.descending,
            limit=MAX_EXPORTED,
        )
    if kind == "json":
        return json_file("alerts.json", [_exported(case) | _with_alerts(case) for case in found])
    return csv_file("alerts.csv", _COLUMNS, map(_exported, found))


def mark(service: Service, chosen: Iterable[str], done: str, *, author: str, note: str) -> int:
    """Set the triage of the transactions of the chosen alerts; returns their number.

    Raises:
        Problem: 400 if none is chosen or a value is invalid, 404 if there are no such alerts.
    """
    numbers = {whole_or_none("alert", one) for one in list(chosen)[: _MAX_CHOSEN + 1]} - {None}
    if not numbers:
        raise Problem(400, "Tick at least one transaction, then choose what to do.")
    if len(numbers) > _MAX_CHOSEN:
        raise Problem(400, f"At most {_MAX_CHOSEN} transactions at once.")
    if done not in MARKS:
        raise Problem(400, f"mark must be one of {', '.join(MARKS)}.")
    state, verdict = MARKS[done]
    return save_triage(
        service,
        cast("set[int]", numbers),
        state,
        author=author,
        is_true_positive=verdict,
        note=note,
    )


def _parsed(query: Mapping[str, str]) -> tuple[dict[str, str], AlertFilter, Listing]:
    """The filter's fields as the form shows them, the filter, and the list."""
    given = {name: query.get(name, "").strip()[:100] for name in _FILTER}
    wanted = _filter(given)
    # As the form's fields hold them, which show nothing of another form, and would then lose it.
    for name, at in (("since", wanted.since), ("until", wanted.until)):
        given[name] = "" if at is None else time_field(at)
    kept = {name: value for name, value in given.items() if value}
    sort = choice_or_none("sort", query.get("sort", ""), _SORTS) or "time"
    return given, wanted, Listing("/ui/alerts", kept, _SORTS, sort, is_descending(query))


def _filter(given: Mapping[str, str]) -> AlertFilter:
    action = choice_or_none("action", given["action"], _ACTIONS)
    judged = choice_or_none("judged", given["judged"], ("yes", "no"))
    return AlertFilter(
        since=time_or_none("since", given["since"]),
        until=time_or_none("until", given["until"]),
        action=None if action is None else int(Action[action]),
        severity=choice_or_none("severity", given["severity"], SEVERITIES),
        token=address_or_none("token", given["token"] or None),
        account=address_or_none("account", given["account"] or None),
        sender=address_or_none("sender", given["sender"] or None),
        alert_id=sanitise_text(given["alert_id"], 64) or None,
        with_feedback=None if judged is None else judged == "yes",
        chain_id=whole_or_none("chain", given["chain"]),
        state=cast("State | None", choice_or_none("state", given["state"], STATES)),
    )


def _in_state(counts: Counter[tuple[int, State]], state: State) -> int:
    return sum(count for (_, one), count in counts.items() if one == state)


_COLUMNS: Final = (
    "time", "chain_id", "chain", "block_number", "transaction_hash", "from_address", "action",
    "severity", "alerts", "summary", "reasons", "gained_usd", "lost_usd", "anomaly_score",
    "attack_score", "orphaned", "state", "triaged_by", "triaged_at", "note", "true_positive",
    "false_positive", "link",
)  # fmt: skip


def _exported(case: Case) -> dict[str, Any]:
    """One case as a row; empty where something is unknown."""
    top, triage = case.top, case.triage
    verdicts = list(case.verdicts.values())
    reasons: Iterator[str] = (f"{alert.name}: {alert.reason}" for alert in case.alerts)
    return {
        "time": None if top.block_timestamp is None else iso(top.block_timestamp),
        "chain_id": top.chain_id,
        "chain": network(top.chain_id).name,
        "block_number": top.block_number,
        "transaction_hash": top.tx_hash,
        "from_address": top.from_address,
        "action": Action(case.action).name,
        "severity": top.severity,
        "alerts": " ".join(alert.alert_id for alert in case.alerts),
        "summary": case.sentence,
        "reasons": "; ".join(reasons),
        "gained_usd": top.gained_usd,
        "lost_usd": top.lost_usd,
        "anomaly_score": top.score,
        "attack_score": top.attack_score,
        "orphaned": top.orphaned,
        "state": triage.state,
        "triaged_by": triage.author,
        "triaged_at": None if triage.changed_at is None else iso(triage.changed_at),
        "note": triage.note,
        "true_positive": verdicts.count(True),
        "false_positive": verdicts.count(False),
        "link": transaction_link(top.chain_id, top.tx_hash),
    }


def _with_alerts(case: Case) -> dict[str, Any]:
    """The alerts as objects, in place of their ids and reasons in one text."""
    return {
        "alerts": [
            {
                "id": alert.id,
                "alert_id": alert.alert_id,
                "name": alert.name,
                "severity": alert.severity,
                "action": Action(alert.action).name,
                "reason": alert.reason,
                "feedback": [asdict(one) for one in alert.feedback],
            }
            for alert in case.alerts
        ]
    }
