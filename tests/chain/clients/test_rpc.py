"""The JSON-RPC client returns results, types every failure and leaks no URL."""

import gzip
import json
import logging
import socket
import sys
import threading
import traceback
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.clients.deadline import Deadline
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import (
    DeadlineExceeded,
    MalformedAnswer,
    PassingError,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from tests.support import raw_server
from tests.support.waiting import PATIENCE, FakeClock

KEY = "planted-api-key-0123456789"


def client(url: str, **options: Any) -> JsonRpcClient:
    return JsonRpcClient(f"{url}/v3/{KEY}?token={KEY}", **{"timeout": PATIENCE, **options})


def serve(
    server: HTTPServer, body: str | bytes, status: int = 200, **headers: str
) -> JsonRpcClient:
    server.expect_request(f"/v3/{KEY}").respond_with_data(body, status=status, headers=headers)
    return client(server.url_for(""))


def test_result_is_returned_and_request_is_json_rpc(httpserver: HTTPServer) -> None:
    seen: list[Any] = []

    def answer(request: Request) -> Response:
        seen.append(request.get_json())
        return Response(f'{{"jsonrpc":"2.0","id":{seen[-1]["id"]},"result":"0x10"}}')

    httpserver.expect_request(f"/v3/{KEY}").respond_with_handler(answer)
    assert client(httpserver.url_for("")).call("eth_blockNumber", []) == "0x10"
    assert seen[0]["method"] == "eth_blockNumber"
    assert seen[0]["params"] == []


def test_brackets_in_texts_and_many_small_objects_are_no_depth(httpserver: HTTPServer) -> None:
    result = ["[" * 1000, '\\"[' * 1000, *[{"a": [1]}] * 1000]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result})
    assert serve(httpserver, body).call("m", []) == result


def test_parser_is_safe_where_the_recursion_limit_was_raised(httpserver: HTTPServer) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**9)
    try:
        with pytest.raises(MalformedAnswer):
            serve(httpserver, "[" * 5_000_000).call("m", [])
    finally:
        sys.setrecursionlimit(limit)


def test_null_result_is_a_result(httpserver: HTTPServer) -> None:
    assert serve(httpserver, '{"jsonrpc":"2.0","id":1,"result":null}').call("m", []) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, RateLimited),
        (500, SourceUnavailable),
        (503, SourceUnavailable),
        (401, RequestRefused),
        (404, RequestRefused),
    ],
)
def test_http_status_is_typed(
    httpserver: HTTPServer, status: int, error: type[SourceError]
) -> None:
    with pytest.raises(error, match=f"^node: eth_chainId: HTTP {status}"):
        serve(httpserver, "{}", status).call("eth_chainId", [])


@pytest.mark.parametrize(
    "body",
    [
        "<html>busy</html>",
        "",
        "null",
        "[]",
        "7",
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":99,"result":"0x1"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '["' + "]" * 100_000 + '",' + "[" * 100_000,
        ('["' + "]" * 100 + '",' + "[" * 100).encode("utf-16"),
        b"\xff\xfe\x00",
        "1" * 10_000,
    ],
)
def test_what_is_not_a_json_rpc_answer_is_malformed(
    httpserver: HTTPServer, body: str | bytes
) -> None:
    with pytest.raises(MalformedAnswer):
        serve(httpserver, body).call("eth_chainId", [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ('{"code":-32000,"message":"missing trie node"}', RequestRefused),
        ('{"code":-32005,"message":"limit exceeded"}', RateLimited),
        ('{"code":-32097,"message":"Too many requests, slow down"}', RateLimited),
        ('{"code":3,"message":"execution reverted: rate limit"}', RequestRefused),
        ('{"code":-32000,"message":"gas request limit"}', RequestRefused),
        ('"plain text"', PassingError),
        ('{"code":"x","message":[1]}', PassingError),
    ],
)
def test_json_rpc_errors_are_typed(
    httpserver: HTTPServer, error: str, expected: type[SourceError]
) -> None:
    with pytest.raises(expected):
        serve(httpserver, f'{{"jsonrpc":"2.0","id":1,"error":{error}}}').call("m", [])


class Together:
    """A node that answers batches with what `batch` makes of the single answers."""

    def __init__(self, server: HTTPServer, batch: Any) -> None:
        self.bodies: list[Any] = []
        self.batch = batch
        server.expect_request(f"/v3/{KEY}").respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        body = request.get_json()
        self.bodies.append(body)
        if not isinstance(body, list):
            return Response(json.dumps(self.one(body)))
        answer = self.batch([self.one(call) for call in body])
        return answer if isinstance(answer, Response) else Response(json.dumps(answer))

    @staticmethod
    def one(call: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "bad":
            return {"id": call["id"], "error": {"code": -32602, "message": "invalid argument"}}
        return {"id": call["id"], "result": f"of {call['method']}"}


def test_requests_together_are_one_batch_in_any_order(httpserver: HTTPServer) -> None:
    together = Together(httpserver, lambda answers: answers[::-1])
    node = client(httpserver.url_for(""))
    assert node.call_together([("one", []), ("two", [2])]) == ["of one", "of two"]
    assert node.call_together([("three", [])]) == ["of three"]
    assert [len(body) for body in together.bodies[:1]] == [2]
    assert together.bodies[1]["method"] == "three", "a single request is no batch"


def test_the_first_failure_of_a_batch_is_raised(httpserver: HTTPServer) -> None:
    Together(httpserver, lambda answers: answers)
    node = client(httpserver.url_for(""))
    with pytest.raises(RequestRefused, match="bad: JSON-RPC error -32602"):
        node.call_together([("one", []), ("bad", []), ("two", [])])


@pytest.mark.parametrize(
    ("refusal", "is_busy"),
    [
        ({"error": {"code": -32600, "message": "batches are not supported"}}, False),
        ([{"id": None, "error": {"code": -32600, "message": "batches are not supported"}}], False),
        ([], False),
        ([{"id": 1, "result": "of one"}, 7], False),
        (Response("no", 400), False),
        (Response("busy", 503), True),
        (Response("slower", 429), True),
    ],
    ids=["error", "listed error", "nothing", "too few", "bad request", "down", "limited"],
)
def test_what_a_node_refuses_together_is_asked_one_by_one(
    httpserver: HTTPServer, refusal: Any, is_busy: bool
) -> None:
    together = Together(httpserver, lambda _answers: refusal)
    node = client(httpserver.url_for(""))
    for _ in range(2):
        assert node.call_together([("one", []), ("two", [])]) == ["of one", "of two"]
    batches = [body for body in together.bodies if isinstance(body, list)]
    assert len(batches) == (2 if is_busy else 1), "what is refused is not tried again"


def test_answers_of_a_batch_to_other_requests_are_malformed(httpserver: HTTPServer) -> None:
    Together(httpserver, lambda answers: [one | {"id": 7 + one["id"]} for one in answers])
    with pytest.raises(MalformedAnswer, match="JSON-RPC object"):
        client(httpserver.url_for("")).call_together([("one", []), ("two", [])])


def test_each_request_of_a_batch_counts_for_the_rate_limit(httpserver: HTTPServer) -> None:
    together = Together(httpserver, lambda answers: answers)
    node = client(httpserver.url_for(""), rate_limit=RateLimit(Rate(3, 3600.0)))
    node.call_together([("one", []), ("two", [])], Deadline.after(PATIENCE))
    with pytest.raises(DeadlineExceeded):
        node.call_together([("one", []), ("two", [])], Deadline.after(PATIENCE))
    assert len(together.bodies) == 1


@pytest.mark.parametrize(
    "behaviour",
    [raw_server.hang, raw_server.drip_body, raw_server.drip_head, raw_server.reset],
)
def test_broken_transport_is_unavailable(behaviour: raw_server.Behaviour) -> None:
    with raw_server.raw_server(behaviour) as url, pytest.raises(SourceUnavailable):
        client(url, timeout=0.3).call("eth_chainId", [])


def test_endless_answer_is_cut_off() -> None:
    with raw_server.raw_server(raw_server.endless_body) as url, pytest.raises(MalformedAnswer):
        client(url, max_bytes=1 << 20).call("eth_chainId", [])


def test_compressed_bomb_is_cut_off(httpserver: HTTPServer) -> None:
    httpserver.expect_request(f"/v3/{KEY}").respond_with_data(
        gzip.compress(b" " * (8 << 20)), headers={"Content-Encoding": "gzip"}
    )
    with pytest.raises(MalformedAnswer):
        client(httpserver.url_for(""), max_bytes=1 << 20).call("eth_chainId", [])


def test_redirect_is_not_followed(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/elsewhere").respond_with_json({"id": 1, "result": "0x1"})
    with pytest.raises(RequestRefused):
        serve(httpserver, "", 302, Location=httpserver.url_for("/elsewhere")).call("m", [])


def test_connections_are_kept_and_cookies_are_not(httpserver: HTTPServer) -> None:
    httpserver.expect_request(f"/v3/{KEY}").respond_with_data(
        '{"id":1,"result":"0x1"}', headers={"Set-Cookie": "track=1"}
    )
    node = client(httpserver.url_for(""))
    node.call("m", [])
    node.call("m", [])
    assert all("Cookie" not in request.headers for request, _ in httpserver.log)


def test_an_interim_response_leaves_no_answer_to_the_next_request() -> None:
    asked: list[bytes] = []

    def hint_then_answer(connection: socket.socket, stop: threading.Event) -> None:
        for result in (b"1", b"2"):
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            answer = b'{"id":1,"result":%b}' % result
            connection.sendall(raw_server.HEAD + b"Content-Length: %d\r\n\r\n" % len(answer))
            connection.sendall(answer)
            received = b""  # the rest of this request may come first
            while b"POST" not in received and (part := connection.recv(65536)):
                received += part
            asked.append(received)

    with raw_server.raw_server(hint_then_answer) as url:
        node = JsonRpcClient(url)
        assert [node.call("eth_chainId", []) for _ in range(2)] == [1, 2]
        node.close()
    assert b"POST" in asked[0], "on the same connection"


def test_own_rate_limit_is_an_error_when_the_turn_comes_after_the_deadline(
    httpserver: HTTPServer,
) -> None:
    httpserver.expect_request(f"/v3/{KEY}").respond_with_data('{"id":1,"result":"0x1"}')
    limit = RateLimit(Rate(1, 3600.0))
    node = client(httpserver.url_for(""), rate_limit=limit)
    assert node.call("m", []) == "0x1"
    with pytest.raises(DeadlineExceeded):
        node.call("m", [], deadline=Deadline.after(0.01))
    assert len(httpserver.log) == 1


def test_passed_deadline_sends_nothing(httpserver: HTTPServer) -> None:
    with pytest.raises(DeadlineExceeded):
        client(httpserver.url_for("")).call("m", [], deadline=Deadline.after(0))
    assert not httpserver.log


def test_no_failure_shows_the_url_or_the_key(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    httpserver.expect_ordered_request(f"/v3/{KEY}").respond_with_data("", status=403)
    httpserver.expect_ordered_request(f"/v3/{KEY}").respond_with_data(
        f'{{"id":1,"error":{{"code":-1,"message":"bad project id {KEY}"}}}}'
    )
    httpserver.expect_ordered_request(f"/v3/{KEY}").respond_with_data(KEY)
    serving = client(httpserver.url_for(""))
    told = [repr(serving), str(serving)]
    with raw_server.raw_server(raw_server.reset) as resetting:
        nodes = [serving, serving, serving, client(resetting), client("http://127.0.0.1:1")]
        for node in nodes:
            with pytest.raises(SourceError) as caught:
                node.call("eth_chainId", [])
            told += traceback.format_exception(caught.value)
            assert caught.value.__context__ is None
    logged = [r.getMessage() for r in caplog.records if r.name != "werkzeug"]  # the server's own
    assert KEY not in "".join(told + logged)


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://[bad", "host:8545", "http://h:x"])
def test_bad_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="must be http") as caught:
        JsonRpcClient(f"{url}/{KEY}")
    assert KEY not in str(caught.value)


def test_rate_limit_allows_no_burst_beyond_its_window() -> None:
    limit = RateLimit(Rate(3, 3600.0), Rate(100, 86400.0))
    assert [limit.try_acquire() for _ in range(5)] == [True, True, True, False, False]
    assert not limit.acquire(Deadline.after(0.01))


def test_rate_limit_lets_the_next_through_after_the_window() -> None:
    clock = FakeClock()
    limit = RateLimit(Rate(2, 10.0), Rate(3, 60.0), clock=clock, sleep=clock.sleep)
    began = clock.now
    passed = []
    for _ in range(5):
        assert limit.acquire(Deadline.after(60, clock))
        passed.append(clock.now - began)
    assert passed == [0, 0, 10, 60, 60]
    assert limit.waited_seconds == 60
    assert not limit.acquire(Deadline.after(9.9, clock))
    assert limit.acquire(Deadline.after(10, clock))
    assert clock.now - began == 70
