"""Requests that no client would send, and the headers that every answer carries."""

import asyncio
from typing import Any

from starlette.testclient import TestClient

from tests.service.http.test_security import KEY


def check_headers(headers: dict[str, str]) -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] in {"no-referrer", "same-origin"}
    assert headers["x-request-id"]
    assert "server" not in headers


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        start = messages[0]
        self.status = start["status"]
        self.headers = {n.decode(): v.decode("latin-1") for n, v in start["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])


def asgi(
    client: TestClient,
    path: str,
    *,
    method: str = "GET",
    scheme: str = "http",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    body: bytes = b"",
) -> Answer:
    """A request as a server passes it on: clients tidy up paths before they send them."""
    sent: list[Any] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not given:
            await asyncio.Event().wait()
        return given.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": method, "scheme": scheme, "path": path, "raw_path": b"", "root_path": "",
        "query_string": b"", "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    return Answer(sent)


KEYED = ((b"x-api-key", KEY.encode()),)
