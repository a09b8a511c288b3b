"""The API held against its own description: strange and hostile input never gives a 5xx."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from src.service.app import create_app
from tests.service.chain import BASE_URL, common_settings, service_settings, sqlite_url

if TYPE_CHECKING:
    import schemathesis

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:ResourceWarning"),
]

TAKE_ANYTHING = {
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /models/fraud",
    "GET /jobs/{job_id}",
    "DELETE /jobs/{job_id}",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("schema")
    # Few blocks at once: each training takes a tenth of a second.
    limits = {"max_blocks": 20, "direct_blocks": 10, "max_jobs": 3}
    app = create_app(service_settings(sqlite_url(folder), **limits), common_settings())
    with TestClient(app, base_url=BASE_URL) as opened:
        yield opened


@pytest.mark.hypothesis
def test_every_answer_is_as_described_and_none_is_our_mistake(
    client: TestClient, subtests: pytest.Subtests
) -> None:
    """Every operation with input as described and, where there is such a thing, with other."""
    import schemathesis  # takes a second, which every process of the tests would pay

    app: Any = client.app
    schema = schemathesis.openapi.from_dict(app.app.openapi())
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:
            if mode.is_positive or operation.label not in TAKE_ANYTHING:
                with subtests.test(f"{operation.label}-{mode.value}"):
                    check(operation, mode, client)


def check(operation: Any, mode: "schemathesis.GenerationMode", client: TestClient) -> None:
    documented = {str(code) for code in operation.definition.raw["responses"]}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=10, suppress_health_check=list(HealthCheck))
    def answered(case: "schemathesis.Case") -> None:
        answer = send(case, client)
        # 503 with Retry-After is an honest answer of a queue that is full.
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        assert str(answer.status_code) in documented, answer.text
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"

    answered()


def send(case: "schemathesis.Case", client: TestClient) -> Any:
    arguments = case.as_transport_kwargs(base_url=BASE_URL)
    arguments.pop("cookies", None)
    headers = {
        name: value.encode("utf-8", "replace")
        for name, value in arguments.pop("headers").items()
        if name.lower() not in {"origin", "host", "content-length"}
    }
    path = arguments.pop("url").removeprefix(BASE_URL)
    return client.request(arguments.pop("method"), path, headers=headers, **arguments)
