"""The pages of the batch analysis: the form, a job's progress, the plots."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from src.chain.errors import NotFound, SourceError
from src.chain.networks import network
from src.chain.text import short
from src.service.api import analysis as api
from src.service.context import Service
from src.service.database.analyses import (
    AnalysisRow,
    analysis_rows_of,
    find_analysis,
    latest_analyses,
)
from src.service.database.jobs import list_jobs
from src.service.database.registry import find_model
from src.service.formatting import number
from src.service.http.problems import Problem
from src.service.web.charts import Chart, log_log
from src.service.web.forms import whole_or_none

MAX_POINTS: Final = 3_000
_LISTED: Final = 100
_EARLIER: Final = 10


def read(service: Service) -> dict[str, Any]:
    """Values of `ranges.html`; without the newest block if the node fails."""
    try:
        head = service.node.head()
    except (SourceError, NotFound):
        head = None
    with service.database.reading() as connection:
        analyses = latest_analyses(connection, _EARLIER)
        jobs, _ = list_jobs(connection, limit=_EARLIER)
        has_model = any(True for one in analyses if one.chain_id == service.chain_id)
    return {
        "head": head,
        "analyses": analyses,
        "jobs": [job for job in jobs if job.analysis is None],
        "has_model": has_model,
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


def stop(service: Service, job_id: str) -> None:
    """Cancel a job. Raises Problem 404 or 409."""
    api.cancel_job(job_id, service)


def read_job(service: Service, job_id: str) -> dict[str, Any]:
    """What `job.html` shows. Raises Problem 404."""
    return {"job": api.get_job(job_id, service)}


def read_analysis(service: Service, identity: str) -> dict[str, Any]:
    """What `analysis.html` shows. Raises Problem 404."""
    with service.database.reading() as connection:
        analysis = find_analysis(connection, identity[:64])
        if analysis is None:
            raise Problem(404, "Analysis not found.")
        rows = analysis_rows_of(connection, analysis.id, anomalies_only=False, limit=MAX_POINTS)
        model = find_model(connection, analysis.model)
    listed = [(rank, list(own)) for rank, own in groupby(rows[: 20 * _LISTED], lambda r: r.rank)]
    coin = network(analysis.chain_id).native_symbol
    return {
        "analysis": analysis,
        "coin": coin,
        "model": model,
        "plain": _scatter(rows, coin, marked=False),
        "marked": _scatter(rows, coin, marked=True),
        "listed": listed[:_LISTED],
        "drawn": len({row.tx_hash for row in rows}),
    }


def _scatter(rows: Sequence[AnalysisRow], coin: str, *, marked: bool) -> Chart:
    """Value against gas cost; anomalies are drawn last, on top."""
    ordered = sorted(rows, key=lambda row: (row.is_anomaly, -row.rank, row.token))
    return log_log(
        (
            row.value,
            row.gas_cost,
            "anomaly" if marked and row.is_anomaly else "usual",
            f"{short(row.tx_hash)}: {number(row.value)} {short(row.label)}, gas "
            f"{row.gas_cost:.6f} {coin}, score {row.tx_score:.3f}"
            + (", anomaly" if row.is_anomaly else ""),
            row.tx_hash,
        )
        for row in ordered
    )
