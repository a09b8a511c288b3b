"""Webhooks reach the receivers that the operator allowed, and nothing else."""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from src.chain.clients import transport
from src.service.app import create_app
from src.service.settings import load_service_settings
from src.service.watch.message import Notice
from src.service.watch.notify import Webhook
from tests.service.chain import common_settings, service_settings
from tests.support import raw_server


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
     "169.254.169.254", "169.254.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255",
     "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
     "2001:0:7f00:1::", "2001:db8::1", "::127.0.0.1", "no address", "",
     "fec0::1", "168.63.129.16", "192.88.99.1", "::ffff:168.63.129.16", "192.0.0.192", "3fff::1"],
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
    assert webhook.send(a_message()) == PRIVATE
    assert httpserver.log == []


PRIVATE = "private address, see WEBHOOK_ALLOW_PRIVATE"


def test_a_webhook_reaches_a_private_network_where_that_is_wanted(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("")
    webhook = Webhook(httpserver.url_for("/"), "secret", allow_private=True)
    assert webhook.send(a_message()) is None


def test_a_redirect_is_not_followed(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("", 302, {"Location": "/inside"})
    webhook = Webhook(httpserver.url_for("/"), "secret", allow_private=True)
    assert webhook.send(a_message()) == "HTTP 302"
    assert [request.path for request, _ in httpserver.log] == ["/"]


def test_a_receiver_that_never_ends_its_head_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("src.service.watch.notify._TIMEOUT", 0.2)
    with raw_server.raw_server(raw_server.drip_head) as url:
        assert Webhook(url, "secret", allow_private=True).send(a_message()) == "timed out"


def test_an_answer_without_end_is_not_read() -> None:
    with raw_server.raw_server(raw_server.endless_body) as url:
        assert Webhook(url, "secret", allow_private=True).send(a_message()) is None


def test_a_receiver_gets_the_address_that_was_given(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hooks/a/", query_string="key=b/").respond_with_data("")
    webhook = Webhook(httpserver.url_for("/hooks/a/?key=b/"), "secret", allow_private=True)
    assert webhook.send(a_message()) is None


def a_message() -> Notice:
    return Notice("5f0c", "a title", "a text", "info", {"id": 1})


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
        answer = Webhook("http://both.example/", "secret").send(a_message())
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
        assert Webhook(url, "secret").send(a_message()) == "connection failed (ConnectionError)"
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
            good = Webhook(f"https://hooks.example:{server.port}/", "secret").send(a_message())
            other = Webhook(f"https://other.example:{server.port}/", "secret").send(a_message())
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
