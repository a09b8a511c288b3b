"""WebSockets through the guard: calls, screening in order, subscriptions, many clients."""

import asyncio
import json
import resource
import threading
from itertools import starmap
from typing import Any

import aiohttp
import pytest

from src.service.http import protocol
from tests.service.guard.guarding import BAD, RAW, Guarded, Node, Script, guard
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

SEND = "eth_sendRawTransaction"


def call(method: str, identity: Any = 1, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}


async def exchange(url: str, *bodies: Any, replies: int | None = None) -> list[Any]:
    """Send messages over one socket; the replies in the order of their arrival."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        for body in bodies:
            await socket.send_str(body if isinstance(body, str) else json.dumps(body))
        count = len(bodies) if replies is None else replies
        return [json.loads(await socket.receive_str(timeout=PATIENCE)) for _ in range(count)]


def ask(guarded: Guarded, *bodies: Any, replies: int | None = None) -> list[Any]:
    return asyncio.run(exchange(guarded.url, *bodies, replies=replies))


def test_messages_pass_byte_for_byte_and_in_order(guarded: Guarded, upstream: Node) -> None:
    bodies = [f' {{"id" : {number},"method":"eth_chainId"}}' for number in range(50)]
    assert [one["id"] for one in ask(guarded, *bodies)] == list(range(50))
    assert upstream.bodies == [body.encode() for body in bodies]


def test_a_blocked_transaction_never_reaches_the_node(guarded: Guarded, upstream: Node) -> None:
    (found,) = ask(guarded, call(SEND, "a", BAD))
    assert (found["id"], found["error"]["code"], upstream.bodies) == ("a", -32003, [])


@pytest.mark.parametrize(
    "body",
    [
        f'{{"id":1,"method":"eth_chainId","Method":"{SEND}","params":["{BAD}"]}}',
        f'{{"id":1,"method":"{SEND}","params":["{BAD}"]}}{{}}',
        f'[[{{"id":1,"method":"{SEND}","params":["{BAD}"]}}]]',
        '{"id":1,"method":"eth_sendTransaction","params":[{}]}',
        "{",
    ],
)
def test_what_is_refused_over_http_is_refused_here(
    guarded: Guarded, upstream: Node, body: str
) -> None:
    (found,) = ask(guarded, body)
    assert "error" in (found[0] if isinstance(found, list) else found)
    assert upstream.bodies == []


def test_a_mixed_batch_gets_one_reply(guarded: Guarded, upstream: Node) -> None:
    batch = [call("eth_chainId", 1), call(SEND, 2, BAD), call(SEND, 3, RAW)]
    (found,) = ask(guarded, batch)
    assert [one["id"] for one in found] == [1, 2, 3]
    assert [one.get("result") for one in found] == ["eth_chainId", None, SEND]
    assert upstream.methods == ["eth_chainId", SEND]


def test_other_calls_overtake_a_screening_and_transactions_do_not(upstream: Node) -> None:
    released = threading.Event()
    script = Script(wait=released)
    later = RAW[:-2] + "cd"
    with guard(upstream.url, script) as guarded:

        async def use() -> list[Any]:
            async with aiohttp.ClientSession() as session, session.ws_connect(guarded.url) as own:
                for body in (call(SEND, 1, RAW), call(SEND, 2, later), call("eth_chainId", 3)):
                    await own.send_str(json.dumps(body))
                found = [json.loads(await own.receive_str(timeout=PATIENCE))]
                released.set()
                found += [json.loads(await own.receive_str(timeout=PATIENCE)) for _ in range(2)]
                return found

        assert [one["id"] for one in asyncio.run(use())] == [3, 1, 2]
    sent = [one["params"][0] for one in upstream.calls if one["method"] == SEND]
    assert sent == [RAW, later]


def test_while_much_waits_for_its_screening_nothing_more_is_read(upstream: Node) -> None:
    """A client that sends without end must not fill the memory."""
    script = Script(wait=threading.Event())
    large = "0x" + "ab" * 1_500_000

    async def use(url: str) -> list[Any]:
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as own:
            for number in range(1, 5):
                await own.send_str(json.dumps(call(SEND, number, large)))
            await own.send_str(json.dumps(call("eth_chainId", 5)))
            await asyncio.to_thread(wait_until, lambda: script.seen)
            script.wait.set()
            return [json.loads(await own.receive_str(timeout=PATIENCE))["id"] for _ in range(5)]

    with guard(upstream.url, script) as guarded:
        found = asyncio.run(use(guarded.url))
    assert found[:2] == [1, 2]
    assert sorted(found) == [1, 2, 3, 4, 5]


def test_a_client_that_leaves_has_sent_nothing(upstream: Node) -> None:
    released = threading.Event()
    script = Script(wait=released)
    with guard(upstream.url, script) as guarded:

        async def use() -> None:
            async with aiohttp.ClientSession() as session, session.ws_connect(guarded.url) as own:
                await own.send_str(json.dumps(call(SEND, 1, RAW)))
                await asyncio.to_thread(wait_until, lambda: script.seen)

        asyncio.run(use())
        wait_until(lambda: upstream.sockets == 0)
        released.set()
    assert upstream.bodies == []


def test_the_end_of_the_nodes_socket_is_the_end_of_the_clients() -> None:
    async def refused() -> int:
        async with aiohttp.ClientSession() as session:
            with guard("http://127.0.0.1:9/secret") as guarded:
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(guarded.url)
                return caught.value.status

    assert asyncio.run(refused()) == 502


def test_a_node_that_does_not_answer_pings_is_gone(
    upstream: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a client would wait for ever for the events of its subscription."""
    monkeypatch.setattr("src.service.guard.upstream._PING_SECONDS", 0.05)
    upstream.answers_pings = False

    async def use(url: str) -> int | None:
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as own:
            await own.receive(timeout=PATIENCE)
            return own.close_code

    with guard(upstream.url) as guarded:
        assert asyncio.run(use(guarded.url)) == 1012


def test_a_client_that_reads_nothing_is_gone(
    upstream: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a few thousand of them would keep all others out."""
    monkeypatch.setattr(protocol.BoundedProtocol, "stalled_seconds", 0.5)
    large = json.dumps(call("eth_chainId", "x" * 1_000_000))

    async def use(url: str) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as own:
            await asyncio.to_thread(wait_until, lambda: upstream.sockets == 1)
            sending = asyncio.gather(*(own.send_str(large) for _ in range(40)))
            await asyncio.to_thread(wait_until, lambda: upstream.sockets == 0)
            sending.cancel()

    with guard(upstream.url) as guarded:
        asyncio.run(use(guarded.url))


def test_many_open_sockets(guarded: Guarded, upstream: Node) -> None:
    """A thousand, where the process may have as many; nothing is lost and nothing sent twice."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1_000, (allowed - 500) // 5)

    async def use() -> list[Any]:
        timeout = aiohttp.ClientTimeout(None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            gate = asyncio.Semaphore(50)  # more than 512 screenings at a time would be refused

            async def open_one() -> Any:
                async with gate:
                    return await session.ws_connect(guarded.url)

            async def send(number: int, socket: Any) -> Any:
                async with gate:
                    raw = f"0x{number:06x}" + RAW[2:]
                    await socket.send_str(json.dumps(call(SEND, number, raw)))
                    return json.loads(await socket.receive_str(timeout=PATIENCE))

            sockets = await asyncio.gather(*(open_one() for _ in range(count)))
            replies = await asyncio.gather(*starmap(send, enumerate(sockets)))
            for socket in sockets:
                await socket.close()
            return replies

    assert [one["id"] for one in asyncio.run(use())] == list(range(count))
    assert sorted(one["id"] for one in upstream.calls) == list(range(count))
    assert len(guarded.script.seen) == count
    wait_until(lambda: upstream.sockets == 0)
