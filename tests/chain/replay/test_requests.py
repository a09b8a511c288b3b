"""Requests that are malformed, many or too large."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.chain.recording.format import Recording, open_writer
from src.chain.recording.rows import encode_block
from src.chain.replay.chain import RecordedChain
from src.chain.replay.methods import ReplayMethods
from src.chain.replay.server import MAX_BATCH, MAX_REQUEST_BYTES, RpcServer
from src.chain.transfers import TRANSFER_TOPIC
from tests.chain.recording.blocks import TOKEN, block_hash, make_block
from tests.chain.replay.served import UNKNOWN_HASH, ask, post
from tests.support.waiting import PATIENCE


def test_a_filter_of_four_topics_wants_four_as_geth_has_it(small: str) -> None:
    def found(*topics: Any) -> int:
        return len(ask(small, "eth_getLogs", {"blockHash": block_hash(11), "topics": topics}))

    assert found(TRANSFER_TOPIC, None, None) == 1
    assert found(TRANSFER_TOPIC, None, None, None) == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b"17", -32600),
        (b"null", -32600),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'{"method": 5, "id": 1}', -32600),
        (b'{"method": "eth_chainId", "id": {}}', -32600),
        (b'{"method": "eth_chainId", "id": true}', -32600),
        (b'{"method": "eth_sendRawTransaction", "id": 1}', -32601),
        (b'{"method": "__class__", "id": 1}', -32601),
        (b'{"method": "eth_chainId", "params": {"a": 1}, "id": 1}', -32602),
        (b'{"method": "eth_chainId", "params": [1], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": [], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": [7, true], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": ["0x", true], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": ["0xa", "yes"], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": [["latest"], true], "id": 1}', -32602),
        (b'{"method": "eth_getTransactionByHash", "params": ["0x12"], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": ["latest"], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"address": 5}], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"topics": "0x"}], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"topics": [[[]]]}], "id": 1}', -32602),
        (
            b'{"method": "eth_getLogs", "params": [{"fromBlock": "0xb", "toBlock": "0xa"}],'
            b' "id": 1}',
            -32602,
        ),
        (b'{"method": "eth_call", "params": [{"to": null}], "id": 1}', -32602),
        (b'{"method": "eth_getTransactionCount", "params": ["me"], "id": 1}', -32602),
    ],
)
def test_what_is_no_proper_request_gets_its_error(small: str, body: bytes, code: int) -> None:
    answer = post(small, body)
    assert answer["error"]["code"] == code
    assert answer["jsonrpc"] == "2.0"
    assert "id" in answer


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_parameters_are_an_internal_error(small_methods: RpcServer, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(small_methods.methods)))
    filters = st.fixed_dictionaries(
        {},
        optional={
            "fromBlock": json_values,
            "toBlock": json_values,
            "blockHash": json_values,
            "address": json_values,
            "topics": json_values,
            "to": json_values,
            "data": json_values,
        },
    )
    plausible = st.sampled_from(["latest", "0xa", UNKNOWN_HASH, TOKEN, True])
    params = data.draw(st.lists(json_values | filters | plausible, max_size=3))
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = small_methods.answer(json.dumps(request).encode())
    assert isinstance(answer, dict)
    assert answer.get("error", {}).get("code") in (None, -32602, -32001, 3)


@pytest.fixture
def small_methods(tmp_path: Path) -> Iterator[RpcServer]:
    with open_writer(tmp_path, 1) as writer:
        writer.add(encode_block(make_block(10), receipts_root_verified=True))
        writer.write()
    chain = RecordedChain(Recording(tmp_path))
    with RpcServer(("127.0.0.1", 0), ReplayMethods(chain).methods) as server:
        yield server


def test_a_batch_is_answered_in_order_without_its_notifications(small: str) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 7, "method": "nonsense"},
        5,
        {"jsonrpc": "2.0", "id": None, "method": "eth_blockNumber", "params": []},
    ]
    answers = post(small, batch)
    assert [(answer["id"], answer.get("result")) for answer in answers] == [
        ("a", "0x1"),
        (7, None),
        (None, None),
        (None, "0xd"),
    ]
    assert post(small, [{"method": "eth_chainId"}] * (MAX_BATCH + 1))["error"]["code"] == -32600


def test_a_notification_has_no_answer(small: str) -> None:
    response = requests.post(
        small, data=b'{"jsonrpc": "2.0", "method": "eth_chainId"}', timeout=PATIENCE
    )
    assert (response.status_code, response.content) == (204, b"")


def test_bodies_are_bounded(small: str) -> None:
    assert (
        requests.post(small, data=b" " * (MAX_REQUEST_BYTES + 1), timeout=PATIENCE).status_code
        == 413
    )
    assert requests.post(small, data=iter([b"{}"]), timeout=PATIENCE).status_code == 411
    assert ask(small, "eth_chainId") == "0x1"


def test_many_clients_are_served_at_once(small: str) -> None:
    def one(_: int) -> list[Any]:
        numbers = (0xA, 0xB, 0xD)
        return [ask(small, "eth_getBlockByNumber", hex(n), True)["number"] for n in numbers]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(100))) == [["0xa", "0xb", "0xd"]] * 100
