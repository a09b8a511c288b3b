"""`POST /anomaly_detection/`: the batch analysis, and jobs for large ranges."""

import re
import threading
import time
import uuid
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt
from starlette.responses import Response

from src.service.analysis.batch import Cancelled, NoTransfers, RangeRequest
from src.service.api.common import (
    HashField,
    Limit,
    LinkField,
    Offset,
    ServiceDep,
    json_response,
    time_of,
    transaction_link,
)
from src.service.api.paging import PAGED, PagingDep, page_headers
from src.service.api.route import ApiRoute
from src.service.context import Service
from src.service.database import jobs
from src.service.database.analyses import (
    Analysis,
    AnalysisRow,
    analysis_rows_of,
    find_analysis,
)
from src.service.http.problems import Problem, ProblemDocument, responses

router = APIRouter(tags=["Batch analysis"], route_class=ApiRoute)

_DIRECT_AT_ONCE = 2
_direct = threading.BoundedSemaphore(_DIRECT_AT_ONCE)
_MAX_BLOCK = 2**53
JOB_PATTERN = "^[0-9a-f]{32}$"


class AnalysisRequest(BaseModel):
    """Which blocks to analyse: a range, or the latest within an interval, which overrides it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"start_block": 300, "end_block": 385}]},
    )

    # Limits of numbers are checked in `_checked`, for 400 and a message instead of 422.
    start_block: StrictInt | None = Field(None, description="First block, included; 0 or more.")
    end_block: StrictInt | None = Field(None, description="Last block, included; 0 or more.")
    time_interval_in_seconds: StrictInt = Field(
        0,
        description="Above 0: the latest blocks within about that many seconds, not the range. "
        "The newest block is excluded, since it may not be served yet.",
    )
    use_pre_trained_model: StrictBool = Field(
        False,
        description="Score with the registry's latest model instead of training one on this range.",
    )


_GasCost = Annotated[
    str, Field(description="In the coin that pays for gas, 8 decimals.", examples=["0.00123456"])
]
_Score = Annotated[str, Field(description="0 to 1, near 1 = anomalous.", examples=["0.7312"])]


class TransactionEntry(BaseModel):
    """One transaction of an analysis."""

    transaction_hash: HashField
    token2value: dict[str, float] = Field(
        description="Token -> amount of it that the transaction moved in all, in token units."
    )
    gas_cost: _GasCost
    anomaly_score: _Score
    etherscan_link: LinkField


class TransferEntry(BaseModel):
    """One token of one transaction of an analysis: the older form."""

    transaction_hash: HashField
    value: str = Field(description="Amount moved, in token units.", examples=["1,250.00"])
    token: str = Field(description="The token's symbol or address.", examples=["USDC"])
    gas_cost: _GasCost
    anomaly_score: _Score
    etherscan_link: LinkField


class JobView(BaseModel):
    """A large analysis that runs in the background."""

    id: str = Field(description="Identifies the job.", pattern=JOB_PATTERN)
    status: jobs.Status = Field(description="Its state; the last three are final.")
    start_block: int = Field(description="First block, included.")
    end_block: int = Field(description="Last block, included.")
    use_pre_trained_model: bool = Field(description="As requested.")
    blocks_done: int = Field(description="Blocks loaded so far.")
    blocks_total: int = Field(description="Blocks of the range.")
    created_at: float = Field(description="When it was requested, Unix seconds.")
    created_at_rfc3339 = time_of("created_at")
    started_at: float | None = Field(description="Unix seconds; null while it waits.")
    started_at_rfc3339 = time_of("started_at")
    finished_at: float | None = Field(description="Unix seconds; null until it has ended.")
    finished_at_rfc3339 = time_of("finished_at")
    analysis: str | None = Field(description="The id of its result, once it is done.")
    problem: ProblemDocument | None = Field(description="Why it failed.")
    url: str = Field(description="Path of this job.")
    result_url: str = Field(description="Path of its result.")


JobId = Annotated[str, Path(pattern=JOB_PATTERN, description="The job's `id`.")]
PerTransfer = Annotated[
    bool,
    Query(
        description="The older form: one entry per transaction and token, all strings. Pages and "
        "`X-Total-Count` still count transactions."
    ),
]
IncludeNormal = Annotated[
    bool, Query(description="Every transaction of the range, not only anomalies.")
]


@router.post(
    "/anomaly_detection/",
    summary="Find anomalous transactions in a range of blocks",
    response_model=list[TransactionEntry] | list[TransferEntry],
    responses=responses(404, 502, 504)
    | PAGED
    | {202: {"model": JobView, "description": "A job was created; see Location."}},
)
def detect_anomalies(
    wanted: AnalysisRequest,
    service: ServiceDep,
    request: Request,
    per_transfer: PerTransfer = False,
    include_normal: IncludeNormal = False,
    limit: Annotated[
        int | None, Query(ge=1, le=1_000, description="Maximum number; all without it.")
    ] = None,
    offset: Offset = 0,
    prefer: Annotated[str, Header(description="`respond-async` runs any range as a job.")] = "",
) -> Response:
    """The anomalies, most anomalous first; `X-Total-Count` is their number.

    A large range is answered with 202 and a job. The same blocks always give the same result. A
    range without transfers gives an empty list; a job for one fails, and says so.
    """
    blocks = _checked(wanted, service)
    if blocks.total > service.settings.direct_blocks or "respond-async" in prefer.lower():
        job = _enqueue(blocks, service)
        headers = {"Location": job.url, "Retry-After": "1"}
        return json_response(job.model_dump(mode="json"), status=202, headers=headers)
    try:
        analysis = _analyse_now(blocks, service)
    except NoTransfers:
        return json_response([], headers=page_headers(request, 0))
    return _entries(service, request, analysis, per_transfer, include_normal, limit, offset)


@router.get("/jobs", summary="Jobs, newest first", responses=responses() | PAGED)
def list_jobs(service: ServiceDep, paging: PagingDep) -> list[JobView]:
    """Waiting, running and finished jobs; `X-Total-Count` is their number, `Link` the next page."""
    wanted = paging.page("jobs")
    with service.database.reading() as connection:
        found, total = jobs.list_jobs(connection, service.chain_id, wanted)
    return [_view(job) for job in paging.shown(found, total, lambda job: ("jobs", job.number))]


@router.get("/jobs/{job_id}", summary="A job and its progress", responses=responses(404))
def get_job(job_id: JobId, service: ServiceDep) -> JobView:
    """The progress of a job."""
    return _view(_job(job_id, service))


@router.delete("/jobs/{job_id}", summary="Cancel a job", responses=responses(404, 409))
def cancel_job(job_id: JobId, service: ServiceDep) -> JobView:
    """A waiting job stops immediately, a running one at its next block."""
    if not _job(job_id, service).is_active:
        raise Problem(409, "The job has already ended.")
    with service.database.writing() as connection:
        job = jobs.cancel_job(connection, job_id, time.time())
    assert job is not None  # noqa: S101  found just above, and active jobs are not deleted
    return _view(job)


@router.get(
    "/jobs/{job_id}/result",
    summary="A page of a finished job's result",
    response_model=list[TransactionEntry] | list[TransferEntry],
    responses=responses(404, 409) | PAGED,
)
def get_job_result(
    job_id: JobId,
    service: ServiceDep,
    request: Request,
    per_transfer: PerTransfer = False,
    include_normal: IncludeNormal = False,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response:
    """In the format of `/anomaly_detection/`; pages count transactions."""
    job = _job(job_id, service)
    if job.analysis is None:
        raise Problem(409, f"The job has no result: it is {job.status}.")
    with service.database.reading() as connection:
        analysis = find_analysis(connection, job.analysis)
    if analysis is None:
        raise Problem(404, "The job's result no longer exists.")
    return _entries(service, request, analysis, per_transfer, include_normal, limit, offset)


def start_job(wanted: AnalysisRequest, service: Service) -> JobView:
    """Run an analysis as a job, however small. Raises Problem 400 to 504."""
    return _enqueue(_checked(wanted, service), service)


def _checked(request: AnalysisRequest, service: Service) -> RangeRequest:
    """The range to analyse. Checks the request first, then the registry, then the node."""
    start, end = request.start_block, request.end_block
    interval = request.time_interval_in_seconds
    for name, value in (
        ("start_block", start),
        ("end_block", end),
        ("time_interval_in_seconds", interval),
    ):
        if value is not None and value < 0:
            raise Problem(400, f"{name} is {_short(value)}: it must not be negative.")
        if value is not None and value > _MAX_BLOCK:
            raise Problem(400, f"{name} is larger than any block number: {_short(value)}.")
    analyst, use_model = service.analyst, request.use_pre_trained_model
    if interval == 0:
        if start is None or end is None:
            raise Problem(
                400, "Give start_block and end_block, or time_interval_in_seconds above 0."
            )
        if start > end:
            raise Problem(400, f"start_block {start} is after end_block {end}.")
        wanted = RangeRequest(start, end, use_model)
        analyst.check_length(wanted.total, "The range")
        analyst.check_registry(use_model)
        analyst.check_head(wanted)
        return wanted
    analyst.blocks_of_interval(interval)
    analyst.check_registry(use_model)
    return RangeRequest(*analyst.range_of_interval(interval), use_model)


def _analyse_now(wanted: RangeRequest, service: Service) -> Analysis:
    if not _direct.acquire(blocking=False):
        raise Problem(
            503,
            "Another analysis is running: retry, or send `Prefer: respond-async` to create a job.",
            headers={"Retry-After": "5"},
        )
    until = time.monotonic() + service.settings.request_seconds

    def check_time(_done: int) -> None:
        if time.monotonic() > until:
            raise Cancelled

    try:
        return service.analyst.analyse(wanted, check_time)
    except Cancelled:
        raise Problem(
            504,
            f"The analysis took longer than {service.settings.request_seconds:g} seconds: "
            "send `Prefer: respond-async` to create a job.",
        ) from None
    finally:
        _direct.release()


def _enqueue(wanted: RangeRequest, service: Service) -> JobView:
    identity = uuid.uuid4().hex
    with service.database.writing() as connection:
        chain_id, total = service.chain_id, wanted.total
        if jobs.count_active_jobs(connection, chain_id) >= service.settings.max_jobs:
            raise Problem(
                503,
                "Too many jobs are waiting: retry later, or cancel one of `GET /jobs`.",
                headers={"Retry-After": "30"},
            )
        jobs.add_job(connection, identity, chain_id, wanted.as_json(), total, time.time())
        job = jobs.find_job(connection, identity)
    assert job is not None  # noqa: S101  added just above
    service.runner.wake()
    return _view(job)


def _entries(
    service: Service,
    request: Request,
    analysis: Analysis,
    per_transfer: bool,
    include_normal: bool,
    limit: int | None,
    offset: int,
) -> Response:
    with service.database.reading() as connection:
        rows = analysis_rows_of(
            connection,
            analysis.id,
            anomalies_only=not include_normal,
            limit=limit,
            offset=offset,
        )
    if per_transfer:
        listed = [row for row in rows if include_normal or row.is_anomaly]
        ordered = sorted(listed, key=lambda row: (-row.score, row.tx_hash, row.token))
        entries = [_transfer_entry(row, analysis.chain_id) for row in ordered]
    else:
        grouped = groupby(rows, key=lambda row: row.rank)
        entries = [_transaction_entry(list(own), analysis.chain_id) for _, own in grouped]
    total = analysis.n_transactions if include_normal else analysis.n_anomalies
    following = {} if limit is None or offset + limit >= total else {"offset": offset + limit}
    return json_response(entries, headers=page_headers(request, total, **following))


def _transaction_entry(rows: list[AnalysisRow], chain_id: int) -> dict[str, Any]:
    first = rows[0]
    return {
        "transaction_hash": first.tx_hash,
        "token2value": {row.label: row.value for row in rows},
        "gas_cost": f"{first.gas_cost:.8f}",
        "anomaly_score": f"{first.tx_score:.4f}",
        "etherscan_link": transaction_link(chain_id, first.tx_hash),
    }


def _transfer_entry(row: AnalysisRow, chain_id: int) -> dict[str, Any]:
    return {
        "transaction_hash": row.tx_hash,
        "value": f"{row.value:,.2f}",
        "token": row.label,
        "gas_cost": f"{row.gas_cost:.8f}",
        "anomaly_score": f"{row.score:.4f}",
        "etherscan_link": transaction_link(chain_id, row.tx_hash),
    }


def _job(job_id: str, service: Service) -> jobs.Job:
    found = None
    if re.fullmatch(JOB_PATTERN, job_id):
        with service.database.reading() as connection:
            found = jobs.find_job(connection, job_id)
    if found is None or found.chain_id != service.chain_id:
        raise Problem(404, "Job not found. They are kept for 30 days after their end.")
    return found


def _view(job: jobs.Job) -> JobView:
    return JobView(
        id=job.id,
        status=job.status,
        start_block=job.request["start_block"],
        end_block=job.request["end_block"],
        use_pre_trained_model=job.request["use_pre_trained_model"],
        blocks_done=job.done,
        blocks_total=job.total,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        analysis=job.analysis,
        problem=None if job.problem is None else ProblemDocument(**job.problem),
        url=f"/jobs/{job.id}",
        result_url=f"/jobs/{job.id}/result",
    )


def _short(number: int) -> str:
    """A client's number, shortened for a message."""
    return str(number) if abs(number) < 10**30 else f"{'-' if number < 0 else ''}10^30 or more"
