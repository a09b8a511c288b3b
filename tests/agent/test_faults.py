"""The whole bot in a world that fails: what comes out, what is remembered, what comes back."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from werkzeug import Response

import src.agent
from src.chain.lookups.store import FILE_NAME, FactStore
from src.chain.transfers import TRANSFER_TOPIC
from src.demo.processes import supervised
from tests.conftest import ALICE, BLOCK, TIMESTAMP, UNKNOWN_TOKEN, USDC, event_of, transfer_log
from tests.support import raw_server
from tests.support.fake_chain import FakeNode, etherscan_answer, serve, usual_token

ROOT = Path(__file__).resolve().parents[2]
KEY = "planted-key"


def settings_for(url: str, folder: Path, **changes: str) -> dict[str, str]:
    return {
        "JSON_RPC_URL": url,
        "ETHERSCAN_URL": f"{url}/api",
        "ETHPLORER_URL": url,
        "ETHPLORER_API_KEY": KEY,
        "CACHE_DIR": str(folder),
        **changes,
    }


def payment(token: str = UNKNOWN_TOKEN):
    return event_of([transfer_log(token=token, amount=5 * 10**18)])


def primary(findings):
    (finding,) = findings
    return finding


def assert_scored_without_facts(finding) -> None:
    assert finding.alert_id in {"NORMAL-TOKEN-TRANSFERS-TX", "ANOMALOUS-TOKEN-TRANSFERS-TX"}
    assert finding.metadata[f"{UNKNOWN_TOKEN}_value"] == "unknown"
    assert finding.metadata["account_active_period_in_minutes"] == "unknown"
    assert KEY not in finding.toJson()


def assert_nothing_remembered(folder: Path) -> None:
    store = FactStore(folder, 1)
    assert store._reader is not None
    assert store.token_info(UNKNOWN_TOKEN) is None
    assert store.first_transaction(ALICE) is None
    store.close()


@pytest.mark.parametrize(
    "behaviour",
    [
        raw_server.hang,
        raw_server.drip_head,
        raw_server.drip_body,
        raw_server.endless_body,
        raw_server.reset,
    ],
)
def test_broken_connections_to_every_source_cost_no_finding_and_are_not_remembered(
    start_bot, tmp_path, behaviour
):
    with raw_server.raw_server(behaviour) as url:
        start_bot(**settings_for(url, tmp_path, LOOKUP_DEADLINE_SECONDS="0.2"))
        assert_scored_without_facts(primary(src.agent.handle_transaction(payment())))
        assert src.agent.health_check() == []
        assert_nothing_remembered(tmp_path)


def test_names_that_do_not_resolve_cost_no_finding(start_bot, tmp_path):
    start_bot(**settings_for("http://node.invalid", tmp_path))
    assert_scored_without_facts(primary(src.agent.handle_transaction(payment())))
    assert_nothing_remembered(tmp_path)


def test_name_resolution_that_hangs_is_not_waited_for(start_bot, tmp_path, monkeypatch):
    over = threading.Event()

    def resolve(*_: object, **__: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    try:
        start_bot(**settings_for("http://node.example", tmp_path, LOOKUP_DEADLINE_SECONDS="0.1"))
        assert_scored_without_facts(primary(src.agent.handle_transaction(payment())))
    finally:
        over.set()


@pytest.mark.parametrize("now", [0.0, 946_684_800.0, 4_102_444_800.0], ids=["1970", "2000", "2100"])
def test_a_wrong_clock_changes_no_score_and_leaves_nothing_false(
    start_bot, tmp_path, monkeypatch, now
):
    """Only the wall clock jumps; every wait, rate and deadline is on the monotonic one."""
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token()}, sent_in_blocks={ALICE: [BLOCK - 1]})
    explorer = json.dumps(etherscan_answer(str(TIMESTAMP - 600)))
    with (
        serve(node.answer) as node_url,
        serve(lambda _: Response(explorer)) as explorer_url,
    ):
        start_bot(JSON_RPC_URL=node_url, ETHERSCAN_URL=explorer_url, CACHE_DIR=str(tmp_path))
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", lambda: now)
            wrong = primary(src.agent.handle_transaction(payment()))
        right = primary(src.agent.handle_transaction(payment()))
    assert wrong.metadata["anomaly_score"] == right.metadata["anomaly_score"]
    assert wrong.metadata["SOME_value"] == right.metadata["SOME_value"] == "5"
    assert wrong.metadata["account_active_period_in_minutes"] in {"unknown", "10"}
    assert right.metadata["account_active_period_in_minutes"] == "10"


@pytest.mark.parametrize(
    "content", [b"", b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 9000]
)
def test_a_damaged_cache_costs_no_finding(start_bot, tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token()})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url, CACHE_DIR=str(tmp_path))
        finding = primary(src.agent.handle_transaction(payment()))
    assert finding.metadata["SOME_value"] == "5"


CHILD = """
import json, os, resource, sys
sys.path.insert(0, {root!r})
from forta_agent import create_transaction_event
import src.agent

def transfer_log(amount, token={token!r}):
    topics = [{topic!r}, "0x" + "a1".rjust(64, "0"), "0x" + "b2".rjust(64, "0")]
    return {{"address": token, "topics": topics, "data": f"0x{{amount:064x}}"}}

def event_of(logs):
    transaction = {{"hash": "0x" + "ab" * 32, "from": "0x" + "a1".rjust(40, "0")}}
    block = {{"number": {block}, "timestamp": {timestamp}}}
    return create_transaction_event({{"transaction": transaction, "block": block, "logs": logs}})

src.agent.initialize()
handle = src.agent.handle_transaction
{body}
"""


def run_child(body: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A bot in a process of its own, which may limit itself."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD.format(
                root=str(ROOT),
                token=USDC,
                topic=TRANSFER_TOPIC,
                block=BLOCK,
                timestamp=TIMESTAMP,
                body=body,
            ),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "JSON_RPC_URL": "http://127.0.0.1:1",
            "FORTA_CHAIN_ID": "1",
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk_costs_no_finding(tmp_path):
    body = """
from pathlib import Path
used = max(path.stat().st_size for path in Path(os.environ["CACHE_DIR"]).iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (used + 4096, resource.RLIM_INFINITY))
from src.chain.facts import TokenInfo
cache = src.agent.BOT.lookups._cache
scored = 0
for number in range(300):
    token = f"0x{number + 1:040x}"
    cache.keep_token_infos({token: TokenInfo("n" * 64, f"T{number}", 0)})
    (finding,) = handle(event_of([transfer_log(token=token, amount=7)]))
    scored += finding.metadata[f"T{number}_value"] == "7"
src.agent.BOT.lookups.close()
sys.stderr.write(f"scored {scored}\\n")
"""
    child = run_child(body, CACHE_DIR=str(tmp_path))
    assert child.returncode == 0, child.stderr
    assert "scored 300" in child.stderr
    assert child.stderr.count("is unusable") == 1
    assert child.stdout == ""
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_too_little_memory_costs_one_transaction_and_not_the_bot():
    """A transaction that does not fit is answered as invalid; the next one is scored."""
    body = """
small = event_of([transfer_log(amount=1)])
(first,) = handle(small)
large = event_of([transfer_log(token=f"0x{n:040x}", amount=n) for n in range(60_000)])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**20, resource.RLIM_INFINITY))
(starved,) = handle(large)
(after,) = handle(small)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sys.stderr.write(json.dumps([f.alert_id for f in (first, starved, after)]) + "\\n")
sys.stderr.write(starved.metadata.get("reason", "") + "\\n")
"""
    child = run_child(body)
    assert child.returncode == 0, child.stderr
    *_, alerts, reason = child.stderr.splitlines()
    first, starved, after = json.loads(alerts)
    assert first == after != starved
    assert starved == "INVALID-TOKEN-TRANSFERS-TX"
    assert reason == "internal error: MemoryError"
    assert child.stdout == ""


def test_a_cache_survives_a_kill_at_any_moment(tmp_path):
    """Killed while it writes, over and over: the file stays whole and only ever says the truth."""
    writer = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from src.chain.lookups.store import FactStore
from src.chain.facts import TokenInfo
store = FactStore(Path(sys.argv[2]), 1)
start = int(sys.argv[3])
print("writing", flush=True)
for number in range(start, start + 10**9):
    info = TokenInfo(f"Name {number}", f"S{number}", number % 256)
    store.put_token_infos({f"0x{number:040x}": info})
    print(number, flush=True)
"""
    for kill in range(6):
        start = kill * 1_000_000
        child = subprocess.Popen(
            supervised([sys.executable, "-c", writer, str(ROOT), str(tmp_path), str(start)]),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        for _ in range(7 * kill):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = FactStore(tmp_path, 1)
        assert store._reader is not None
        for number in range(start, start + 50):
            info = store.token_info(f"0x{number:040x}")
            assert info is None or (info.name, info.decimals) == (f"Name {number}", number % 256)
        store.close()
        with sqlite3.connect(tmp_path / FILE_NAME) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (facts,) = database.execute("SELECT count(*) FROM token").fetchone()
        database.close()
    assert facts >= sum(7 * kill for kill in range(6))


def test_two_bots_on_one_cache_both_score_and_share_what_they_learn(start_bot, tmp_path):
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token()})
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url, CACHE_DIR=str(tmp_path))
        primary(src.agent.handle_transaction(payment()))
        body = f"""
(finding,) = handle(event_of([transfer_log(token={UNKNOWN_TOKEN!r}, amount=5 * 10**18)]))
src.agent.BOT.lookups.close()
sys.stderr.write("second bot: " + finding.metadata["SOME_value"] + "\\n")
"""
        second = run_child(body, CACHE_DIR=str(tmp_path))  # without a node: from the cache
        assert "second bot: 5" in second.stderr
        assert (
            primary(src.agent.handle_transaction(payment(USDC))).metadata["USDC_transfers"] == "1"
        )
