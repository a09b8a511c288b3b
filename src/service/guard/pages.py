"""The guard's pages: screenings, and what is held for review. Metrics and probes beside them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, FastAPI, Form, Request
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from src.chain.names.book import AddressBook
from src.chain.networks import described
from src.chain.text import in_short
from src.monitoring import exposition
from src.service.api import screening
from src.service.api.route import ApiRoute
from src.service.guard.decisions import Decisions
from src.service.guard.gate import Rules
from src.service.guard.upstream import Upstream, UpstreamError
from src.service.http.problems import MEDIA_TYPE, Problem
from src.service.screening import page as screenings
from src.service.web.forms import check_token, fields, keep_token, token_of
from src.service.web.rendering import STATIC, KeptFiles, explorer_of, page, problem_page

_CHAIN_ID: Final = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
_MAX_ANSWER: Final = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pages show."""

    decisions: Decisions  # of the guard
    rules: Rules  # that it follows
    chain_id: int  # of the node
    upstream: Upstream  # the node
    names: AddressBook  # the chain's address book


def pages(shown: Shown) -> FastAPI:
    """The application of everything that is not JSON-RPC; the node is open while it runs."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with shown.upstream:
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/ui/static", KeptFiles(directory=STATIC), name="ui-static")
    _add_errors(app, shown)
    _add_operations(app, shown)
    _add_pages(app, shown)
    app.state.database = shown.decisions.database
    app.include_router(screening.screenings, dependencies=[Depends(shown.decisions.flush)])
    return app


def _add_errors(app: FastAPI, shown: Shown) -> None:
    @app.exception_handler(Problem)
    async def on_problem(request: Request, problem: Problem) -> Response:
        if request.url.path.startswith("/ui/"):
            return problem_page(problem, shown.names, request.state.request_id, **_values(shown))
        document = problem.document(request.state.request_id)
        return JSONResponse(document, problem.status, problem.headers, media_type=MEDIA_TYPE)

    app.add_exception_handler(HTTPException, http_exception_handler)  # type: ignore[arg-type]


def _add_operations(app: FastAPI, shown: Shown) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        problem = await _chain_problem(shown.upstream, shown.chain_id)
        response.status_code = 503 if problem else 200
        return {"ready": not problem, "problems": [problem] if problem else []}

    @app.get("/metrics")
    def metrics() -> Response:
        content, media_type = exposition.render()
        return Response(content, headers={"content-type": media_type})


def _add_pages(app: FastAPI, shown: Shown) -> None:
    router = APIRouter(route_class=ApiRoute)

    @router.get("/")
    @router.get("/ui/")
    def home() -> Response:
        return RedirectResponse("/ui/screenings", 307)

    decisions = shown.decisions

    @router.get("/ui/screenings")
    def listed(
        request: Request, query: Annotated[Mapping[str, str], fields("action", "before")]
    ) -> Response:
        decisions.flush()
        values = screenings.read(decisions.database, query)
        held = {one.uuid for one in values["screenings"] if decisions.is_held(one.uuid)}
        return _shown(request, shown, "screenings.html", values | {"held": held})

    @router.get("/ui/screenings/{identity}")
    def one(request: Request, identity: str) -> Response:
        decisions.flush()
        held = decisions.is_held(identity)
        values = screenings.read_one(decisions.database, identity, is_held=held)
        return _shown(request, shown, "screening.html", values)

    @router.post("/ui/screenings/{identity}/{verdict}")
    async def decide(
        request: Request,
        identity: str,
        verdict: Literal["release", "drop"],
        csrf: Annotated[str, Form(max_length=2_000)] = "",
    ) -> Response:
        check_token(request, csrf)
        text = decisions.take(identity)
        if text is None:
            raise Problem(409, "This transaction does not wait any more.")
        if verdict == "drop":
            decisions.drop(identity)
        else:
            decisions.released(identity, await _release(shown.upstream, text))
        return RedirectResponse(f"/ui/screenings/{identity}", 303)

    app.include_router(router)


async def _release(upstream: Upstream, text: str) -> str:
    """Pass a held call on, once; what the node answers."""
    try:
        answer = await upstream.ask(text.encode(), {}, again=False)
    except UpstreamError as error:
        return f"{error}; it may have received the transaction"
    return in_short(answer, _MAX_ANSWER)


async def _chain_problem(upstream: Upstream, chain_id: int) -> str | None:
    """Why the node cannot be used, or None."""
    try:
        answer = json.loads(await upstream.ask(_CHAIN_ID, {}, again=True))
        found = int(answer["result"], 16)
    except UpstreamError:
        return "the node does not answer"
    except (ValueError, TypeError, KeyError):
        return "the node does not say its chain"
    return None if found == chain_id else f"the node serves chain {found}, not {chain_id}"


def _shown(request: Request, shown: Shown, template: str, values: dict[str, Any]) -> Response:
    token = token_of(request)
    explorer = explorer_of(shown.chain_id, is_demo=False)
    response = page(
        template, shown.names, explorer=explorer, csrf=token, **_values(shown), **values
    )
    keep_token(request, response, token)
    return response


def _values(shown: Shown) -> dict[str, Any]:
    """Of all pages."""
    return {"is_demo": False, "chain": described(shown.chain_id), "rules": shown.rules}
