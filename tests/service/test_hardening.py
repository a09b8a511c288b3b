"""What a stranger can try on the service: every route, every answer, every way out of it."""

import asyncio
import gzip
import json
import logging
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import uvicorn
from fastapi.routing import iter_route_contexts
from pytest_httpserver import HTTPServer
from starlette.testclient import TestClient

from src.chain.clients import transport
from src.service.app import create_app
from src.service.http import protocol
from src.service.http.security import OPEN_PATHS
from src.service.settings import load_service_settings
from src.service.watch.notify import Webhook
from tests.service.chain import BASE_URL, THEFT, common_settings, service_settings, sqlite_url
from tests.service.test_security import KEY, keyed
from tests.support import raw_server
from tests.support.waiting import FOR_EVER, PATIENCE

FILLED = {"{tx_hash}": THEFT, "{alert}": "1", "{path:path}": "x"}


def routes() -> list[tuple[str, str]]:
    """Method and path of all that the application answers, mounted files included."""
    guarded: Any = create_app(service_settings("sqlite:///unused.db"), common_settings())
    found = []
    for context in iter_route_contexts(guarded.app.routes):
        path = str(context.path)
        if context.methods is None:
            path = f"{path}/style.css"  # a folder of files
        for marker, value in FILLED.items():
            path = path.replace(marker, value)
        path = re.sub(r"{\w+}", "a" * 32, path)
        found += [(method, path) for method in sorted(context.methods or {"GET", "HEAD"})]
    return found


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("hardening")
    settings = service_settings(
        sqlite_url(folder), host="0.0.0.0", api_keys=keyed(), max_body_bytes=100_000
    )
    app = create_app(settings, common_settings())
    with TestClient(app, base_url=BASE_URL, follow_redirects=False) as opened:
        yield opened


# Keys


def test_the_list_of_routes_is_whole() -> None:
    paths = {path for _, path in routes()}
    assert {"/decisions", "/ui/", "/docs", "/metrics", "/openapi.json", "/healthz"} <= paths
    assert {"/ui/static/style.css", "/docs/assets/style.css"} <= paths
    assert len(routes()) >= 30


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_asks_for_a_key_or_is_a_probe(
    public: TestClient, method: str, path: str
) -> None:
    answer = public.request(method, path)
    if path in OPEN_PATHS:
        assert answer.status_code == 200
        assert set(answer.json()) <= {"status", "ready", "problems"}
    else:
        assert answer.status_code == 401
        assert "script" not in answer.text


def test_no_more_is_open_than_the_probes() -> None:
    assert set(OPEN_PATHS) == {"/healthz", "/readyz"}


@pytest.mark.parametrize("path", ["/healthz/", "/HEALTHZ", "/healthz/../alerts", "//healthz"])
def test_what_only_looks_like_a_probe_asks_for_a_key(public: TestClient, path: str) -> None:
    assert asgi(public, path).status == 401


# Headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/", 200),
        ("/alerts", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/metrics", 200),
        ("/", 307),
        ("/ui/static/style.css", 200),
        ("/docs/assets/swagger-ui.css", 200),
        ("/ui/static/none", 404),
        ("/none", 404),
        ("/alerts?limit=x", 422),
        ("/ui/alerts?page=x", 400),
        ("/decisions", 405),
    ],
)
def test_every_answer_carries_the_headers(public: TestClient, path: str, status: int) -> None:
    answer = public.get(path, headers={"X-API-Key": KEY})
    assert answer.status_code == status
    check_headers(dict(answer.headers))


def test_answers_of_the_outermost_layer_carry_the_headers(public: TestClient) -> None:
    check_headers(dict(public.get("/alerts").headers))
    check_headers(dict(public.get("/alerts", headers={"X-API-Key": "wrong"}).headers))


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


def test_over_tls_browsers_are_told_to_stay_there(public: TestClient) -> None:
    secure = asgi(public, "/healthz", scheme="https")
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in asgi(public, "/healthz").headers


# Paths, bodies, logs


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


@pytest.mark.parametrize("base", ["/ui/static/", "/docs/assets/"])
@pytest.mark.parametrize(
    "name",
    ["../pages.py", "../../../settings.py", "..\\pages.py", "/etc/passwd", "//etc/passwd", "..",
     "./../templates/base.html", "x\0.css", "a" * 5_000],
)  # fmt: skip
def test_no_path_leads_out_of_the_static_files(public: TestClient, base: str, name: str) -> None:
    answer = asgi(public, base + name, headers=KEYED)
    assert answer.status == 404
    assert b"import" not in answer.body


@pytest.mark.parametrize(
    "path",
    ["/jobs/../alerts", "/jobs/..%2f..", "/ui/analyses/../../x", "/ui/jobs/" + "/" * 50,
     "/alerts/1/../2", "/ui/transactions/" + "0x" + "g" * 64],
)  # fmt: skip
def test_no_id_is_a_path(public: TestClient, path: str) -> None:
    assert asgi(public, path, headers=KEYED).status in {404, 422}


def test_a_compressed_body_is_not_unpacked(public: TestClient) -> None:
    bomb = gzip.compress(b'{"logs": [' + b" " * 50_000_000 + b"]}")
    headers = {"X-API-Key": KEY, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = public.post("/decisions", content=bomb, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/a\r\nERROR forged", "/ui/\x1b[2J", "/ui/\u202ex", "/\x00"])
def test_no_path_reaches_the_log_or_a_page_as_it_is(
    public: TestClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("src").addHandler(caplog.handler)
    try:
        answer = asgi(public, path, headers=(*KEYED, (b"x-request-id", b"x\r\nERROR forged")))
    finally:
        logging.getLogger("src").removeHandler(caplog.handler)
    assert answer.status == 404
    assert "forged" not in caplog.text
    assert path.rpartition("/")[2] not in answer.body.decode()


def test_a_mistake_of_ours_says_nothing_of_itself(
    public: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("planted-secret in an exception")

    monkeypatch.setattr("src.service.api.alerts.list_alerts", fail)
    answer = public.get("/alerts", headers={"X-API-Key": KEY})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "planted-secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    check_headers(dict(answer.headers))


# Heads of requests, on a real socket


@contextmanager
def served(patience: float) -> Iterator[tuple[str, int]]:
    """The server's address; it waits so many seconds for a request's head."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    class Protocol(protocol.BoundedProtocol):
        head_seconds = patience

    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(
        uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_level="error")
    )
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()
    running.should_exit = True
    thread.join(PATIENCE)
    listening.close()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    with served(FOR_EVER) as address:
        yield address


def exchange(address: tuple[str, int], *parts: bytes) -> bytes:
    with socket.create_connection(address, PATIENCE) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it has hung up
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"GET /", b"a" * 65_536),
        (HEAD + b"X-Long: ", b"a" * 65_536),
        (HEAD, b"X-Many: aaaaaaaaaaaa\r\n" * 3_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 65_536 + b"\r\na\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ", b"a" * 65_536),
    ],
    ids=["line", "header", "headers", "chunk extensions", "trailer"],
)
def test_an_endless_head_is_not_kept(server: tuple[str, int], start: bytes, endless: bytes) -> None:
    answer = exchange(server, start, *[endless] * 64)
    assert b" 200 " not in answer
    assert not answer or answer.split(b" ", 2)[1] in {b"431", b"400"}


def test_a_head_that_never_ends_is_not_waited_for() -> None:
    with served(0.2) as address, socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(HEAD)
        assert b" 408 " in connection.recv(1000)
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("size", [0, 10, 60_000, 2_000_000])
def test_an_honest_request_is_heard_twice_on_one_connection(
    server: tuple[str, int], size: int
) -> None:
    body = b"a" * size
    plain = HEAD + b"Content-Length: %d\r\n\r\n" % size + body
    pieces = [body[at : at + 16_384] for at in range(0, size, 16_384)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    chunked = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    chunked += b"0\r\n\r\n"
    answer = exchange(server, plain, chunked)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"\r\n\r\n%d" % size) + answer.count(b"\r\n%d\r\n" % size) == 2


# Ways out


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
     "169.254.169.254", "169.254.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255",
     "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
     "2001:0:7f00:1::", "2001:db8::1", "::127.0.0.1", "no address", ""],
)  # fmt: skip
def test_an_address_within_is_private(address: str) -> None:
    assert not transport.is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert transport.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "017700000001"]
)
def test_a_webhook_does_not_reach_this_machine(httpserver: HTTPServer, host: str) -> None:
    httpserver.expect_request("/").respond_with_data("")
    webhook = Webhook(f"http://{host}:{httpserver.port}/", "secret")
    assert webhook.send(an_alert()) == PRIVATE
    assert httpserver.log == []


PRIVATE = "private address, see WEBHOOK_ALLOW_PRIVATE"


def test_a_webhook_reaches_a_private_network_where_that_is_wanted(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("")
    webhook = Webhook(httpserver.url_for("/"), "secret", allow_private=True)
    assert webhook.send(an_alert()) is None


def test_a_redirect_is_not_followed(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("", 302, {"Location": "/inside"})
    webhook = Webhook(httpserver.url_for("/"), "secret", allow_private=True)
    assert webhook.send(an_alert()) == "HTTP 302"
    assert [request.path for request, _ in httpserver.log] == ["/"]


def test_a_receiver_that_never_ends_its_head_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("src.service.watch.notify._TIMEOUT", 0.2)
    with raw_server.raw_server(raw_server.drip_head) as url:
        assert Webhook(url, "secret", allow_private=True).send(an_alert()) == "timed out"


def test_an_answer_without_end_is_not_read() -> None:
    with raw_server.raw_server(raw_server.endless_body) as url:
        assert Webhook(url, "secret", allow_private=True).send(an_alert()) is None


def test_a_receiver_gets_the_address_that_was_given(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hooks/a/", query_string="key=b/").respond_with_data("")
    webhook = Webhook(httpserver.url_for("/hooks/a/?key=b/"), "secret", allow_private=True)
    assert webhook.send(an_alert()) is None


def an_alert() -> Any:
    from src.service.database.alerts import Alert

    fields = dict.fromkeys(Alert.__dataclass_fields__)
    return Alert(**(fields | {"id": 1, "action": 2, "chain_id": 1, "tx_hash": THEFT}))  # type: ignore[arg-type]


Resolver = Callable[..., list[Any]]


@contextmanager
def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """A name server whose answers change from one question to the next."""
    asked: list[str] = []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        given = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in given]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield asked


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with resolving(monkeypatch, ["1.1.1.1", "127.0.0.1"]):
        answer = Webhook("http://both.example/", "secret").send(an_alert())
    assert answer == PRIVATE


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    """DNS rebinding: a public address when it is checked, this machine a moment later."""
    httpserver.expect_request("/").respond_with_data("")
    connected: list[str] = []

    def connect(_: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError

    url = f"http://rebinding.example:{httpserver.port}/"
    with resolving(monkeypatch, ["93.184.216.34"], ["127.0.0.1"]) as asked:
        monkeypatch.setattr(socket.socket, "connect", connect)
        assert Webhook(url, "secret").send(an_alert()) == "connection failed (ConnectionError)"
    assert connected == ["93.184.216.34"]
    assert asked == ["rebinding.example"]
    assert httpserver.log == []


def certified(name: str, folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for a name that signs itself, and a server's context with it."""
    bundle, private = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", str(private), "-out", str(bundle)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, private)
    return bundle, context


@pytest.mark.skipif(which("openssl") is None, reason="NO OPENSSL: TLS of webhooks was not tried")
def test_tls_still_proves_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle, context = certified("hooks.example", tmp_path)
    monkeypatch.setattr(transport, "is_public", lambda _: True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
        server.expect_request("/").respond_with_data("")
        with resolving(monkeypatch, ["127.0.0.1"]):
            good = Webhook(f"https://hooks.example:{server.port}/", "secret").send(an_alert())
            other = Webhook(f"https://other.example:{server.port}/", "secret").send(an_alert())
        heard = [request.host for request, _ in server.log]
    assert (good, other) == (None, "connection failed (SSLError)")
    assert heard == [f"hooks.example:{server.port}"]


def test_receivers_are_public_unless_the_operator_says_otherwise() -> None:
    assert load_service_settings({}).webhook_allow_private is False
    assert load_service_settings({"WEBHOOK_ALLOW_PRIVATE": "true"}).webhook_allow_private is True


def test_no_request_to_the_api_names_an_address_to_call() -> None:
    """Nothing that a caller sends is called: there is no such input."""
    guarded: Any = create_app(service_settings("sqlite:///unused.db"), common_settings())
    described = json.dumps(guarded.app.openapi()["components"]["schemas"]).lower()
    inputs = {"analysisrequest", "transactionevent", "feedbackrequest", "rawlog"}
    assert all(f'"{name}"' in described for name in inputs)
    for name in inputs:
        (schema,) = [
            one
            for key, one in guarded.app.openapi()["components"]["schemas"].items()
            if key.lower() == name
        ]
        assert not [field for field in schema["properties"] if "url" in field.lower()]
