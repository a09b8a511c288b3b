"""The bot as a scan node runs it: the real `forta-agent run --prod`, asked over gRPC."""

import json
from collections.abc import Iterator

import psutil
import pytest
from werkzeug import Request, Response

from src.chain.text import BRIDGE_MARKERS
from tests.conftest import ALICE, BOB, TIMESTAMP, UNKNOWN_TOKEN, USDC, transfer_log
from tests.support.fake_chain import (
    FakeNode,
    abi_string,
    abi_uint,
    etherscan_answer,
    serve,
    usual_token,
)
from tests.support.forta_bridge import Bridge, production_bot, transaction_event
from tests.support.processes import name

pytestmark = pytest.mark.integration

CONTROL_TOKEN = "0x" + "c0" * 20
MARKER_TOKEN = "0x" + "ec" * 20
YOUNGER_SENDER = "0x" + "f7" * 20
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
POOL = "0x" + "70" * 20
LENDER = "0x" + "1e" * 20
ATTACKER = "0x" + "ad" * 20


def explorer(request: Request) -> Response:
    """An explorer that claims a first transaction after the one at hand for one sender."""
    from_future = request.args["address"] == YOUNGER_SENDER
    timestamp = TIMESTAMP + 3600 if from_future else TIMESTAMP - 86_400
    return Response(json.dumps(etherscan_answer(str(timestamp))))


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    node = FakeNode(
        tokens={
            MARKER_TOKEN: usual_token("-!*forta_finding*!-:", "-!*forta_finding*!-:"),
            CONTROL_TOKEN: {
                "name": abi_string("\x00\x1b[31m\r\n\u202e" + "N" * 100_000),
                "symbol": abi_string("!*forta_finding*!:\n"),
                "decimals": abi_uint(18),
            },
        }
    )
    with (
        serve(node.answer) as node_url,
        serve(explorer) as explorer_url,
        production_bot(
            tmp_path_factory.mktemp("production"),
            {
                "JSON_RPC_URL": node_url,
                "ETHERSCAN_URL": explorer_url,
                "LOOKUP_DEADLINE_SECONDS": "25",
            },
        ) as bridge,
    ):
        assert bridge.initialize().status == 2  # SUCCESS
        yield bridge


def evaluate(bot: Bridge, logs, sender=ALICE, tx_hash="0x" + "01" * 32):
    response = bot.evaluate(
        transaction_event(tx_hash=tx_hash, sender=sender, logs=logs, timestamp=TIMESTAMP)
    )
    assert response.status == 2
    return list(response.findings)


def log_of(token, sender, recipient, amount):
    log = transfer_log(token, sender, recipient, amount)
    del log["logIndex"]
    return log


def flash_loan_theft():
    """Borrow, swap back and forth to bend the price, take the pool's tokens, repay."""
    logs = [log_of(WETH, LENDER, ATTACKER, 10**22), log_of(USDC, LENDER, ATTACKER, 10**13)]
    for step in range(12):
        logs += [
            log_of(WETH, ATTACKER, POOL, 10**21),
            log_of(USDC, POOL, ATTACKER, 10**12 + step),
            log_of(USDC, ATTACKER, POOL, 9 * 10**11),
            log_of(WETH, POOL, ATTACKER, 11 * 10**20),
        ]
    logs += [log_of(WETH, ATTACKER, LENDER, 10**22), log_of(USDC, ATTACKER, LENDER, 10**13)]
    return [*logs, log_of(USDC, ATTACKER, BOB, 10**12)]


def test_health_check_succeeds(bot):
    assert bot.health_check().status == 2


def test_a_transaction_without_tokens_gives_no_finding(bot):
    assert evaluate(bot, []) == []


def test_a_plain_payment_is_normal(bot):
    (finding,) = evaluate(bot, [log_of(USDC, ALICE, BOB, 25 * 10**6)])
    assert finding.alertId == "NORMAL-TOKEN-TRANSFERS-TX"
    assert (finding.severity, finding.type, finding.protocol) == (1, 4, "ethereum")
    assert finding.metadata["USDC_value"] == "25"
    assert finding.metadata["account_active_period_in_minutes"] == "1440"
    assert len(json.loads(finding.metadata["model_explanations"])) == 10


def test_a_flash_loan_theft_is_anomalous(bot):
    tx_hash = "0x" + "02" * 32
    (finding,) = evaluate(bot, flash_loan_theft(), tx_hash=tx_hash)
    assert finding.alertId == "ANOMALOUS-TOKEN-TRANSFERS-TX"
    assert (finding.severity, finding.type) == (5, 2)
    (label,) = finding.labels
    assert (label.entity, label.entityType, label.label) == (tx_hash, 2, "attacker")
    assert label.confidence == pytest.approx(float(finding.metadata["anomaly_score"]))


def test_an_impossible_age_takes_no_score_away(bot):
    (finding,) = evaluate(bot, [log_of(USDC, ALICE, BOB, 1)], sender=YOUNGER_SENDER)
    assert finding.alertId == "NORMAL-TOKEN-TRANSFERS-TX"
    assert finding.metadata["account_active_period_in_minutes"] == "unknown"


@pytest.mark.parametrize("token", [MARKER_TOKEN, CONTROL_TOKEN], ids=["marker", "control, 100 kB"])
def test_a_token_with_a_hostile_name_gives_a_finding_and_the_process_lives(bot, token):
    (finding,) = evaluate(bot, [log_of(token, ALICE, BOB, 10**18)])
    assert finding.metadata["transfer_counts"] == "1"
    text = " ".join([*finding.metadata, *finding.metadata.values()])
    assert not any(marker in text for marker in BRIDGE_MARKERS)
    assert len(text) < 10_000
    assert bot.process.poll() is None
    assert bot.health_check().status == 2


def test_the_largest_amounts_give_a_finding(bot):
    logs = [log_of(USDC, ALICE, BOB, 2**256 - 1) for _ in range(20)]
    finding, of_the_rule = evaluate(bot, logs)
    assert 0 < float(finding.metadata["anomaly_score"]) < 1
    assert of_the_rule.alertId == "FRESH-ACCOUNT-LARGE-VALUE"
    assert (of_the_rule.severity, of_the_rule.type) == (4, 2)


def test_thousands_of_logs_give_one_finding(bot):
    logs = [log_of(f"0x{n:040x}", ALICE, f"0x{n + 1:040x}", n) for n in range(1, 3001)]
    (finding,) = evaluate(bot, logs)
    assert finding.metadata["transfer_counts"] == "3000"
    assert len(finding.addresses) == 50


def test_the_python_child_is_the_projects_and_small(bot):
    children = psutil.Process(bot.process.pid).children(recursive=True)
    python = [child for child in children if "python" in name(child)]
    assert len(python) == 1
    assert ".venv" in python[0].environ()["PATH"].split(":")[0]
    assert python[0].memory_info().rss < 300 * 2**20


def test_unknown_tokens_show_their_address(bot):
    (finding,) = evaluate(bot, [log_of(UNKNOWN_TOKEN, ALICE, BOB, 1)])
    assert finding.metadata[f"{UNKNOWN_TOKEN}_value"] == "unknown"
