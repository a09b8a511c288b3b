"""Health, readiness and metrics."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response

from src.monitoring import exposition
from src.service.api.common import ServiceDep
from src.service.api.route import ApiRoute
from src.service.http.problems import responses

router = APIRouter(tags=["Operations"], route_class=ApiRoute)


class Health(BaseModel):
    """Liveness of the process."""

    status: Literal["ok"] = Field(description="Always ok: the process answers.")


class Readiness(BaseModel):
    """Whether requests can be served, and the problems if not."""

    ready: bool = Field(description="Whether requests can be served.")
    problems: list[str] = Field(description="What is wrong, in words; empty if ready.")


@router.get("/healthz", summary="Liveness probe", responses=responses())
async def get_health() -> Health:
    """Makes no network call: a restart would not fix an external failure."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Readiness probe",
    response_model=Readiness,
    responses=responses() | {503: {"model": Readiness, "description": "Not ready"}},
)
def get_readiness(service: ServiceDep, response: Response) -> Readiness:
    """Queries the database, and the node unless it was asked within the last seconds."""
    problems = [] if service.database.is_ready() else ["the database does not answer"]
    state = service.node_health.state()  # anybody may ask here, and each node has its limit
    if problem := "does not answer" if state is None else state.problem:
        problems.append(f"the node {problem}")
    if problems:
        response.status_code = 503
    return Readiness(ready=not problems, problems=problems)


@router.get(
    "/metrics",
    summary="Prometheus metrics of all workers",
    response_class=PlainTextResponse,
    responses=responses(),
)
def get_metrics() -> Response:
    """In the Prometheus text format."""
    content, media_type = exposition.render()
    return Response(content, headers={"content-type": media_type})
