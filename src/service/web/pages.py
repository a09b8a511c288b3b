"""The routes of the web pages."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from src.chain.networks import described
from src.service.api.alerts import MAX_NOTE, save_feedback
from src.service.api.analysis import cancel_job as end_job
from src.service.api.analysis import get_job
from src.service.api.common import checked_address, service_of
from src.service.api.route import ApiRoute
from src.service.http.problems import Problem
from src.service.screening import page as screenings
from src.service.web import alerts, models, overview, ranges
from src.service.web.explorer import pages as explorer
from src.service.web.explorer import search as search_page
from src.service.web.forms import back_to, check_token, fields, keep_token, token_of
from src.service.web.rendering import STATIC, KeptFiles, explorer_of, page, problem_page
from src.service.web.transaction import view as transaction

_Text = Annotated[str, Form(max_length=2_000)]
_Id = Annotated[str, Path(pattern="^[0-9A-Za-z-]{1,64}$")]
_Given = Mapping[str, str]


router = APIRouter(include_in_schema=False, route_class=ApiRoute)


def add_pages(app: FastAPI) -> None:
    """Add the pages and their static files to the application."""
    app.mount("/ui/static", KeptFiles(directory=STATIC), name="ui-static")
    app.include_router(router)


@router.get("/")
def home() -> Response:
    """Redirects to the overview."""
    return RedirectResponse("/ui/", 307)


@router.get("/ui/")
def show_overview(
    request: Request, query: Annotated[_Given, fields("span", "since", "until")]
) -> Response:
    """Recent results."""
    values = overview.read(service_of(request), query)
    return _shown(request, "overview.html", "overview", values)


@router.get("/ui/alerts")
def show_alerts(
    request: Request, query: Annotated[_Given, fields(*alerts.FIELDS, "page")]
) -> Response:
    """Alerts by transaction, with filter, sorting and triage."""
    values = alerts.read(service_of(request), query)
    return _shown(request, "alerts.html", "alerts", values)


@router.get("/ui/alerts.{kind}")
def export_alerts(
    request: Request,
    kind: Literal["csv", "json"],
    query: Annotated[_Given, fields(*alerts.FIELDS)],
) -> Response:
    """The alerts that the page would list, all pages of it, as a file."""
    return alerts.export(service_of(request), query, kind)


@router.post("/ui/triage")
def post_triage(
    request: Request,
    mark: _Text,
    alert: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    csrf: _Text = "",
    note: Annotated[str, Form(max_length=MAX_NOTE)] = "",
    back: _Text = "",
) -> Response:
    """Sets the state of the transactions of the ticked alerts, then returns to the page."""
    check_token(request, csrf)
    author = request.state.client_name
    alerts.mark(service_of(request), alert, mark, author=author, note=note)
    return RedirectResponse(back_to(back), 303)


@router.post("/ui/alerts/{alert}/feedback")
def post_feedback(
    request: Request,
    alert: int,
    verdict: Annotated[Literal["true", "false"], Form()],
    csrf: _Text = "",
    note: Annotated[str, Form(max_length=MAX_NOTE)] = "",
    back: _Text = "",
) -> Response:
    """Stores feedback on an alert, then returns to the page it came from."""
    check_token(request, csrf)
    save_feedback(
        service_of(request),
        alert,
        author=request.state.client_name,
        is_true_positive=verdict == "true",
        note=note,
    )
    return RedirectResponse(back_to(back), 303)


@router.get("/ui/screenings")
def show_screenings(
    request: Request, query: Annotated[_Given, fields("action", "before")]
) -> Response:
    """Decisions on transactions before they were mined."""
    values = screenings.read(service_of(request).database, query)
    return _shown(request, "screenings.html", "screenings", values | {"held": ()})


@router.get("/ui/screenings/{uuid}")
def show_screening(request: Request, uuid: _Id) -> Response:
    """One of them."""
    values = screenings.read_one(service_of(request).database, uuid)
    return _shown(request, "screening.html", "screenings", values)


@router.get("/ui/search")
def search(request: Request, q: str = "") -> Response:
    """What a text leads to, or what the search takes."""
    found = search_page.find(service_of(request), q)
    if isinstance(found, str):
        return RedirectResponse(found, 303)
    return _shown(request, "search.html", "search", found)


@router.get("/ui/addresses/{address}")
def show_account(
    request: Request, address: str, query: Annotated[_Given, fields("chain", "page")]
) -> Response:
    """What is stored of an account."""
    account = checked_address("address", address)
    values = explorer.read_account(service_of(request), account, query)
    return _shown(request, "account.html", "account", values)


@router.get("/ui/tokens/{address}")
def show_token(
    request: Request, address: str, query: Annotated[_Given, fields("chain", "page")]
) -> Response:
    """What is stored of a token."""
    token = checked_address("address", address)
    values = explorer.read_token(service_of(request), token, query)
    return _shown(request, "token.html", "token", values)


@router.get("/ui/transactions/{tx_hash}")
def show_transaction(request: Request, tx_hash: str) -> Response:
    """One transaction."""
    values = transaction.read(service_of(request), transaction.checked_hash(tx_hash))
    return _shown(request, "transaction.html", "transaction", values)


@router.get("/ui/ranges")
def show_ranges(
    request: Request, query: Annotated[_Given, fields("start_block", "end_block", "model")]
) -> Response:
    """The form for a range of blocks, and earlier ones."""
    values = ranges.read(service_of(request), query)
    return _shown(request, "ranges.html", "ranges", values)


@router.post("/ui/ranges")
def start_range(
    request: Request,
    csrf: _Text = "",
    start_block: _Text = "",
    end_block: _Text = "",
    model: _Text = "",
) -> Response:
    """Starts an analysis as a job; shows the form again, as it was filled, if that fails."""
    check_token(request, csrf)
    service = service_of(request)
    try:
        job = ranges.start(service, start_block, end_block, use_pre_trained_model=model == "latest")
    except Problem as problem:
        given = {"start_block": start_block, "end_block": end_block, "model": model}
        values = ranges.read(service, given, problem)
        response = _shown(request, "ranges.html", "ranges", values)
        response.status_code = problem.status
        response.headers.update(problem.headers)
        return response
    return RedirectResponse(f"/ui/jobs/{job}", 303)


@router.get("/ui/jobs/{job_id}")
def show_job(request: Request, job_id: str) -> Response:
    """A job's progress, or its result once it is done."""
    job = get_job(job_id, service_of(request))
    if job.analysis is not None:
        return RedirectResponse(f"/ui/analyses/{job.analysis}", 303)
    return _shown(request, "job.html", "ranges", {"job": job})


@router.post("/ui/jobs/{job_id}/cancel")
def cancel_job(request: Request, job_id: str, csrf: _Text = "") -> Response:
    """Cancels a job."""
    check_token(request, csrf)
    end_job(job_id, service_of(request))
    return RedirectResponse(f"/ui/jobs/{job_id}", 303)


@router.get("/ui/analyses/{identity}.{kind}")
def export_analysis(
    request: Request,
    identity: _Id,
    kind: Literal["csv", "json"],
    query: Annotated[_Given, fields(*ranges.FIELDS)],
) -> Response:
    """All rows of an analysis as a file."""
    return ranges.export(service_of(request), identity, query, kind)


@router.get("/ui/analyses/{identity}")
def show_analysis(
    request: Request, identity: _Id, query: Annotated[_Given, fields(*ranges.FIELDS, "page")]
) -> Response:
    """The plots and anomalies of an analysis."""
    values = ranges.read_analysis(service_of(request), identity, query)
    return _shown(request, "analysis.html", "ranges", values)


@router.get("/ui/models")
def show_models(request: Request) -> Response:
    """The models and their evaluation."""
    return _shown(request, "models.html", "models", models.read(service_of(request)))


def _shown(request: Request, template: str, section: str, values: dict[str, Any]) -> Response:
    service, token = service_of(request), token_of(request)
    query = f"?{request.url.query}" if request.url.query else ""
    response = page(
        template,
        service.names,
        section=section,
        csrf=token,
        here=f"{request.url.path}{query}",
        is_demo=service.is_demo,
        chain=described(service.chain_id),
        explorer=explorer_of(service.chain_id, is_demo=service.is_demo),
        **values,
    )
    keep_token(request, response, token)
    return response


def show_problem(request: Request, problem: Problem) -> Response:
    """What went wrong with a page."""
    service = service_of(request)
    return problem_page(
        problem,
        service.names,
        request.state.request_id,
        section="",
        is_demo=service.is_demo,
        chain=described(service.chain_id),
    )
