"""The real `forta-agent run --prod` when its Python child or its parent is killed."""

import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import psutil
import pytest

from src.chain.lookups.store import FILE_NAME
from tests.conftest import ALICE, BOB, UNKNOWN_TOKEN, USDC, transfer_log
from tests.support.fake_chain import FakeNode, serve, usual_token
from tests.support.forta_bridge import production_bot, production_process, transaction_event
from tests.support.processes import command_line
from tests.support.raw_server import hang, raw_server
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.integration

EMPTY_BOT = "def handle_transaction(_event):\n    return []\n"


@pytest.fixture
def empty_project(tmp_path):
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "package.json").write_text('{"name": "e", "version": "0.0.0", "chainIds": [1]}')

    def write(source: str = EMPTY_BOT):
        (project / "src/agent.py").write_text(source)
        return project

    return write


def python_child(bridge) -> psutil.Process:
    """The bot, once the CLI's own checks of its syntax have ended."""
    found: list[psutil.Process] = []

    def is_alone() -> bool:
        every = psutil.Process(bridge.process.pid).children(recursive=True)
        lines = [(child, " ".join(command_line(child))) for child in every]
        found[:] = [child for child, line in lines if line and "py_compile" not in line]
        return len(found) == 1

    wait_until(is_alone)
    return found[0]


def payment(token=USDC):
    log = transfer_log(token, ALICE, BOB, 1)
    del log["logIndex"]
    return transaction_event(tx_hash="0x" + "01" * 32, sender=ALICE, logs=[log])


def test_a_killed_child_ends_the_whole_bot_with_a_code(tmp_path, empty_project):
    with production_bot(tmp_path, {}, empty_project()) as bridge:
        assert bridge.evaluate(payment()).status == 2
        python_child(bridge).send_signal(signal.SIGKILL)
        assert bridge.process.wait(PATIENCE) == 128 + signal.SIGKILL
    assert "SIGKILL" in (tmp_path / "bot.log").read_text()


def test_a_child_killed_with_a_transaction_in_flight_leaves_no_caller_waiting(
    tmp_path, empty_project
):
    source = (
        "import os, signal\n"
        "def handle_transaction(_event):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with production_bot(tmp_path, {}, empty_project(source)) as bridge:
        with pytest.raises(grpc.RpcError) as error:
            bridge.evaluate(payment())
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert bridge.process.wait(PATIENCE) == 128 + signal.SIGKILL


@pytest.mark.parametrize("statement", ["sys.exit(0)", "raise ValueError('why')"])
def test_a_child_that_exits_ends_the_bot_and_its_output_is_logged(
    tmp_path, empty_project, statement
):
    source = (
        "import sys\ndef handle_transaction(_event):\n"
        f"    print('last words', file=sys.stderr)\n    {statement}\n"
    )
    with production_bot(tmp_path, {}, empty_project(source)) as bridge:
        with pytest.raises(grpc.RpcError):
            bridge.evaluate(payment())
        assert bridge.process.wait(PATIENCE) > 0
    log = (tmp_path / "bot.log").read_text()
    assert "last words" in log
    assert ("ValueError: why" in log) is ("ValueError" in statement)


def test_a_bot_whose_import_fails_does_not_live_on_deaf(tmp_path, empty_project):
    project = empty_project(f"import does_not_exist\n{EMPTY_BOT}")
    with production_process(tmp_path, {}, project) as (process, _):
        assert process.wait(PATIENCE) > 0
    assert "No module named 'does_not_exist'" in (tmp_path / "bot.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_cli(tmp_path, empty_project, number):
    with production_bot(tmp_path, {}, empty_project()) as bridge:
        child = python_child(bridge)
        bridge.process.send_signal(number)
        bridge.process.wait(PATIENCE)
        child.wait(PATIENCE)


def test_a_bot_that_is_ended_in_the_middle_of_a_transaction_goes_on_after_a_restart(tmp_path):
    """As a container is stopped: the signal goes to all processes, the cache stays."""
    folder = tmp_path / "cache"
    settings = {"CACHE_DIR": str(folder), "LOOKUP_DEADLINE_SECONDS": "25"}
    node = FakeNode(tokens={UNKNOWN_TOKEN: usual_token()}, sent_in_blocks={ALICE: [1]})
    for number in (signal.SIGKILL, signal.SIGTERM):
        with (
            raw_server(hang) as url,
            production_bot(tmp_path, settings | {"JSON_RPC_URL": url}) as bot,
        ):
            assert bot.initialize().status == 2
            group = [psutil.Process(bot.process.pid), python_child(bot)]
            with ThreadPoolExecutor(1) as caller:
                answer = caller.submit(bot.evaluate, payment(UNKNOWN_TOKEN))
                wait_until(lambda child=group[1]: len(child.net_connections()) > 0)
                os.killpg(bot.process.pid, number)
                _, alive = psutil.wait_procs(group, PATIENCE)
                assert not alive
                assert isinstance(answer.exception(), grpc.RpcError)
    with (
        serve(node.answer) as url,
        production_bot(tmp_path, settings | {"JSON_RPC_URL": url}) as bot,
    ):
        assert bot.initialize().status == 2
        (finding,) = bot.evaluate(payment(UNKNOWN_TOKEN)).findings
    assert finding.metadata["SOME_transfers"] == "1"
    assert finding.metadata["account_active_period_in_minutes"] != "unknown"
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
