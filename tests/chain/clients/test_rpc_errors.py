"""What the errors of real nodes and providers mean, and that their wishes are respected."""

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from src.chain.clients import rpc_errors
from src.chain.clients.deadline import Deadline
from src.chain.clients.rpc import JsonRpcClient
from src.chain.errors import (
    DeadlineExceeded,
    ExecutionFailed,
    PassingError,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from tests.support.fake_chain import serve

_PASSING = [
    (-32000, "header not found"),
    (-32000, "unknown block"),
    (-32001, "block not found: 0x1234"),
    (-32000, "block with number 105 not found"),
    (-32602, "block is out of range"),
    (-32000, "cannot find block 105"),
    (-32011, "no backend is currently healthy to serve traffic"),
    (-32010, "backend offline"),
    (-32015, "gateway timeout"),
    (-32002, "request timed out"),
    (-32000, "execution aborted (timeout = 5s)"),
    (-32603, "Internal error"),
    (-32000, "failed to find transaction in block"),
    (19, "Temporary internal error. Please retry, trace-id: 77"),
    (-32000, "Node is syncing"),
    (-32602, "Block with such an ID doesn't exist yet"),
    (-32602, "block number is greater than latest block"),
    (-32603, "invalid height: cannot query with height in the future: invalid request"),
    (-32004, "Block information could not be found."),
    (-32001, "Unable to find block"),
    (-32600, "Internal server error"),
    (-32000, "node is under too much load"),
    (-32000, "something nobody has seen before"),
    (None, "plain"),
    (-32000, "block range extends beyond current head block"),
    (-32000, "transaction indexing is in progress"),
    (-32602, "One of the blocks specified in filter cannot be found."),
    (-32603, "dial tcp 10.0.0.1:8545: connect: connection refused"),
]
_LIMITED = [
    (-32012, "credits limited to 6000/sec"),
    (-32007, "50/second request limit reached - reduce calls per second or upgrade your account"),
    (-32005, "daily request count exceeded, request rate limited"),
    (-32005, "project ID request rate exceeded"),
    (429, "Your app has exceeded its compute units per second capacity."),
    (-32005, "You've exceeded the RPS limit available on the current plan."),
    (-32090, "Too many requests, reason: call rate limit exhausted, retry in 10s"),
    (-32016, "over rate limit"),
    (-32012, "backend over capacity"),
    (15, "You've reached the usage limit for your current plan. See pricing"),
    (-32001, "Exceeded the quota usage"),
    (-32000, "request has been throttled"),
    (-32003, "daily request limit reached - upgrade your account"),
    (-32002, "Public rate limit reached -- please set up an access key"),
    (-32600, "You've exceeded your monthly request allowance"),
    (-32000, "Maximum number of requests exceeded"),
    (-32000, "you have reached the limit for your current plan"),
    (-32033, "you have run out of credits"),
    (-32000, "request exceeds defined limit"),
    (-32000, "burst capacity exceeded"),
    (-32000, "Daily usage cap reached"),
    (-32005, "slow"),
]
_FINAL = [
    (-32601, "the method eth_getBlockReceipts does not exist/is not available"),
    (-32601, "rpc method is not whitelisted"),
    (-32000, "the method eth_getBlockReceipts is unsupported"),
    (-32004, "eth_getBlockReceipts is not supported"),
    (-32600, "Must be authenticated!"),
    (-32000, "invalid api key"),
    (-32602, "invalid argument 0: hex string without 0x prefix"),
    (-32000, "missing trie node 1234 (path ) state 0x12 is not available"),
    (4444, "pruned history unavailable"),
    (-32000, "distance to target block exceeds maximum proof window"),
    (-32001, "Requested resource not found"),
    (-32005, "query returned more than 10000 results"),
    (-32020, "backend response too large"),
    (-32000, "response size exceeded the limit of 10 MB"),
    (-32000, "insufficient funds for gas * price + value"),
    (-32000, "eth_getBlockReceipts is not available in your plan"),
    (35, "Method is not available on freetier, please upgrade to paid tier"),
    (-32000, "eth_getBlockReceipts not implemented"),
    (-32000, "no such method"),
    (-32600, "App is inactive"),
    (-32000, "Insufficient credits. Please top up"),
    (-32000, "block range is too wide"),
    (-32062, "Block range is too large"),
    (-32602, "Block range limit exceeded."),
    (-32000, "exceed maximum block range: 5000"),
    (-32614, "eth_getLogs is limited to a 10,000 range"),
    (-32600, "you can make eth_getLogs requests with up to a 10 block range"),
    (-32000, "limit exceeded: block range 20000 > 10000"),
    (-32000, "query timeout exceeded. Consider reducing your block range."),
    (-32000, "requested too many blocks from 1 to 20000, maximum is set to 10000"),
    (-32005, "please limit the query to at most 1000 blocks"),
    (-32000, "too many results"),
    (35, "ranges over 10000 blocks are not supported on freetier"),
    (-32000, "required historical state unavailable (reexec=128)"),
    (-32000, "state already discarded"),
    (-32002, "No state available for block 100 (0xabc)"),
    (-32801, "old data not available due to pruning"),
    (-32000, "cannot query state older than 128 blocks"),
    (-32000, "requested block is too old"),
    (-32005, "Archive, Debug and Trace requests are not available on your current plan"),
    (-32600, "method not available on your plan"),
    (-32601, "this request requires archive access, upgrade your plan"),
    (-32000, "eth_getBlockReceipts is only available on the Growth tier"),
    (-32701, "Please specify an address in your request or order a dedicated full node"),
]
_CONTRACTS = [
    (3, "execution reverted: header not found"),
    (-32000, "execution reverted: rate limit"),
    (-32015, "VM execution error."),
    (-32000, "out of gas"),
    (-32000, "invalid opcode: INVALID"),
    (-32000, "stack underflow (0 <=> 1)"),
    (-32000, "stack limit reached 1024 (1023)"),
    (-32000, "return data out of bounds"),
    (-32000, "Illegal state change"),
    (-32015, "StaticCallViolation"),
    (-32603, "Error: VM Exception while processing transaction: reverted with reason string 'x'"),
    (-32000, "EVM error InvalidJump"),
    (-32000, "gas uint64 overflow"),
    (-32000, "max call depth exceeded"),
    (-32015, "BadInstruction"),
    (-32015, "InvalidJumpDestination"),
    (-32000, "Out of bounds"),
    (-32000, "Transaction processing could not be completed due to an exception"),
]


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        (code, words, kind)
        for errors, kind in (
            (_PASSING, PassingError),
            (_LIMITED, RateLimited),
            (_FINAL, RequestRefused),
            (_CONTRACTS, ExecutionFailed),
        )
        for code, words in errors
    ],
)
def test_an_error_is_classified(code: int | None, words: str, kind: type[SourceError]) -> None:
    failure = rpc_errors.failure("eth_method", code, words)
    assert type(failure) is kind
    assert failure.problem.startswith("eth_method: JSON-RPC error")
    assert words in failure.problem


@pytest.mark.parametrize(
    ("code", "words", "data"),
    [
        (-32603, "Internal error", "0x"),
        (-32000, "rpc error", "0x08c379a0"),
        (-32015, "Unknown error", "Reverted 0x"),
        (-32015, "Unknown error", "Bad instruction fe"),
    ],
)
def test_what_a_failed_call_returned_says_that_the_contract_failed(
    code: int, words: str, data: str
) -> None:
    assert type(rpc_errors.failure("eth_call", code, words, data)) is ExecutionFailed
    assert type(rpc_errors.failure("eth_getCode", code, words, data)) is PassingError
    assert type(rpc_errors.failure("eth_call", -32000, "header not found", data)) is PassingError


@pytest.mark.parametrize(
    "words", ["resource not found", "Requested resource not found.", "Transaction not found"]
)
def test_nothing_found_is_null_and_no_error(words: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": words}})
    with serve(lambda _: Response(body)) as url:
        assert JsonRpcClient(url).call("m", []) is None


def test_a_final_error_states_the_remedy_that_the_node_does_not_name() -> None:
    failure = rpc_errors.failure("eth_getCode", -32000, "missing trie node")
    assert "archive node" in str(failure)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("3", 3.0), ("652.52ms", 0.65252), ("1m30s", 60.0), (1.5, 1.5), ("1s500ms", 1.5),
        ("1h", 60.0), (10**9, 60.0), ("soon", None), (None, None), (True, None), ("", None),
        ("-5", None), ("9" * 400, 60.0), ([], None), (float("nan"), None), (float("inf"), 60.0),
        (1 / 3, 1 / 3), ("19.98765420913696", 19.98765420913696), ("652.5199999999999ms", 0.65252),
        (1e-5, 1e-5), (-1, None),
    ],
)  # fmt: skip
def test_a_wish_is_a_bounded_number_of_seconds(wish: Any, expected: float | None) -> None:
    assert rpc_errors.seconds(wish) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (429, {"Retry-After": "7"}, None),
        (503, {"Retry-After": "7"}, None),
        (429, {}, {"code": -32005, "message": "slow", "data": {"try_again_in": "7s"}}),
        (200, {}, {"code": -32005, "message": "slow", "data": {"try_again_in": "7000ms"}}),
        (200, {}, {"code": -32005, "message": "x", "data": {"rate": {"backoff_seconds": 7}}}),
        (200, {}, {"code": -32090, "message": "call rate limit exhausted, retry in 7s"}),
        (200, {}, {"code": -32005, "message": "slow: please wait 7000 milliseconds"}),
    ],
)
def test_a_node_that_asks_for_a_pause_gets_it_from_all_threads(
    httpserver: HTTPServer, status: int, headers: dict[str, str], error: Any
) -> None:
    body = "" if error is None else json.dumps({"jsonrpc": "2.0", "id": 1, "error": error})
    httpserver.expect_request("/").respond_with_data(body, status, headers)
    node = JsonRpcClient(httpserver.url_for("/"))
    with pytest.raises((RateLimited, SourceUnavailable)) as caught:
        node.call("m", [])
    assert caught.value.retry_after == pytest.approx(7.0)
    with pytest.raises(DeadlineExceeded):  # at once, and nothing is sent
        node.call("m", [], Deadline.after(1.0))
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (500, {"code": -32601, "message": "the method does not exist"}, RequestRefused),
        (500, {"code": -32000, "message": "oops"}, PassingError),
        (400, {"code": -32019, "message": "block is out of range"}, PassingError),
        (403, {"code": -1, "message": "no"}, RequestRefused),
        (429, {"code": -32000, "message": "no"}, RateLimited),
        (501, None, RequestRefused),
        (405, None, RequestRefused),
        (408, None, SourceUnavailable),
    ],
)
def test_the_body_of_an_error_status_is_read(
    status: int, error: Any, kind: type[SourceError]
) -> None:
    def answer(_: Request) -> Response:
        return Response("no" if error is None else json.dumps({"error": error}), status)

    with serve(answer) as url, pytest.raises(SourceError) as caught:
        JsonRpcClient(url).call("m", [])
    assert type(caught.value) is kind


def test_a_node_may_name_the_moment_at_which_to_ask_again() -> None:
    moment = formatdate(time.time() + 30, usegmt=True)

    def answer(_: Request) -> Response:
        return Response("", 429, {"Retry-After": moment})

    with serve(answer) as url, pytest.raises(RateLimited) as caught:
        JsonRpcClient(url).call("m", [])
    assert caught.value.retry_after is not None
    assert 0 <= caught.value.retry_after <= 30


def test_the_words_of_a_node_behind_a_proxy_are_read() -> None:
    error = {"code": -32603, "message": "Internal JSON-RPC error."}
    error |= {"data": {"code": -32000, "message": "execution reverted"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": error})
    with serve(lambda _: Response(body)) as url, pytest.raises(ExecutionFailed) as caught:
        JsonRpcClient(url).call("m", [])
    assert "Internal JSON-RPC error.: execution reverted" in str(caught.value)


def test_an_id_may_be_echoed_as_text() -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": "1", "result": "0x1"})
    with serve(lambda _: Response(body)) as url:
        assert JsonRpcClient(url).call("m", []) == "0x1"


def test_an_error_without_the_envelope_of_json_rpc_is_read() -> None:
    """Infura's and gateways' limits come so, with status 200."""
    bare = {"code": -32005, "message": "Too Many Requests", "data": {"see": "https://x"}}
    with serve(lambda _: Response(json.dumps(bare))) as url, pytest.raises(RateLimited) as caught:
        JsonRpcClient(url).call("m", [])
    assert "m: JSON-RPC error -32005: Too Many Requests" in str(caught.value)


@pytest.mark.parametrize("count", [1, 2])
def test_a_failure_keeps_no_response_alive(count: int) -> None:
    """Neither a body nor what was decoded from it, by its traceback."""
    large = "x" * 100_000
    error = {"code": 1, "message": "m", "data": large}
    bodies = [
        large,
        json.dumps({"jsonrpc": "2.0", "id": 2, "result": large}),
        json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}),
        json.dumps([large]),
        json.dumps([{"id": 1, "result": large}, {"id": 2, "error": error}]),
    ]
    for body, most in [(body, most) for body in bodies for most in (250_000, 80_000)]:
        with serve(lambda _, body=body: Response(body)) as url:  # type: ignore[misc]
            node = JsonRpcClient(url, max_bytes=most)
            with pytest.raises(SourceError) as caught:
                node.call_together([("m", [])] * count)
            assert _held_bytes(caught.value) < 50_000


def _held_bytes(error: BaseException) -> int:
    """The size of texts and bytes in the local variables of the frames that an error refers to."""
    total, trace = 0, error.__traceback__
    while trace is not None:
        if "/src/" in trace.tb_frame.f_code.co_filename:
            total += sum(len(repr(value)) for value in trace.tb_frame.f_locals.values())
        trace = trace.tb_next
    return total


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-38010, "nonce too low: next nonce 5, tx nonce 3"),
        (-38012, "max fee per gas less than block base fee"),
        (-38015, "block gas limit reached"),
        (-38026, "client limit exceeded"),
    ],
)
def test_what_a_simulation_refuses_is_refused_whatever_the_words(code: int, words: str) -> None:
    error = rpc_errors.failure("eth_simulateV1", code, words)
    assert type(error) is RequestRefused
    assert error.code == code
