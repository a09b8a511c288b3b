"""Every fault of every source: the finding, that it comes, what is remembered, what comes back.

One source is asked and breaks, in one way at a time. `docs/reliability.md` shows the table. Nothing
but the deadline ends a wait here, see `start_bot`: a test that returns has not waited for longer.
"""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug import Request, Response

import src.agent
from src.chain.clients.circuit_breaker import DEFAULT_PAUSE_SECONDS
from src.chain.erc20 import MULTICALL3
from src.chain.lookups.store import FactStore
from src.settings import load_settings
from src.utils.findings import as_text
from tests.conftest import ALICE, BLOCK, TIMESTAMP, UNKNOWN_TOKEN, event_of, transfer_log
from tests.support import raw_server
from tests.support.fake_chain import FakeNode, block_timestamp, etherscan_answer, serve, usual_token
from tests.support.raw_server import Behaviour, Proxy, responding
from tests.support.waiting import PATIENCE, FakeClock, wait_until

KEY = "planted-key"
DEADLINE_SECONDS = 0.2
MAX_BYTES = 24 * 2**20
"""Memory that one transaction may take, whatever a source sends."""
AGE = "account_active_period_in_minutes"
OTHER_TOKEN = "0x" + "78" * 20
BOB_SENDS = "0x" + "b0" * 20

IMPOSSIBLE = {
    "node": {"jsonrpc": "2.0", "id": 1, "result": "0x" + "f" * 64},
    "etherscan": etherscan_answer(str(2**40)),
    "ethplorer": {"name": "Tether", "symbol": "USDT", "decimals": "1000000000"},
}
ABOUT_ANOTHER = {
    "node": {"jsonrpc": "2.0", "id": 7, "result": "0x" + "0" * 63 + "6"},
    "etherscan": {
        "status": "1", "message": "OK",
        "result": [{"timeStamp": "1500000000", "from": "0x" + "1" * 40, "to": "0x" + "2" * 40}],
    },
    "ethplorer": {"address": "0x" + "1" * 40, "name": "T", "symbol": "T", "decimals": "6"},
}  # fmt: skip


def ok(body: bytes, *headers: str) -> Behaviour:
    return responding("200 OK", body, "Content-Type: application/json", *headers)


FAULTS: dict[str, Behaviour] = {
    "slow: hangs": raw_server.hang,
    "slow: drips its head": raw_server.drip_head,
    "slow: drips its body": raw_server.drip_body,
    "resets": raw_server.reset,
    "cut off": raw_server.cut_off,
    "429": responding("429 Too Many Requests", b"slow down"),
    "500": responding("500 Internal Server Error", b"oops"),
    "502 HTML": responding("502 Bad Gateway", b"<html>bad gateway</html>"),
    "503": responding("503 Service Unavailable", b""),
    "404": responding("404 Not Found", b"{}"),
    "redirects": responding("302 Found", b"", "Location: http://127.0.0.1:1/"),
    "empty": ok(b""),
    "HTML": ok(b"<html>maintenance</html>"),
    "null": ok(b"null"),
    "list": ok(b"[]"),
    "not UTF-8": ok(b'{"result":"\xff\xfe"}'),
    "deep": ok(b"[" * 200_000),
    "tedious to scan": ok(b"[" * 100 + b'\\"' * 100_000),
    "huge": ok(b'{"result":"0x' + b"0" * (6 * 2**20) + b'"}'),
    "compressed bomb": ok(
        gzip.compress(b" " * (64 * 2**20), compresslevel=1), "Content-Encoding: gzip"
    ),
    "endless body": raw_server.endless_body,
    "endless head": raw_server.endless_head,
}
SOURCES = ("node", "etherscan", "ethplorer")


def healthy(request: Request) -> Response:
    """All three sources in health."""
    if request.method == "POST":
        return NODE.answer(request)
    if "getTokenInfo" in request.path:
        return Response(json.dumps({"name": "Some", "symbol": "SOME", "decimals": "18"}))
    return Response(json.dumps(etherscan_answer(str(TIMESTAMP - 600))))


NODE = FakeNode(
    tokens={token: usual_token() for token in (UNKNOWN_TOKEN, OTHER_TOKEN)},
    sent_in_blocks={sender: [BLOCK - 1] for sender in (ALICE, BOB_SENDS)},
)


NODE_AGE = (TIMESTAMP - block_timestamp(BLOCK - 1)) / 60


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with serve(healthy) as url:
        proxy = Proxy(url)
        yield proxy
        proxy.close()


@pytest.fixture
def start(start_bot, tmp_path, proxy):
    """Start the bot with one source, behind the proxy; a deadline of None is none."""

    def start(source: str, deadline: float | None = DEADLINE_SECONDS, **options) -> None:
        of_source = {
            "node": {"JSON_RPC_URL": proxy.url},
            "etherscan": {"ETHERSCAN_URL": f"{proxy.url}/api"},
            "ethplorer": {"ETHPLORER_URL": proxy.url, "ETHPLORER_API_KEY": KEY},
        }[source]
        start_bot(
            **of_source,
            CACHE_DIR=str(tmp_path),
            **({} if deadline is None else {"LOOKUP_DEADLINE_SECONDS": str(deadline)}),
            **options,
        )

    return start


def handle(token: str = UNKNOWN_TOKEN, sender: str = ALICE):
    log = transfer_log(token=token, sender=sender, amount=5 * 10**18)
    event = event_of([log])
    event.transaction.from_ = sender
    (finding,) = src.agent.handle_transaction(event)
    assert finding.alert_id in {"NORMAL-TOKEN-TRANSFERS-TX", "ANOMALOUS-TOKEN-TRANSFERS-TX"}
    assert KEY not in finding.toJson()
    return finding.metadata


def knows(source: str, metadata) -> bool:
    """Whether what the source can tell is in a finding, and true."""
    if source in ("node", "ethplorer"):
        assert metadata.get("SOME_value") in {None, "unknown", "5"}
    assert metadata[AGE] in {"unknown", "10", repr(NODE_AGE)}
    token_known, age_known = metadata.get("SOME_value") == "5", metadata[AGE] != "unknown"
    return {"node": token_known and age_known, "etherscan": age_known, "ethplorer": token_known}[
        source
    ]


def assert_nothing_remembered(folder: Path) -> None:
    store = FactStore(folder, 1)
    assert store._reader is not None
    assert store.token_info(UNKNOWN_TOKEN) is None
    assert store.first_transaction(ALICE) is None
    store.close()


def assert_survived(start, proxy, folder, source, behaviour) -> None:
    start(source)
    proxy.break_with(behaviour)
    tracemalloc.start()
    try:
        metadata = handle()
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
    assert metadata[f"{UNKNOWN_TOKEN}_value"] == "unknown"
    assert metadata[AGE] == "unknown"
    assert src.agent.health_check() == []
    assert_nothing_remembered(folder)
    proxy.mend()
    wait_until(lambda: knows(source, handle()))
    assert handle()["anomaly_score"] == metadata["anomaly_score"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_no_finding_no_time_no_truth_and_no_hand(
    start, proxy, tmp_path, source, fault
):
    assert_survived(start, proxy, tmp_path, source, FAULTS[fault])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("lies", [IMPOSSIBLE, ABOUT_ANOTHER], ids=["impossible", "about another"])
def test_a_lie_is_not_believed(start, proxy, tmp_path, source, lies):
    body = json.dumps(lies[source]).encode()
    assert_survived(start, proxy, tmp_path, source, ok(body))


@pytest.mark.parametrize("source", SOURCES)
def test_half_open_connections_are_not_waited_for_and_given_up(start, proxy, source):
    """Kept connections whose other end has vanished without a word, and new ones that hang."""
    start(source)
    wait_until(lambda: knows(source, handle()))
    proxy.freeze()
    metadata = handle(OTHER_TOKEN, BOB_SENDS)
    assert metadata[f"{OTHER_TOKEN}_value"] == "unknown"
    assert metadata[AGE] == "unknown"
    assert knows(source, handle())  # what is known needs nobody
    proxy.mend()
    wait_until(lambda: knows(source, handle(OTHER_TOKEN, BOB_SENDS)))


@pytest.mark.parametrize("source", SOURCES)
def test_a_dead_source_costs_time_a_few_times_only_and_comes_back_by_itself(start, proxy, source):
    clock = FakeClock()
    start(source, deadline=None, clock=clock)
    proxy.break_with(raw_server.reset)
    number = iter(range(1, 10**6))

    def another():
        clock.now += 1  # so that no rate limit is reached
        return handle(f"0x{next(number):040x}", f"0x{next(number):040x}")

    def is_presumed_dead():
        return any(problem.startswith(source) for problem in src.agent.BOT.lookups.health())

    def failed():
        return src.agent.BOT.lookups.usage()[source].outcomes["failed"]

    wait_until(lambda: another() and is_presumed_dead())
    before = failed()
    for _ in range(20):
        another()
    assert failed() == before
    clock.now += DEFAULT_PAUSE_SECONDS
    another()
    assert failed() == before + 1
    proxy.mend()
    assert not knows(source, handle())
    clock.now += DEFAULT_PAUSE_SECONDS
    wait_until(lambda: knows(source, handle()))
    assert not is_presumed_dead()


OWNER_FAULTS = {name: FAULTS[name] for name in FAULTS if name not in {"null", "list"}} | {
    "half of it": ok(b'{"token":'), "a number": ok(b"7"), "a list": ok(b"[1]"),
}  # fmt: skip


@pytest.mark.parametrize("broken", ["token provider", "store"])
@pytest.mark.parametrize("fault", OWNER_FAULTS)
def test_an_owner_store_that_fails_costs_the_keys_and_little_time(
    tmp_path, monkeypatch, broken, fault
):
    monkeypatch.setattr("src.settings._OWNER_STORE_TIMEOUT_SECONDS", DEADLINE_SECONDS)
    good = {
        "token provider": ok(b'{"token":"secret-jwt"}'),
        "store": ok(b'{"apiKeys":{"ETHERSCAN_API_KEY":"secret"}}'),
    }
    with (
        raw_server.raw_server(
            (good | {broken: OWNER_FAULTS[fault]})["token provider"]
        ) as provider_url,
        raw_server.raw_server((good | {broken: OWNER_FAULTS[fault]})["store"]) as store_url,
    ):
        host, port = provider_url.removeprefix("http://").split(":")
        environ = {
            "FORTA_JWT_PROVIDER_HOST": host,
            "FORTA_JWT_PROVIDER_PORT": port,
            "FORTA_OWNER_STORE_URL": store_url,
        }
        settings = load_settings(environ, project_root=tmp_path, home=tmp_path, arguments=[])
    assert settings.owner_store_failed
    assert settings.etherscan_api_key is None


def test_keys_that_the_owner_store_did_not_give_at_start_come_later_by_themselves(
    start_bot, monkeypatch, proxy
):
    monkeypatch.setattr("src.settings._OWNER_STORE_TIMEOUT_SECONDS", PATIENCE)
    monkeypatch.setattr("src.chain.lookups.late_keys._FIRST_PAUSE_SECONDS", 0.1)

    def answer(request: Request) -> Response:
        if request.path.endswith("/create"):
            return Response('{"token":"secret-jwt"}')
        return Response(json.dumps({"apiKeys": {"ETHPLORER_API_KEY": KEY}}))

    with serve(answer) as url:
        path = "/" + url.rsplit("/", 1)[1]
        provider = Proxy(url)
        provider.break_with(FAULTS["503"])
        host, port = provider.url.removeprefix("http://").removesuffix(path).split(":")
        monkeypatch.setenv("FORTA_JWT_PROVIDER_HOST", host)
        monkeypatch.setenv("FORTA_JWT_PROVIDER_PORT", f"{port}{path}")
        monkeypatch.setenv("FORTA_OWNER_STORE_URL", url)
        try:
            start_bot(ETHPLORER_URL=proxy.url, LOOKUP_DEADLINE_SECONDS=str(DEADLINE_SECONDS))
            assert not knows("ethplorer", handle())
            provider.mend()
            wait_until(lambda: knows("ethplorer", handle()))
        finally:
            provider.close()


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "list"])  # an empty one
def test_an_address_list_that_fails_costs_no_finding_and_is_read_as_soon_as_it_is_back(
    start_bot, monkeypatch, fault
):
    monkeypatch.setattr("src.chain.names.labels._RETRY_SECONDS", 0.1)
    with serve(lambda _: Response(json.dumps([ALICE]))) as url:
        proxy = Proxy(url)
        proxy.break_with(FAULTS[fault])
        try:
            start_bot(ADDRESS_LIST=proxy.url, LOOKUP_DEADLINE_SECONDS=str(DEADLINE_SECONDS))
            addresses = src.agent.BOT.pipeline.addresses
            handle()
            assert len(addresses) == 0
            assert addresses.problem() is not None
            proxy.mend()
            wait_until(lambda: len(addresses) == 1)
            assert addresses.problem() is None
        finally:
            proxy.close()


@pytest.mark.parametrize("fault", ["429", "503", "404", "null", "huge", "impossible"])
def test_a_node_without_multicall_whose_single_calls_fail_is_survived(start_bot, tmp_path, fault):
    """The second way to a token's metadata."""
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token()}, has_multicall=False)
    broken = True

    def answer(request: Request) -> Response:
        call = request.get_json()
        if broken and call["method"] == "eth_call" and call["params"][0]["to"] != MULTICALL3:
            match fault:
                case "null":
                    return Response(json.dumps({"jsonrpc": "2.0", "id": 1, "result": None}))
                case "huge":
                    return Response('{"result":"0x' + "0" * (6 * 2**20) + '"}')
                case "impossible":
                    return Response(json.dumps(IMPOSSIBLE["node"]))
                case _:
                    return Response("no", int(fault))
        return node.answer(request)

    with serve(answer) as url:
        start_bot(
            JSON_RPC_URL=url, CACHE_DIR=str(tmp_path), LOOKUP_DEADLINE_SECONDS=str(DEADLINE_SECONDS)
        )
        assert handle()[f"{UNKNOWN_TOKEN}_value"] == "unknown"
        assert_nothing_remembered(tmp_path)
        broken = False
        wait_until(lambda: "SOME_value" in handle())


@pytest.mark.parametrize("answered", [0, 1, 2, 5, 11, 20])
def test_a_search_that_breaks_off_at_any_step_leaves_no_wrong_age(start_bot, tmp_path, answered):
    """The node dies in the middle of the some 30 questions that an old account takes."""
    node = FakeNode(sent_in_blocks={ALICE: [12_345_678]})
    left = answered

    def answer(request: Request) -> Response:
        nonlocal left
        if request.get_json()["method"] != "eth_call":
            left -= 1
            if left < 0:
                return Response("no", 503)
        return node.answer(request)

    with serve(answer) as url:
        start_bot(JSON_RPC_URL=url, CACHE_DIR=str(tmp_path))
        assert handle()[AGE] == "unknown"
        assert_nothing_remembered(tmp_path)
        left = 10**6
        assert handle()[AGE] == as_text((TIMESTAMP - block_timestamp(12_345_678)) / 60)
