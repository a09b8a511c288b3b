"""The chain of the settings is the node's."""

import json
import logging
from typing import Any

import pytest
from werkzeug import Request, Response

from src import agent
from src.chain.errors import SourceUnavailable
from src.settings import Settings, load_settings, on_the_nodes_chain
from src.variables import SettingsError
from tests.conftest import event_of, transfer_log
from tests.support.fake_chain import FakeNode, serve

NOBODY = "http://127.0.0.1:1/secret-key"


class Node(FakeNode):
    """One on BNB Smart Chain."""

    def eth_chainId(self) -> str:  # noqa: N802
        return "0x38"


def asked(settings: Settings) -> Settings:
    with serve(Node().answer) as url:
        return on_the_nodes_chain(Settings(**{**as_given(settings), "json_rpc_url": url}))


def as_given(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("chain_id", "is_chain_set")}


def test_a_chain_that_is_not_set_is_the_nodes() -> None:
    assert asked(Settings()).chain_id == 56


def test_a_chain_that_is_set_is_compared_with_the_nodes() -> None:
    assert asked(Settings(chain_id=56, is_chain_set=True)).chain_id == 56
    with pytest.raises(SettingsError) as caught:
        asked(Settings(chain_id=8453, is_chain_set=True))
    assert str(caught.value) == (
        "FORTA_CHAIN_ID must be 56, the chain of the node, or unset (it is '8453')"
    )


def test_without_a_node_there_is_nobody_to_ask() -> None:
    assert on_the_nodes_chain(Settings(chain_id=137)).chain_id == 137


def test_a_node_that_does_not_answer_must_not_be_guessed_about() -> None:
    with pytest.raises(SourceUnavailable, match="set FORTA_CHAIN_ID") as caught:
        on_the_nodes_chain(Settings(json_rpc_url=NOBODY))
    assert "secret-key" not in str(caught.value)
    known = Settings(json_rpc_url=NOBODY, chain_id=10, is_chain_set=True)
    assert on_the_nodes_chain(known) == known


@pytest.mark.parametrize(
    "first",
    [
        Response(json.dumps({"error": {"code": -32005, "message": "rate limit"}})),
        Response(json.dumps({"error": {"code": -32000, "message": "no healthy backend"}})),
        Response("", 429),
        Response("<html>Just a moment...</html>"),
    ],
)
def test_a_node_that_cannot_answer_for_a_moment_is_asked_again(
    first: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.settings._NODE_PAUSES", (0.0, 0.0))
    node, answers = Node(), [first]
    with serve(lambda request: answers.pop() if answers else node.answer(request)) as url:
        assert on_the_nodes_chain(Settings(json_rpc_url=url)).chain_id == 56


def test_a_bot_starts_while_its_node_is_away_and_compares_each_events_chain(
    start_bot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("src.settings")  # the bot's log does not reach the root's handlers
    logger.addHandler(caplog.handler)
    try:
        start_bot(JSON_RPC_URL=NOBODY, FORTA_CHAIN_ID="")
    finally:
        logger.removeHandler(caplog.handler)
    assert "going on with 1, as FORTA_CHAIN_ID is not set" in caplog.text
    assert "secret-key" not in caplog.text
    (finding,) = agent.handle_transaction(event_of([transfer_log()]))
    assert finding.alert_id == "NORMAL-TOKEN-TRANSFERS-TX"
    (finding,) = agent.handle_transaction(event_of([transfer_log()], network=56))
    assert finding.alert_id == "INVALID-TOKEN-TRANSFERS-TX"
    assert finding.metadata["reason"] == "the transaction is of chain 56, the bot runs on 1"


@pytest.mark.parametrize("answer", ['"0x0"', '"-1"', "null", "[]", "true", '"0xzz"', f'"{2**63}"'])
def test_a_chain_id_that_is_none_is_no_answer(answer: str) -> None:
    def reply(_request: Request) -> Response:
        return Response(f'{{"jsonrpc": "2.0", "id": 1, "result": {answer}}}')

    with serve(reply) as url, pytest.raises(SourceUnavailable, match="no chain id; set FORTA"):
        on_the_nodes_chain(Settings(json_rpc_url=url))


def test_only_the_variable_sets_the_chain(tmp_path: Any) -> None:
    def loaded(**environ: str) -> tuple[int, bool]:
        settings = load_settings(environ, project_root=tmp_path, home=tmp_path, arguments=[])
        return settings.chain_id, settings.is_chain_set

    assert loaded() == (1, False)
    assert loaded(FORTA_CHAIN_ID="8453") == (8453, True)
    assert loaded(FORTA_CHAIN_ID="1") == (1, True)
