"""What generators of clients need from `/openapi.json`."""

from collections.abc import Iterator
from typing import Any

import pytest

from src.service.api.route import ApiRoute
from src.service.app import create_app
from tests.service.chain import common_settings, service_settings

TIMES = ("created_at", "started_at", "finished_at", "given_at", "decided_at", "block_timestamp",
         "in_use_since")  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    guarded: Any = create_app(service_settings("sqlite:///unused.db"), common_settings())
    described: dict[str, Any] = guarded.app.openapi()
    return described


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_operations_have_ids_that_read_well(schema: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(ids) == len(set(ids))
    assert {"listAlerts", "getAlert", "giveFeedback", "detectAnomalies", "decideTransaction"} <= {
        *ids
    }
    assert all(one.isalpha() and one[0].islower() for one in ids)


def test_every_member_and_parameter_is_described(schema: dict[str, Any]) -> None:
    members = [
        (name, member)
        for name, model in schema["components"]["schemas"].items()
        for member, about in model.get("properties", {}).items()
        if not about.get("description")
    ]
    parameters = [
        (operation["operationId"], parameter["name"])
        for _, _, operation in operations(schema)
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]
    assert (members, parameters) == ([], [])


def test_beside_each_unix_time_stands_its_rfc_3339_form(schema: dict[str, Any]) -> None:
    models = schema["components"]["schemas"]
    assert "created_at" in models["AlertView"]["properties"]
    for name, model in models.items():
        members = model.get("properties", {})
        for time in set(TIMES) & set(members):
            twin = members.get(f"{time}_rfc3339")
            assert twin, (name, time)
            assert "date-time" in str(twin)


def test_errors_are_problem_details_and_metrics_are_text(schema: dict[str, Any]) -> None:
    for _, _, operation in operations(schema):
        for status, answer in operation["responses"].items():
            if status >= "400" and status != "503":  # readiness has its own 503
                (content,) = answer["content"].items()
                assert content[0] == "application/problem+json"
                assert content[1]["schema"]["$ref"].endswith("/ProblemDocument")
    metrics = schema["paths"]["/metrics"]["get"]["responses"]["200"]
    assert list(metrics["content"]) == ["text/plain"]


def test_errors_of_bodies_are_described_where_there_is_a_body(schema: dict[str, Any]) -> None:
    for path, _, operation in operations(schema):
        has_body = "requestBody" in operation
        assert ("415" in operation["responses"]) is has_body, path
        assert ("413" in operation["responses"]) is has_body, path


def test_hashes_ids_and_addresses_have_patterns(schema: dict[str, Any]) -> None:
    text = {
        (operation["operationId"], one["name"]): str(one)
        for _, _, operation in operations(schema)
        for one in operation.get("parameters", [])
    }
    assert "^0x[0-9a-fA-F]{64}$" in text["getDecision", "tx_hash"]
    assert "^0x[0-9a-fA-F]{40}$" in text["listAlerts", "sender"]
    assert "^0x[0-9a-fA-F]{40}$" in text["listAlerts", "token"]
    assert "^[0-9a-f]{32}$" in text["getJob", "job_id"]


def test_every_operation_is_held_to_the_conventions(schema: dict[str, Any]) -> None:
    """A router without the route class would accept misspelt parameters."""
    guarded: Any = create_app(service_settings("sqlite:///unused.db"), common_settings())
    described = set(schema["paths"])
    routers = [
        route.original_router for route in guarded.app.routes if hasattr(route, "original_router")
    ]
    routes = [route for router in routers for route in router.routes if route.include_in_schema]
    assert {route.path for route in routes} == described
    assert [route.path for route in routes if not isinstance(route, ApiRoute)] == []
