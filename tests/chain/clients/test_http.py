"""A client's environment (proxies and ~/.netrc, as other programs do), and keys in its messages."""

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from src.chain.clients.http import HttpClient
from src.chain.errors import RequestRefused, SourceUnavailable
from tests.support import raw_server


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def ask(url: str) -> Any:
    client = HttpClient("node", url, timeout=30, max_bytes=1_000)
    try:
        return client.get("/path")
    finally:
        client.close()


def test_the_environments_proxy_is_used(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/path").respond_with_json({"by": "proxy"})
    monkeypatch.setenv("HTTP_PROXY", httpserver.url_for(""))
    assert ask("http://node.invalid") == {"by": "proxy"}


def test_a_line_break_after_the_url_is_no_part_of_it(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/key/path").respond_with_json({"known": True})
    assert ask(httpserver.url_for("/key") + "\n") == {"known": True}


@pytest.mark.parametrize("tail", ["/list/", "/list?key=aGV4/", "/list"])
def test_a_url_is_requested_as_it_is(tail: str, httpserver: HTTPServer) -> None:
    """Many servers redirect `/list` to `/list/`, and redirects are not followed."""
    path, _, query = tail.partition("?")
    httpserver.expect_request(path, query_string=query).respond_with_json({"known": True})
    client = HttpClient("node", httpserver.url_for(tail), timeout=30, max_bytes=1_000)
    assert client.get() == client.exchange({}).answer == {"known": True}
    client.close()


@pytest.mark.parametrize("blank", [" ", "\n", "\t", "\u200b"])
def test_a_url_with_a_blank_in_it_is_refused(blank: str) -> None:
    with pytest.raises(ValueError, match="the URL must be"):
        ask(f"http://one.invalid{blank}http://two.invalid")


def test_a_host_that_needs_no_proxy_is_reached_without_one(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/path").respond_with_json({})
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", httpserver.host)
    assert ask(httpserver.url_for("").rstrip("/")) == {}


def test_the_body_of_a_redirect_is_not_read() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 1000000\r\n\r\n"

    def redirect(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(head)
        stop.wait()

    with raw_server.raw_server(redirect) as url, pytest.raises(RequestRefused, match="redirects"):
        ask(url)


def test_credentials_of_netrc_are_sent(httpserver: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(f"machine {httpserver.host} login ann password secret\n")
    expected = {"Authorization": "Basic YW5uOnNlY3JldA=="}
    httpserver.expect_request("/path", headers=expected).respond_with_json({"known": True})
    assert ask(httpserver.url_for("").rstrip("/")) == {"known": True}


def test_a_closed_port_and_a_slow_server_are_told_apart() -> None:
    with pytest.raises(SourceUnavailable, match="connection failed"):
        ask("http://127.0.0.1:9")
    with raw_server.raw_server(raw_server.hang) as url, pytest.raises(SourceUnavailable) as caught:
        HttpClient("node", url, timeout=0.1, max_bytes=1).get()
    assert caught.value.problem == "timed out"


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_connection_is_kept_whatever_the_status(status: int) -> None:
    ports = []

    class Keeping(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            ports.append(self.client_address[1])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        client = HttpClient("node", url, timeout=30, max_bytes=1_000)
        for _ in range(3):
            assert client.exchange({}).status == status
        client.close()
        server.shutdown()
    assert ports == ports[:1] * 3


@pytest.mark.parametrize(
    ("url", "echo"),
    [
        ("http://host/PLANTED-path", "/PLANTED-path"),
        ("http://host/PLANTED|path", "/PLANTED%7Cpath"),
        ("http://host/?token=PLANTED%2Bquery", "/?token=PLANTED%2Bquery PLANTED+query"),
        ("http://host/?k=PLANTED+query", "/?k=PLANTED+query PLANTED query"),
        ("http://host/?PLANTED-bare", "/?PLANTED-bare"),
        ("http://ann:PLANTED-word@host/", "Authorization: Basic YW5uOlBMQU5URUQtd29yZA=="),
        ("http://PLANTED:PLANTED-word@host/", "PLANTED-word PLANTED"),
        ("http://host/?a=PLANTED&b=PLANTED-query", "PLANTED-query"),
    ],
)
def test_a_key_is_not_repeated_in_any_form_of_a_url(url: str, echo: str) -> None:
    said = HttpClient("node", url, timeout=1.0, max_bytes=1).quote(f"refused: {echo}")
    assert "***" in said
    assert not any(part in said for part in ("PLANTED", "path", "query", "word", "YW5u"))
