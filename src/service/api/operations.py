"""Health, readiness and metrics."""

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from src.chain.errors import NotFound, SourceError
from src.monitoring import exposition
from src.service.api.common import ServiceDep
from src.service.http.problems import responses

router = APIRouter(tags=["Operations"])


class Health(BaseModel):
    """Liveness of the process."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """Whether requests can be served, and the problems if not."""

    ready: bool
    problems: list[str]


@router.get("/healthz", summary="Liveness probe", responses=responses())
async def healthz() -> Health:
    """Makes no network call: a restart would not fix an external failure."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Readiness probe",
    response_model=Readiness,
    responses=responses() | {503: {"model": Readiness, "description": "Not ready"}},
)
def readyz(service: ServiceDep, response: Response) -> Readiness:
    """Queries the database and the node."""
    problems = [] if service.database.is_ready() else ["the database does not answer"]
    try:
        chain_id = service.node.chain_id()
        if chain_id != service.chain_id:
            problems.append(f"the node serves chain {chain_id}, not {service.chain_id}")
    except (SourceError, NotFound):
        problems.append("the node does not answer")
    if problems:
        response.status_code = 503
    return Readiness(ready=not problems, problems=problems)


@router.get("/metrics", summary="Prometheus metrics of all workers", responses=responses())
def get_metrics() -> Response:
    """In the Prometheus text format."""
    content, media_type = exposition.render()
    return Response(content, headers={"content-type": media_type})
