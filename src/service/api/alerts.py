"""Stored alerts and feedback on them."""

import time
from collections.abc import Collection
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    computed_field,
)

from src.chain.text import sanitise_text
from src.decision.alerts import Severity
from src.detection.records import Action
from src.service.api.common import (
    ABOUT_LINK,
    ADDRESS_PATTERN,
    MAX_INT64,
    ActionName,
    ChainFilter,
    HashField,
    NamedAction,
    Record,
    ServiceDep,
    address_or_none,
    time_of,
    transaction_link,
)
from src.service.api.paging import PAGED, PagingDep
from src.service.api.route import ApiRoute
from src.service.context import Service
from src.service.database.alerts import (
    Alert,
    AlertFilter,
    SortKey,
    State,
    find_alert,
    place_of,
)
from src.service.database.alerts import list_alerts as read_alerts
from src.service.database.cases import cases_of, set_triage, triage_history
from src.service.http.problems import Problem, responses

router = APIRouter(tags=["Alerts"], route_class=ApiRoute)

MAX_NOTE = 500
_AlertNumber = Annotated[int, Path(description="The alert's `id`.")]
_Details = Annotated[bool, Query(description="Also the scores.")]


def _time(description: str) -> Any:
    return Query(ge=0, le=MAX_INT64, description=f"{description}, Unix seconds.")


def _address(description: str) -> Any:
    return Query(
        max_length=100,
        description=description,
        json_schema_extra={"pattern": ADDRESS_PATTERN},  # checked by `address_or_none`
    )


# The second is the old name, accepted for one more release.
_VERDICT_NAMES = AliasChoices("is_true_positive", "is_true_alarm")


class FeedbackView(Record):
    """One person's feedback on an alert."""

    author: str = Field(description="Name of the API key that gave it; `local` without keys.")
    is_true_positive: bool = Field(description="Whether the alert was right.")
    note: str = Field(description="A comment; may be empty.")
    given_at: float = Field(description="Unix seconds.")
    given_at_rfc3339 = time_of("given_at")


class AlertView(Record):
    """An alert about a transaction."""

    id: int = Field(description="Identifies the alert in this service.")
    chain_id: int = Field(description="The transaction's chain.")
    alert_id: str = Field(
        description="Which kind of alert, as in Forta findings.",
        examples=["ANOMALOUS-TOKEN-TRANSFERS-TX"],
    )
    name: str = Field(description="Title of this kind of alert.")
    description: str = Field(description="What happened, in a sentence.")
    reason: str = Field(description="The rules' reasons, or why there is no score; may be empty.")
    severity: Severity = Field(description="How severe, from Info to Critical.")
    action: NamedAction = Field(description="What to do, by the policy.")
    transaction_hash: HashField = Field(validation_alias="tx_hash")
    from_address: str | None = Field(description="The sender, lowercase.")
    block_number: int | None = Field(description="The transaction's block.")
    block_timestamp: int | None = Field(description="Its time, Unix seconds.")
    block_timestamp_rfc3339 = time_of("block_timestamp")
    orphaned: bool = Field(description="The transaction is no longer in the chain.")
    model_version: str = Field(description="Version of the model behind the decision.")
    created_at: float = Field(description="When it was stored, Unix seconds.")
    created_at_rfc3339 = time_of("created_at")
    feedback: list[FeedbackView] = Field(description="One entry a person, oldest first.")
    gained_usd: float | None = Field(
        description="Net gain of the sender's side; null: unknown, which is not zero."
    )
    lost_usd: float | None = Field(
        description="Net loss of the account that lost most; null: unknown, or nobody lost."
    )
    anomaly_score: float | None = Field(
        None, validation_alias="score", description="Only with details=true."
    )
    attack_score: float | None = Field(None, description="Only with details=true.")

    @computed_field(description=ABOUT_LINK)
    def etherscan_link(self) -> str:
        """See its description."""
        return transaction_link(self.chain_id, self.transaction_hash)


class FeedbackRequest(BaseModel):
    """Whether an alert was right."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"is_true_positive": False, "note": "known MEV bot"}]},
    )

    is_true_positive: Annotated[
        StrictBool, Field(validation_alias=_VERDICT_NAMES, description="Whether it was right.")
    ]
    note: Annotated[str, Field(max_length=MAX_NOTE, description="A comment.")] = ""


class TriageRequest(BaseModel):
    """What a person does about the transactions of some alerts."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"alerts": [1], "state": "done", "is_true_positive": True, "note": ""}]
        },
    )

    alerts: Annotated[
        list[Annotated[StrictInt, Field(ge=0, le=MAX_INT64)]],
        Field(min_length=1, max_length=1_000, description="Ids of alerts."),
    ]
    state: State = Field(description="The new state of their transactions.")
    is_true_positive: Annotated[
        StrictBool | None,
        Field(description="Feedback on all alerts of these transactions; null for none."),
    ] = None
    note: Annotated[str, Field(max_length=MAX_NOTE, description="A comment.")] = ""


class Triaged(BaseModel):
    """The result of a triage."""

    transactions: int = Field(description="Number of transactions whose state was set.")


class TriageChangeView(Record):
    """What a person did about a transaction with alerts."""

    state: State = Field(description="The state that they set.")
    is_true_positive: bool | None = Field(description="Their feedback with it; null without.")
    author: str = Field(description="Name of the API key that set it; `local` without keys.")
    note: str = Field(description="A comment; may be empty.")
    changed_at: float = Field(description="Unix seconds.")
    changed_at_rfc3339 = time_of("changed_at")


@router.get("/alerts", summary="Alerts that match", responses=responses() | PAGED)
def list_alerts(
    service: ServiceDep,
    paging: PagingDep,
    since: Annotated[int | None, _time("Earliest block time")] = None,
    until: Annotated[int | None, _time("Latest block time")] = None,
    action: Annotated[ActionName | None, Query(description="Only with this action.")] = None,
    severity: Annotated[Severity | None, Query(description="Only of this severity.")] = None,
    token: Annotated[str | None, _address("Only of transactions that move this token.")] = None,
    sender: Annotated[str | None, _address("Only of this sender's transactions.")] = None,
    alert_id: Annotated[str | None, Query(max_length=100, description="Only of this kind.")] = None,
    with_feedback: Annotated[
        bool | None, Query(description="Only with feedback, or only without.")
    ] = None,
    orphaned: Annotated[
        bool | None, Query(description="Only orphaned alerts, or none of them.")
    ] = None,
    chain_id: ChainFilter = None,
    state: Annotated[State | None, Query(description="Only in this state of triage.")] = None,
    sort: Annotated[SortKey, Query(description="Sort by this; unknown values come last.")] = "time",
    order: Annotated[
        Literal["desc", "asc"], Query(description="Largest or smallest first.")
    ] = "desc",
    details: _Details = False,
) -> list[AlertView]:
    """A page of alerts; `X-Total-Count` is the total number of matches, `Link` the next page."""
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
    last = paging.after(sort, order, float, float)
    with service.database.reading() as connection:
        found, total = read_alerts(
            connection,
            wanted,
            sort=sort,
            descending=order == "desc",
            limit=paging.limit + 1,
            offset=paging.offset,
            after=None if last is None else (last[2], last[3]),
        )
    page = paging.shown(found, total, lambda alert: [sort, order, *place_of(alert, sort)])
    return [_view(alert, details=details) for alert in page]


@router.get("/alerts/{alert}", summary="One alert", responses=responses(404))
def get_alert(alert: _AlertNumber, service: ServiceDep, details: _Details = False) -> AlertView:
    """An alert with its feedback."""
    return _view(_found(alert, service), details=details)


@router.post(
    "/alerts/{alert}/feedback", summary="Say whether an alert was right", responses=responses(404)
)
def give_feedback(
    alert: _AlertNumber, given: FeedbackRequest, service: ServiceDep, request: Request
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
    found = _found(alert, service)
    with service.database.writing() as connection:
        set_triage(
            connection,
            [(found.chain_id, found.tx_hash)],
            "done",
            author=author,
            note=sanitise_text(note, MAX_NOTE),
            now=time.time(),
            is_true_positive=is_true_positive,
            alert=alert,
        )


@router.post(
    "/alerts/triage",
    summary="Set what is done about the transactions of alerts",
    responses=responses(404),
)
def triage_alerts(given: TriageRequest, service: ServiceDep, request: Request) -> Triaged:
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


@router.get(
    "/alerts/{alert}/triage",
    summary="What was done about the transaction of an alert",
    responses=responses(404),
)
def get_triage_history(alert: _AlertNumber, service: ServiceDep) -> list[TriageChangeView]:
    """Newest first; the last hundred changes."""
    found = _found(alert, service)
    with service.database.reading() as connection:
        changes = triage_history(connection, found.chain_id, found.tx_hash)
    return [TriageChangeView.model_validate(one) for one in changes]


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
    view = AlertView.model_validate(alert)
    hidden = {} if details else {"anomaly_score": None, "attack_score": None}
    return view.model_copy(update=hidden)
