"""The bot on other chains than mainnet."""

import logging

import pytest

from src import agent
from src.variables import SettingsError
from tests.agent.handling import handle
from tests.conftest import event_of, transfer_log
from tests.support.fake_chain import FakeNode, serve, usual_token

TOKEN = "0x" + "77" * 20


class Base(FakeNode):
    """A node of Base."""

    def eth_chainId(self) -> str:  # noqa: N802
        return "0x2105"


def test_the_bot_takes_the_nodes_chain(start_bot):
    with serve(Base(tokens={TOKEN: usual_token()}).answer) as url:
        start_bot(JSON_RPC_URL=url, FORTA_CHAIN_ID="")
        assert agent.BOT.settings.chain_id == 8453
        assert handle(event_of([transfer_log(TOKEN)], network=8453))["protocol"] == "base"


def test_the_bot_refuses_a_node_of_another_chain(start_bot):
    with serve(Base().answer) as url, pytest.raises(SettingsError, match=r"8453.*'1'"):
        start_bot(JSON_RPC_URL=url)
    assert agent.BOT is None


def test_a_transaction_of_another_chain_is_not_scored(start_bot):
    start_bot()
    finding = handle(event_of([transfer_log()], network=56))
    assert finding["alert_id"] == "INVALID-TOKEN-TRANSFERS-TX"
    assert finding["metadata"]["reason"] == "the transaction is of chain 56, the bot runs on 1"
    assert finding["protocol"] == "bsc"


@pytest.mark.parametrize(("chain_id", "name"), [(59144, "linea"), (424_242, "unknown")])
def test_the_bot_runs_on_chains_that_the_sdk_does_not_list(start_bot, chain_id, name):
    start_bot(FORTA_CHAIN_ID=str(chain_id))
    finding = handle(event_of([transfer_log(TOKEN)], network=chain_id))
    assert finding["metadata"]["prediction"] in {"NORMAL", "ANOMALY"}
    assert finding["protocol"] == name


def test_the_start_log_names_every_detector_without_effect(start_bot, caplog):
    logger = logging.getLogger("src.decision.pipeline")  # it does not reach the root's handlers
    logger.addHandler(caplog.handler)
    try:
        start_bot(FORTA_CHAIN_ID="424242")
    finally:
        logger.removeHandler(caplog.handler)
    line = next(one.getMessage() for one in caplog.records if "policy" in one.msg)
    unknown_amounts = "without effect (the model knows no usual amounts of this chain's tokens)"
    for name in ("fresh_account_large_value", "disproportionate_mint"):
        assert f"{name} {unknown_amounts}" in line
    assert "impersonated_token without effect (there is no list of this chain's well" in line
    assert "impersonated_token on" not in line
