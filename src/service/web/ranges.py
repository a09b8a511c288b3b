"""The pages of the batch analysis: the form, a job's progress, the plots."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, cast

from sqlalchemy import Connection
from starlette.responses import Response

from src.chain.errors import NotFound, SourceError
from src.chain.networks import network
from src.chain.text import short
from src.detection.records import Action
from src.service.api import analysis as api
from src.service.api.common import transaction_link
from src.service.context import Service
from src.service.database.analyses import (
    Analysis,
    AnalysisRow,
    Part,
    PlacedRow,
    RowSort,
    count_within,
    find_analysis,
    latest_analyses,
    placed_rows_of,
    rows_within,
)
from src.service.database.decisions import Decided, decided_on
from src.service.database.engine import Page
from src.service.database.jobs import list_jobs
from src.service.database.registry import find_model, latest_model
from src.service.formatting import number
from src.service.http.problems import Problem
from src.service.web.charts import Chart, log_log
from src.service.web.forms import (
    choice_or_none,
    is_descending,
    number_or_none,
    whole_or_none,
)
from src.service.web.lists import MAX_EXPORTED, Listing
from src.service.web.rendering import csv_file, json_file

MAX_POINTS: Final = 3_000
PAGE: Final = 50
_EARLIER: Final = 10
_SORTS: Final = ("score", "gas")
FIELDS: Final = ("sort", "order", "only", *Part.__slots__)
"""What the address of an analysis and of its files may have; the page's also its number."""
_COLUMNS: Final = (
    "rank", "transaction_hash", "anomaly_score", "is_anomaly", "token", "label", "value",
    "gas_cost", "row_score", "reason", "action", "summary",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction of an analysis."""

    rank: int  # 0 = most anomalous
    tx_hash: str
    score: float
    is_anomaly: bool
    rows: Sequence[PlacedRow]
    reason: str  # what is unusual about its most anomalous row
    decided: Decided  # by the stored decision on it


def read(
    service: Service, given: Mapping[str, str], problem: Problem | None = None
) -> dict[str, Any]:
    """Values of `ranges.html`; without the newest block if the node fails.

    Args:
        service: whose analyses are listed.
        given: what the form's fields hold, by name; the newest blocks where they are not given.
        problem: why the form was not accepted.
    """
    try:
        head = service.node.head()
    except (SourceError, NotFound):
        head = None
    newest = {} if head is None else {"start_block": max(0, head - 99), "end_block": head}
    fields = {
        name: given[name][:100] if name in given else newest.get(name, "")
        for name in ("start_block", "end_block")
    }
    with service.database.reading() as connection:
        analyses = latest_analyses(connection, service.chain_id, _EARLIER)
        jobs, _ = list_jobs(connection, service.chain_id, Page(_EARLIER))
        model = latest_model(connection, service.chain_id)
    return {
        "head": head,
        "given": fields | {"model": given.get("model", "")},
        "problem": None if problem is None else problem.detail,
        "analyses": analyses,
        "jobs": [job for job in jobs if job.analysis is None],
        "has_model": model is not None,
        "max_blocks": service.settings.max_blocks,
    }


def start(service: Service, first: str, last: str, *, use_pre_trained_model: bool) -> str:
    """Start a job from the form's fields; returns its id.

    Raises:
        Problem: 400 to 504, as for the API's endpoint.
    """
    wanted = api.AnalysisRequest(
        start_block=whole_or_none("First block", first),
        end_block=whole_or_none("Last block", last),
        time_interval_in_seconds=0,
        use_pre_trained_model=use_pre_trained_model,
    )
    return api.start_job(wanted, service).id


def read_analysis(service: Service, identity: str, query: Mapping[str, str]) -> dict[str, Any]:
    """What `analysis.html` shows. Raises Problem 404, or 400 for an invalid value in the query."""
    listing, part, anomalies_only = _parsed(identity, query)
    with service.database.reading() as connection:
        analysis = _found(connection, identity)
        rows = rows_within(connection, analysis.id, part, MAX_POINTS)
        transactions, anomalies = count_within(connection, analysis, part)
        total = anomalies if anomalies_only else transactions
        model = find_model(connection, analysis.model)
        offset = listing.offset(query, total, PAGE)
        listed = _listed(connection, analysis, listing, part, anomalies_only, PAGE, offset)
    coin = network(analysis.chain_id).native_symbol
    links = {
        row.tx_hash: f"/ui/transactions/{row.tx_hash}"
        if analysis.chain_id == service.chain_id
        else transaction_link(analysis.chain_id, row.tx_hash)
        for row in rows
    }
    zoom = {name: value for name, value in listing.kept.items() if name != "only"}
    return listing.values(query, total, PAGE) | {
        "analysis": analysis,
        "coin": coin,
        "model": model,
        "chart": _scatter(rows, links, coin),
        "listed": listed,
        "drawn": len({row.tx_hash for row in rows}),
        "transactions": transactions,
        "anomalies": anomalies,
        "zoom": zoom,
        "kept": listing.order | ({"only": "anomalies"} if anomalies_only else {}),
        "whole_link": listing.link(**dict.fromkeys(zoom, "")),
        "own_chain": service.chain_id,
        "is_only_anomalies": anomalies_only,
        "all_link": listing.link(only=""),
        "anomalies_link": listing.link(only="anomalies"),
    }


def export(service: Service, identity: str, query: Mapping[str, str], kind: str) -> Response:
    """An analysis as a CSV or a JSON file, one row for each token of a transaction.

    Raises:
        Problem: as `read_analysis`.
    """
    listing, part, anomalies_only = _parsed(identity, query)
    with service.database.reading() as connection:
        analysis = _found(connection, identity)
        listed = _listed(connection, analysis, listing, part, anomalies_only, MAX_EXPORTED, 0)
    rows = [
        {
            "rank": one.rank + 1,
            "transaction_hash": one.tx_hash,
            "anomaly_score": one.score,
            "is_anomaly": placed.row.is_anomaly,
            "token": placed.row.token,
            "label": placed.row.label,
            "value": placed.row.value,
            "gas_cost": placed.row.gas_cost,
            "row_score": placed.row.score,
            "reason": reason_of(placed),
            "action": None if one.decided.action is None else Action(one.decided.action).name,
            "summary": one.decided.summary,
        }
        for one in listed
        for placed in one.rows
    ]
    name = f"blocks-{analysis.start_block}-{analysis.end_block}.{kind}"
    return json_file(name, rows) if kind == "json" else csv_file(name, _COLUMNS, rows)


def reason_of(placed: PlacedRow) -> str:
    """What is unusual about a row, in the words of the forest's two inputs."""
    amount, gas = placed.value_place, placed.gas_place
    return f"amount {_place(amount)}, gas cost {_place(gas)}"


def _place(share: float) -> str:
    """The place among all rows of a range. A share below 1 is never shown as 100 %."""
    if share >= 1:
        return "the highest in the range"
    if share <= 0:
        return "the lowest in the range"
    shown = math.floor(1_000 * max(share, 1 - share)) / 10
    return f"{'higher' if share >= 1 / 2 else 'lower'} than {shown:g} % in the range"


def _parsed(identity: str, query: Mapping[str, str]) -> tuple[Listing, Part, bool]:
    """The list, the part, and whether only anomalies are wanted."""
    sort = choice_or_none("sort", query.get("sort", ""), _SORTS) or "score"
    only = choice_or_none("only", query.get("only", ""), ("anomalies",))
    bounds = {name: number_or_none(name, query.get(name, "")) for name in Part.__slots__}
    part = Part(**{name: bound for name, bound in bounds.items() if bound is not None})
    kept = {name: query[name] for name in (*Part.__slots__, "only") if query.get(name)}
    path = f"/ui/analyses/{identity}"
    listing = Listing(path, kept, _SORTS, sort, is_descending(query), "#list")
    return listing, part, only is not None


def _found(connection: Connection, identity: str) -> Analysis:
    analysis = find_analysis(connection, identity)
    if analysis is None:
        raise Problem(404, "Analysis not found. They are kept for 30 days.")
    return analysis


def _listed(
    connection: Connection,
    analysis: Analysis,
    listing: Listing,
    part: Part,
    anomalies_only: bool,
    limit: int,
    offset: int,
) -> list[Entry]:
    """A page of a part's transactions, with what was decided on them."""
    rows = placed_rows_of(
        connection,
        analysis.id,
        part=part,
        sort=cast(RowSort, listing.sort),
        descending=listing.descending,
        anomalies_only=anomalies_only,
        limit=limit,
        offset=offset,
    )
    grouped = [list(own) for _, own in groupby(rows, lambda one: one.row.rank)]
    keys = [(analysis.chain_id, own[0].row.tx_hash) for own in grouped]
    decided = decided_on(connection, keys)
    entries = []
    for key, own in zip(keys, grouped, strict=True):
        top = max(own, key=lambda one: one.row.score)
        entries.append(
            Entry(
                rank=top.row.rank,
                tx_hash=top.row.tx_hash,
                score=top.row.tx_score,
                is_anomaly=any(one.row.is_anomaly for one in own),
                rows=own,
                reason=f"{top.row.label}: {reason_of(top)}",
                decided=decided.get(key, Decided()),
            )
        )
    return entries


def _scatter(rows: Sequence[AnalysisRow], links: Mapping[str, str], coin: str) -> Chart:
    """Value against gas cost; anomalies are drawn last, on top."""
    ordered = sorted(rows, key=lambda row: (row.is_anomaly, -row.rank, row.token))
    return log_log(
        (
            row.value,
            row.gas_cost,
            "anomaly" if row.is_anomaly else "usual",
            f"{short(row.tx_hash)}: {number(row.value)} {short(row.label)}, gas "
            f"{row.gas_cost:.6f} {coin}, score {row.tx_score:.3f}"
            + (", anomaly" if row.is_anomaly else ""),
            links[row.tx_hash],
        )
        for row in ordered
    )
