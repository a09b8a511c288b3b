"""The ASGI application: routers, error handlers and documentation."""

import base64
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Mount
from starlette.types import Scope

from src.chain.text import in_short
from src.monitoring import metrics
from src.service.api import alerts, analysis, decisions, fraud, models, operations, screening
from src.service.api.description import TITLE, describe, operation_id
from src.service.context import Service
from src.service.database.engine import DatabaseLost, is_unavailable
from src.service.http.middleware import App, RequestChecks
from src.service.http.problems import (
    MEDIA_TYPE,
    Problem,
    our_mistake,
    problem_of_input,
)
from src.service.settings import ServiceSettings, load_service_settings
from src.service.web import add_pages, show_problem
from src.settings import PROJECT_ROOT, Settings
from src.utils.logger import log_to_stderr

logger = logging.getLogger(__name__)

_DOCS_ASSETS: Final = Path(fastapi_offline.__file__).parent / "static"
_INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_ASKED_HEADERS: Final = ("Authorization", "Content-Type", "If-None-Match", "Prefer", "X-API-Key")
_SHOWN_HEADERS: Final = ("ETag", "Link", "Location", "X-Request-ID", "X-Total-Count")


def create_app(settings: ServiceSettings | None = None, common: Settings | None = None) -> App:
    """Build the application; the service opens when the server starts.

    Settings that are not given are read from the environment.
    """
    log_to_stderr()
    settings = settings or load_service_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service.open(settings, common)
        app.state.database = app.state.service.database
        try:
            app.state.service.start()
            yield
        finally:
            app.state.service.close()

    app = FastAPI(
        title=TITLE,
        version=_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
    )
    for router in (
        decisions.router,  # the most wanted, so the first to be matched
        analysis.router,
        screening.router,
        screening.screenings,
        alerts.router,
        fraud.router,
        models.router,
        operations.router,
    ):
        app.include_router(router)
    add_pages(app)
    _add_docs(app)
    _add_error_handlers(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[*_ASKED_HEADERS],
            expose_headers=[*_SHOWN_HEADERS],
        )
    return RequestChecks(app, settings)


def _version() -> str:
    """The project's version, from `package.json`."""
    package = json.loads((PROJECT_ROOT / "package.json").read_text("utf-8"))
    return str(package["version"])


def _add_docs(app: FastAPI) -> None:
    """`/docs` from local files: works without internet access and under a strict CSP."""
    app.mount("/docs/assets", StaticFiles(directory=_DOCS_ASSETS), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{TITLE} API",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )
        scripts = _INLINE_SCRIPT.findall(bytes(page.body).decode())
        hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
        page.headers["content-security-policy"] = (
            f"default-src 'none'; script-src 'self' {hashes}; style-src 'self'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return page

    def openapi() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_error_handlers(app: FastAPI) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        problem = _problem_of(request, error)
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            problem.headers = {"Allow": ", ".join(_methods(app, request.scope))}
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=problem.headers)
        return _shown(request, problem)

    async def on_mistake(request: Request, error: Exception) -> Response:
        del error  # the middleware logs it
        return _shown(request, our_mistake())

    for kind in (Problem, RequestValidationError, HTTPException, DatabaseLost, SQLAlchemyError):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, on_mistake)


def _problem_of(request: Request, error: Exception) -> Problem:
    """What a client is told about an error, which is counted and, if it is the database's, logged.

    Raises:
        Exception: the error, if it is a mistake of ours.
    """
    match error:
        case Problem():
            if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                metrics.error_occurred(error.kind)
            return error
        case RequestValidationError():
            metrics.error_occurred(error)
            return problem_of_input(error)
        case HTTPException(status_code=HTTPStatus.NOT_FOUND):
            return Problem(404, f"{in_short(request.url.path, 80)} does not exist.")
        case HTTPException():
            return Problem(error.status_code, in_short(str(error.detail)), headers=error.headers)
        case DatabaseLost():
            metrics.error_occurred(error)
            return Problem(503, "The database's file was deleted or replaced.")
        case SQLAlchemyError() if is_unavailable(error):
            metrics.error_occurred(error)
            # Without the statement and its values.
            cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
            logger.warning("request %s: the database: %s", request.state.request_id, cause)
            return Problem(503, "The database is unavailable.", headers={"Retry-After": "5"})
        case _:
            raise error


def _shown(request: Request, problem: Problem) -> Response:
    """A problem as a page to those who asked for one, or else as JSON."""
    if request.url.path == "/" or request.url.path.startswith("/ui/"):
        return show_problem(request, problem)
    return JSONResponse(
        problem.document(request.state.request_id),
        problem.status,
        problem.headers,
        media_type=MEDIA_TYPE,
    )


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """The methods of a path, over all of its routes; the framework names only the first's."""

    def is_served(method: str) -> bool:
        # Matching leaves traces in a scope.
        asked = {"type": "http", "path": scope["path"], "root_path": "", "method": method}
        return any(
            route.matches(asked)[0] is Match.FULL
            for route in app.routes
            if method == "GET" or not isinstance(route, Mount)  # of static files
        )

    served = [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if is_served(method)]
    return [*served, *(["HEAD"] if "GET" in served else []), "OPTIONS"]


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
