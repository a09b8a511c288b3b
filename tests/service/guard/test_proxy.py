"""The guard over HTTP: what passes as it is, what is refused, and how a node's troubles look."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from aiohttp import web

from src.detection.records import Action
from src.service.guard import gate
from tests.service.guard.guarding import (
    BAD,
    ODD,
    RAW,
    Guarded,
    Node,
    Script,
    guard,
    json_reply,
    node,
)
from tests.support.raw_server import cut_off, raw_server, reset
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

SEND = "eth_sendRawTransaction"


def send(raw: str, identity: Any = 1, method: str = SEND) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": [raw]}


def read(identity: Any = 1, method: str = "eth_chainId") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": []}


class TestPassingThrough:
    """What is not refused reaches the node byte for byte, and its answer the client."""

    @pytest.mark.parametrize(
        "body",
        [
            b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}',
            b' {"params" : [ ], "id":"a\\u00e9","method":"net_version","jsonrpc":"2.0","x":1.50}\n',
            b'[{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{},1e5]},'
            b' {"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}]',
            b"[]",
        ],
    )
    def test_bytes_stay_as_they_are(self, guarded: Guarded, upstream: Node, body: bytes) -> None:
        guarded.ask(body)
        assert upstream.bodies == [body]

    def test_a_screened_call_stays_as_it_is(self, guarded: Guarded, upstream: Node) -> None:
        body = f' {{"id" : 7, "method":"{SEND}","params":["{RAW}"]}}'.encode()
        assert guarded.ask(body).json()["result"] == SEND
        assert upstream.bodies == [body]

    def test_the_nodes_answer_stays_as_it_is(self) -> None:
        def answer(_body: bytes) -> web.Response:
            headers = {"Retry-After": "7", "X-Node": "secret"}
            return web.Response(status=429, body=b'{"odd" : 1e1,', headers=headers)

        with node(answer) as upstream, guard(upstream.url) as guarded:
            found = guarded.ask(read())
        assert (found.status_code, found.content) == (429, b'{"odd" : 1e1,')
        assert found.headers["Retry-After"] == "7"
        assert "X-Node" not in found.headers

    @pytest.mark.parametrize("call", [read(), [read(), send(BAD, 2)]])
    def test_an_answer_that_is_compressed_unasked_can_be_read(self, call: Any) -> None:
        def answer(body: bytes) -> web.Response:
            given = json_reply(body)
            given.enable_compression(web.ContentCoding.gzip)
            return given

        with node(answer) as upstream, guard(upstream.url) as guarded:
            assert '"eth_chainId"' in guarded.ask(call).text

    def test_an_answer_of_megabytes_arrives_whole(self) -> None:
        content = json.dumps({"id": 1, "result": "f" * 20_000_000}).encode()
        answer = web.Response(body=content)
        with node(lambda _body: answer) as upstream, guard(upstream.url) as guarded:
            assert guarded.ask(read()).content == content

    def test_keys_and_cookies_stay_here_and_signatures_of_bodies_pass(
        self, guarded: Guarded, upstream: Node
    ) -> None:
        headers = {"Authorization": "Bearer k", "Cookie": "a=b", "X-API-Key": "k", "X-Foo": "1"}
        guarded.ask(read(), headers=headers | {"X-Flashbots-Signature": "0xsigned"})
        (seen,) = upstream.headers
        assert seen["x-flashbots-signature"] == "0xsigned"
        assert not {"authorization", "cookie", "x-api-key", "x-foo"} & seen.keys()

    def test_a_wrong_content_type_does_not_reach_the_node(
        self, guarded: Guarded, upstream: Node
    ) -> None:
        guarded.ask(read(), headers={"Content-Type": "application/json; charset=utf-7"})
        assert upstream.headers[0]["content-type"] == "application/json"


class TestRefusing:
    """Nothing gets past that the mode forbids."""

    def test_a_blocked_transaction_never_reaches_the_node(
        self, guarded: Guarded, upstream: Node
    ) -> None:
        error = guarded.ask(send(BAD, "my-id")).json()
        assert error["id"] == "my-id"
        assert error["error"]["code"] == -32003
        assert error["error"]["data"]["reasons"] == ["reason for BLOCK"]
        assert error["error"]["data"]["decision"] == guarded.stored[0].uuid
        assert upstream.bodies == []

    @pytest.mark.parametrize(
        "method",
        [
            "eth_sendRawTransactionSync", "eth_sendRawTransactionConditional", "eth_sendBundle",
            "eth_sendPrivateTransaction", "eth_sendPrivateRawTransaction", "mev_sendBundle",
        ],
    )  # fmt: skip
    def test_its_siblings_are_screened_as_well(
        self, guarded: Guarded, upstream: Node, method: str
    ) -> None:
        wrapped = {**send(BAD, method=method), "params": [{"txs": [RAW, BAD], "tx": BAD}]}
        assert guarded.ask(wrapped).json()["error"]["code"] == -32003
        assert upstream.bodies == []

    @pytest.mark.parametrize(
        "method",
        [
            "eth_sendTransaction", "eth_sendUserOperation", "personal_sendTransaction",
            "eth_sendrawtransaction", "ETH_SENDRAWTRANSACTION", "eth_sendRawTransaction ",
            "eth_sendRawTransactioN", "admin_addPeer", "miner_start", "engine_newPayloadV3",
        ],
    )  # fmt: skip
    def test_a_method_that_is_not_allowed_never_reaches_the_node(
        self, guarded: Guarded, upstream: Node, method: str
    ) -> None:
        assert guarded.ask(send(RAW, method=method)).json()["error"]["code"] == -32601
        assert upstream.bodies == []

    @pytest.mark.parametrize(
        "body",
        [
            f'{{"id":1,"method":"eth_chainId","Method":"{SEND}","params":["{BAD}"]}}',
            f'{{"id":1,"method":"eth_chainId","method":"{SEND}","params":["{BAD}"]}}',
            f'{{"id":1,"method":"{SEND}","method":"eth_chainId","params":["{BAD}"]}}',
            f'{{"id":1,"method":"eth_sendRaw\\u0054ransaction","params":["{BAD}"]}}',
            f'{{"id":1,"method":"{SEND}","params":["{RAW}"],"params":["{BAD}"]}}',
            f'{{"id":1,"method":"{SEND}","params":["{RAW}"],"Params":["{BAD}"]}}',
            f'{{"id":1,"method":"{SEND}","params":["{BAD[2:]}"]}}',
            f'[[{{"id":1,"method":"{SEND}","params":["{BAD}"]}}]]',
            f'[{{"id":1,"method":"eth_chainId"}},{{"id":1,"method":"{SEND}","params":["{BAD}"]}}]',
            f'{{"id":1,"method":"eth_chainId"}}{{"id":1,"method":"{SEND}","params":["{BAD}"]}}',
            f'{{"id":1,"method":"{SEND}","params":["{RAW}", {{"tx":"{BAD}"}}]}}',
        ],
    )
    def test_no_trick_of_json_gets_a_transaction_past(
        self, guarded: Guarded, upstream: Node, body: str
    ) -> None:
        guarded.ask(body.encode())
        assert BAD[2:] not in b"".join(upstream.bodies).decode()

    def test_a_compressed_body_does_not_pass(self, guarded: Guarded, upstream: Node) -> None:
        import gzip

        body = gzip.compress(json.dumps(send(BAD)).encode())
        found = guarded.ask(body, headers={"Content-Encoding": "gzip"})
        assert found.json()["error"]["code"] == -32700
        assert upstream.bodies == []

    def test_a_huge_body_is_refused(self, guarded: Guarded, upstream: Node) -> None:
        found = guarded.ask(b'{"method":"eth_chainId","id":"' + b"a" * 5_000_000 + b'"}')
        assert (found.status_code, upstream.bodies) == (413, [])

    def test_a_notification_is_screened_and_gets_no_reply(
        self, guarded: Guarded, upstream: Node
    ) -> None:
        call = send(BAD)
        del call["id"]
        found = guarded.ask(call)
        assert (found.status_code, found.content, upstream.bodies) == (200, b"", [])
        assert len(guarded.script.seen) == 1


class TestBatches:
    """Each call is judged by itself, and its reply is where the client expects it."""

    def test_a_mixed_batch(self, guarded: Guarded, upstream: Node) -> None:
        batch = [read(1), send(BAD, 2), send(RAW, 3), read(4, "admin_nodeInfo"), read(5), 17]
        found = guarded.ask(batch).json()
        assert [one["id"] for one in found] == [1, 2, 3, 4, 5, None]
        assert ["error" in one for one in found] == [False, True, False, True, False, True]
        assert upstream.methods == ["eth_chainId", SEND, "eth_chainId"]

    def test_what_follows_is_simulated_on_what_passed(self, guarded: Guarded) -> None:
        other = RAW[:-2] + "cd"
        guarded.ask([send(RAW, 1), send(BAD, 2), send(other, 3)])
        first, last = bytes.fromhex(RAW[2:]), bytes.fromhex(other[2:])
        assert guarded.script.seen == [(first,), (first, bytes.fromhex(BAD[2:])), (first, last)]

    def test_ids_that_repeat(self, guarded: Guarded) -> None:
        found = guarded.ask([send(BAD, 1), read(1), read(1, "net_version")]).json()
        assert [one.get("result") for one in found] == [None, "eth_chainId", "net_version"]

    def test_a_batch_of_refused_calls(self, guarded: Guarded, upstream: Node) -> None:
        found = guarded.ask([send(BAD, 1), read(2, "admin_peers")]).json()
        assert ([one["id"] for one in found], upstream.bodies) == ([1, 2], [])

    def test_a_bundle_is_stored_without_a_hash(self, guarded: Guarded) -> None:
        """Its decision is not that on its first transaction, and is not compared with it."""
        guarded.ask({**read(method="eth_sendBundle"), "params": [{"txs": [RAW, RAW]}]})
        guarded.ask({**read(method="eth_sendBundle"), "params": [{"txs": [RAW]}]})
        assert [one.tx_hash is None for one in guarded.stored] == [False, True]

    def test_each_is_known_by_its_own_hash_also_if_it_is_not_simulated(
        self, upstream: Node
    ) -> None:
        script = Script(status="unknown")
        with guard(upstream.url, script, refuse_unknown=False) as guarded:
            guarded.ask([send(RAW, 1), send(RAW, 2)])
            assert [one.tx_hash is None for one in guarded.stored] == [False, False]

    def test_too_many_transactions_are_refused(self, guarded: Guarded, upstream: Node) -> None:
        found = guarded.ask([send(RAW, number) for number in range(20)]).json()
        assert ["error" in one for one in found] == [False] * 16 + [True] * 4
        assert len(upstream.calls) == 16


class TestUnknown:
    """What cannot be screened passes or is refused as the operator chose."""

    @pytest.mark.parametrize("refuse", [True, False])
    @pytest.mark.parametrize(
        "script",
        [
            Script(Action.REVIEW, "unknown", "the node does not answer"),
            Script(Action.ALLOW, "unknown"),
            Script(failure=RuntimeError(RAW)),
        ],
    )
    def test_the_choice_is_followed(self, upstream: Node, refuse: bool, script: Script) -> None:
        with guard(upstream.url, script, refuse_unknown=refuse) as guarded:
            found = guarded.ask(send(RAW)).json()
        assert ("error" in found, len(upstream.bodies)) == (refuse, int(not refuse))
        if refuse:
            assert found["error"]["data"]["status"] == "unknown"

    def test_the_policy_may_block_what_is_unknown(self, upstream: Node) -> None:
        script = Script(Action.BLOCK, "unknown")
        with guard(upstream.url, script, refuse_unknown=False) as guarded:
            assert "error" in guarded.ask(send(RAW)).json()
        assert upstream.bodies == []

    def test_beyond_the_time_limit_it_is_unknown(self, upstream: Node) -> None:
        script = Script(wait=threading.Event())
        with guard(upstream.url, script, seconds=0.05) as guarded:
            found = guarded.ask(send(RAW)).json()
            script.wait.set()
        assert found["error"]["data"]["problem"] == "not screened within 0.05 s"
        assert upstream.bodies == []

    def test_more_at_once_than_the_guard_screens_are_unknown(
        self, upstream: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gate, "_MAX_WAITING", 0)
        with guard(upstream.url) as guarded:
            found = guarded.ask(send(RAW)).json()
        assert found["error"]["data"]["problem"] == "too many transactions are being screened"
        assert upstream.bodies == []

    def test_the_policy_may_block_what_takes_too_long(self, upstream: Node) -> None:
        """A transaction that is slow to simulate must not open what an unknown one does not."""
        script = Script(wait=threading.Event(), on_unknown=Action.BLOCK)
        with guard(upstream.url, script, refuse_unknown=False, seconds=0.05) as guarded:
            found = guarded.ask(send(RAW)).json()
            script.wait.set()
        assert found["error"]["data"]["action"] == "BLOCK"
        assert upstream.bodies == []

    @pytest.mark.parametrize(
        "body",
        [
            [send(ODD, 1), send(BAD, 2)],
            send(BAD) | {"params": [BAD, ODD]},
            send(BAD, method="eth_sendBundle") | {"params": [{"txs": [ODD, BAD]}]},
            send(BAD, method="mev_sendBundle")
            | {"params": [{"body": [{"hash": "0x" + "12" * 32}, {"tx": BAD}]}]},
        ],
    )
    def test_what_is_unknown_hides_no_theft_beside_it(self, upstream: Node, body: Any) -> None:
        with guard(upstream.url, refuse_unknown=False) as guarded:
            guarded.ask(body)
            decided = guarded.stored[0]
        assert (decided.action, decided.outcome) == (Action.BLOCK, "blocked")
        assert BAD[2:] not in b"".join(upstream.bodies).decode()

    @pytest.mark.parametrize("refuse", [True, False])
    def test_a_bundle_that_names_a_transaction_by_its_hash_is_unknown(
        self, upstream: Node, refuse: bool
    ) -> None:
        """What it does depends on one that the guard cannot see."""
        body = send(RAW, method="mev_sendBundle")
        body["params"] = [{"body": [{"hash": "0x" + "12" * 32}, {"tx": RAW}]}]
        with guard(upstream.url, refuse_unknown=refuse) as guarded:
            found = guarded.ask(body).json()
            assert "by its hash" in guarded.stored[0].problem
        assert ("error" in found, len(upstream.bodies)) == (refuse, int(not refuse))

    def test_other_calls_do_not_wait_for_a_screening(self, upstream: Node) -> None:
        script = Script(wait=threading.Event())
        with guard(upstream.url, script) as guarded, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(guarded.ask, send(RAW))
            wait_until(lambda: script.seen)
            assert guarded.ask(read()).json()["result"] == "eth_chainId"
            assert not waiting.done()
            script.wait.set()
            assert waiting.result().json()["result"] == SEND

    def test_a_failure_is_not_logged_with_its_transaction(
        self, upstream: Node, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("DEBUG"), guard(upstream.url, Script(failure=ValueError(RAW))) as one:
            one.ask(send(RAW))
        assert "ValueError" in caplog.text
        assert RAW not in caplog.text


class TestObserving:
    """Everything passes as it is, and what enforcing would do is recorded."""

    @pytest.mark.parametrize(
        "body",
        [
            json.dumps(send(BAD)).encode(),
            json.dumps([send(BAD, 1), read(2, "admin_peers")]).encode(),
            f'{{"id":1,"method":"eth_chainId","Method":"{SEND}","params":[]}}'.encode(),
        ],
    )
    def test_nothing_is_refused(self, upstream: Node, body: bytes) -> None:
        with guard(upstream.url, enforce=False) as guarded:
            guarded.ask(body)
        assert upstream.bodies == [body]

    def test_the_outcome_is_recorded(self, upstream: Node) -> None:
        with guard(upstream.url, enforce=False) as guarded:
            guarded.ask(send(BAD))
            (decided,) = guarded.stored
        assert (decided.outcome, decided.is_enforced) == ("blocked", False)

    @pytest.mark.parametrize(
        ("call", "may_send"),
        [
            (read(5), False),
            (send(RAW, 5), True),
            (read(5, "eth_sendTransaction"), True),
            (read(5) | {"Method": SEND}, True),
        ],
    )
    def test_a_lost_answer_is_said_to_be_of_a_transaction_only_where_it_may_be(
        self, call: dict[str, Any], may_send: bool
    ) -> None:
        with guard("http://127.0.0.1:9", enforce=False) as guarded:
            found = guarded.ask(call)
        assert ("it may have received the transaction" in found.text) == may_send


class TestTroubles:
    """A node that is dead, slow, or hangs up: an error, and nothing is sent twice."""

    @pytest.mark.parametrize("call", [read(5), send(RAW, 5)])
    def test_a_dead_node(self, call: dict[str, Any]) -> None:
        with guard("http://127.0.0.1:9/top-secret") as guarded:
            found = guarded.ask(call)
        assert (found.status_code, found.json()["id"]) == (502, 5)
        assert ("it may have received the transaction" in found.text) == (call["method"] == SEND)
        assert "127.0.0.1" not in found.text
        assert "secret" not in found.text

    def test_a_batch_to_a_dead_node_gets_a_reply_each(self) -> None:
        with guard("http://127.0.0.1:9") as guarded:
            found = guarded.ask([read(1), send(BAD, 2)]).json()
        assert [one["id"] for one in found] == [1, 2]
        assert found[1]["error"]["code"] == -32003

    @pytest.mark.parametrize(("call", "most"), [(send(RAW), 1), (read(), 2)])
    def test_a_node_that_hangs_up_gets_a_transaction_once(
        self, call: dict[str, Any], most: int
    ) -> None:
        seen: list[None] = []

        def hang_up(connection: socket.socket, stop: threading.Event) -> None:
            seen.append(None)
            reset(connection, stop)

        with raw_server(hang_up) as url, guard(url) as guarded:
            found = guarded.ask(call)
        assert found.status_code == 502
        assert 1 <= len(seen) <= most

    def test_an_answer_that_breaks_off_is_no_answer(self) -> None:
        with (
            raw_server(cut_off) as url,
            guard(url) as guarded,
            pytest.raises(requests.RequestException),
        ):
            guarded.ask(read())

    def test_many_at_once_each_reach_the_node_once(self, guarded: Guarded, upstream: Node) -> None:
        raws = [f"0x{number:06x}" + "ab" * 60 for number in range(200)]
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda raw: guarded.ask(send(raw, raw)).json(), raws))
        assert [one["id"] for one in found] == raws
        assert sorted(call["params"][0] for call in upstream.calls) == sorted(raws)
        assert guarded.script.screened == set(raws)

    def test_the_same_transaction_twice_is_passed_on_twice(
        self, guarded: Guarded, upstream: Node
    ) -> None:
        """As often as it was sent: whether it is known already, the node knows best."""
        guarded.ask(send(RAW))
        guarded.ask(send(RAW))
        assert upstream.methods == [SEND, SEND]


def test_a_huge_answer_is_passed_on_but_not_taken_apart() -> None:
    """Reading 26 MB of JSON lets all other clients wait for two seconds."""
    reply = json.dumps([{"jsonrpc": "2.0", "id": 1, "result": "x" * 5_000_000}])

    def answer(body: bytes) -> web.Response:
        return web.Response(text=reply) if b"eth_getLogs" in body else json_reply(body)

    logs = read(1, "eth_getLogs")
    with node(answer) as upstream, guard(upstream.url) as guarded:
        assert guarded.ask([logs]).text == reply
        found = guarded.ask([logs, send(BAD, 2)]).json()
    assert [one["id"] for one in found] == [1, 2]
    assert "too large" in found[0]["error"]["message"]
    assert found[1]["error"]["code"] == -32003


def test_a_client_beyond_its_limit_is_told(upstream: Node) -> None:
    with guard(upstream.url, per_second=1) as guarded:
        found = guarded.ask([read(number) for number in range(50)]).json()
        assert {one["error"]["code"] for one in found} == {-32005}
    assert upstream.bodies == []


@pytest.mark.parametrize("body", [b"[]", f'{{"id":1,"id":1,"method":"{SEND}"}}'.encode()])
@pytest.mark.parametrize("enforce", [True, False])
def test_what_has_no_readable_call_counts_as_one(
    upstream: Node, body: bytes, enforce: bool
) -> None:
    with guard(upstream.url, enforce=enforce, per_second=1) as guarded:
        found = [guarded.ask(body).json() for _ in range(40)]
    assert found[-1]["error"]["code"] == -32005
    assert len(upstream.bodies) < len(found)


def test_get_requests_lead_to_the_pages(guarded: Guarded) -> None:
    assert requests.get(guarded.url, timeout=PATIENCE).url.endswith("/ui/screenings")
