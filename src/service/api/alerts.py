"""Stored alerts and feedback on them."""

import time
from collections.abc import Collection
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool
from starlette.responses import Response

from src.chain.text import sanitise_text
from src.decision.alerts import Severity
from src.detection.records import Action
from src.service.api.common import (
    MAX_INT64,
    Limit,
    Offset,
    ServiceDep,
    address_or_none,
    page_headers,
    transaction_link,
)
from src.service.context import Service
from src.service.database.alerts import (
    Alert,
    AlertFilter,
    SortKey,
    State,
    find_alert,
    give_feedback,
    list_alerts,
)
from src.service.database.cases import cases_of, set_triage
from src.service.http.problems import Problem, responses

router = APIRouter(tags=["Alerts"])

MAX_NOTE = 500
ActionName = Literal["ALLOW", "REVIEW", "BLOCK"]
_Time = Annotated[int | None, Query(ge=0, le=MAX_INT64, description="Block time, Unix seconds.")]
_Text = Annotated[str | None, Query(max_length=100)]

# The second is the old name, accepted for one more release.
_VERDICT_NAMES = AliasChoices("is_true_positive", "is_true_alarm")


class FeedbackView(BaseModel):
    """One person's feedback on an alert."""

    author: str
    is_true_positive: bool
    note: str
    given_at: float


class AlertView(BaseModel):
    """An alert about a transaction."""

    id: int
    chain_id: int
    alert_id: str
    name: str
    description: str
    reason: str = Field(description="The rules' reasons, or why there is no score; may be empty.")
    severity: str
    action: str
    transaction_hash: str
    from_address: str | None
    block_number: int | None
    block_timestamp: int | None
    orphaned: bool = Field(description="The transaction is no longer in the chain.")
    model_version: str
    created_at: float
    etherscan_link: str
    feedback: list[FeedbackView]
    gained_usd: float | None = Field(
        description="Net gain of the sender's side; null: unknown, which is not zero."
    )
    lost_usd: float | None = Field(
        description="Net loss of the account that lost most; null: unknown, or nobody lost."
    )
    anomaly_score: float | None = Field(None, description="Only with details=true.")
    attack_score: float | None = Field(None, description="Only with details=true.")


class FeedbackRequest(BaseModel):
    """Whether an alert was right."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"is_true_positive": False, "note": "known MEV bot"}]},
    )

    is_true_positive: Annotated[StrictBool, Field(validation_alias=_VERDICT_NAMES)]
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


class TriageRequest(BaseModel):
    """What a person does about the transactions of some alerts."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"alerts": [1], "state": "done", "is_true_positive": True, "note": ""}]
        },
    )

    alerts: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_INT64)]],
        Field(min_length=1, max_length=1_000, description="Ids of alerts."),
    ]
    state: State
    is_true_positive: Annotated[
        StrictBool | None,
        Field(description="Feedback on all alerts of these transactions; null for none."),
    ] = None
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


class Triaged(BaseModel):
    """The result of a triage."""

    transactions: int = Field(description="Number of transactions whose state was set.")


@router.get("/alerts", summary="Alerts that match", responses=responses())
def get_alerts(
    service: ServiceDep,
    response: Response,
    since: _Time = None,
    until: _Time = None,
    action: ActionName | None = None,
    severity: Severity | None = None,
    token: _Text = None,
    sender: _Text = None,
    alert_id: _Text = None,
    with_feedback: bool | None = None,
    orphaned: bool | None = None,
    chain_id: Annotated[int | None, Query(ge=0, le=MAX_INT64)] = None,
    state: State | None = None,
    sort: SortKey = "time",
    order: Literal["desc", "asc"] = "desc",
    details: bool = False,
    limit: Limit = 50,
    offset: Offset = 0,
) -> list[AlertView]:
    """A page of alerts; `X-Total-Count` is the total number of matches."""
    wanted = AlertFilter(
        since=since,
        until=until,
        action=None if action is None else int(Action[action]),
        severity=severity,
        token=address_or_none("token", token),
        sender=address_or_none("sender", sender),
        alert_id=sanitise_text(alert_id, 64) if alert_id else None,
        with_feedback=with_feedback,
        orphaned=orphaned,
        chain_id=chain_id,
        state=state,
    )
    with service.database.reading() as connection:
        found, total = list_alerts(
            connection, wanted, sort=sort, descending=order == "desc", limit=limit, offset=offset
        )
    response.headers.update(page_headers(total))
    return [_view(alert, details=details) for alert in found]


@router.get("/alerts/{alert}", summary="One alert", responses=responses(404))
def get_alert(alert: int, service: ServiceDep, details: bool = False) -> AlertView:
    """An alert with its feedback."""
    return _view(_found(alert, service), details=details)


@router.post(
    "/alerts/{alert}/feedback", summary="Say whether an alert was right", responses=responses(404)
)
def post_feedback(
    alert: int, given: FeedbackRequest, service: ServiceDep, request: Request
) -> AlertView:
    """Replaces earlier feedback by the same person."""
    save_feedback(
        service,
        alert,
        author=request.state.client_name,
        is_true_positive=given.is_true_positive,
        note=given.note,
    )
    return _view(_found(alert, service), details=False)


def save_feedback(
    service: Service, alert: int, *, author: str, is_true_positive: bool, note: str
) -> None:
    """Store an author's feedback on an alert, whose transaction is then done.

    Raises:
        Problem: 404 for an unknown alert.
    """
    found, note, now = _found(alert, service), sanitise_text(note, MAX_NOTE), time.time()
    with service.database.writing() as connection:
        give_feedback(
            connection, alert, author, is_true_positive=is_true_positive, note=note, now=now
        )
        key = (found.chain_id, found.tx_hash)
        set_triage(connection, [key], "done", author=author, note=note, now=now)


@router.post(
    "/alerts/triage",
    summary="Set what is done about the transactions of alerts",
    responses=responses(404),
)
def post_triage(given: TriageRequest, service: ServiceDep, request: Request) -> Triaged:
    """New, in work or done, with a note; a verdict is feedback on all their alerts."""
    return Triaged(
        transactions=save_triage(
            service,
            given.alerts,
            given.state,
            author=request.state.client_name,
            is_true_positive=given.is_true_positive,
            note=given.note,
        )
    )


def save_triage(
    service: Service,
    numbers: Collection[int],
    state: State,
    *,
    author: str,
    is_true_positive: bool | None,
    note: str,
) -> int:
    """Set the state of the transactions of these alerts; returns their number.

    Raises:
        Problem: 404 if there is none of these alerts.
    """
    with service.database.writing() as connection:
        keys = cases_of(connection, numbers)
        set_triage(
            connection,
            keys,
            state,
            author=author,
            note=sanitise_text(note, MAX_NOTE),
            now=time.time(),
            is_true_positive=is_true_positive,
        )
    if not keys:
        raise Problem(404, "Alert not found.")
    return len(keys)


def _found(number: int, service: Service) -> Alert:
    alert = None
    if 0 <= number <= MAX_INT64:
        with service.database.reading() as connection:
            alert = find_alert(connection, number)
    if alert is None:
        raise Problem(404, "Alert not found.")
    return alert


def _view(alert: Alert, *, details: bool) -> AlertView:
    return AlertView(
        id=alert.id,
        chain_id=alert.chain_id,
        alert_id=alert.alert_id,
        name=alert.name,
        description=alert.description,
        reason=alert.reason,
        severity=alert.severity,
        action=Action(alert.action).name,
        transaction_hash=alert.tx_hash,
        from_address=alert.from_address,
        block_number=alert.block_number,
        block_timestamp=alert.block_timestamp,
        orphaned=alert.orphaned,
        model_version=alert.model_version,
        created_at=alert.created_at,
        etherscan_link=transaction_link(alert.chain_id, alert.tx_hash),
        feedback=[FeedbackView(**asdict(one)) for one in alert.feedback],
        gained_usd=alert.gained_usd,
        lost_usd=alert.lost_usd,
        anomaly_score=alert.score if details else None,
        attack_score=alert.attack_score if details else None,
    )
