"""A screening decides as the same transaction is decided on once it is mined."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from src.chain.simulation.call import UnsignedCall
from src.demo.anvil import Chain, anvil
from src.demo.contracts import compile_contracts
from src.demo.scenarios import SCENARIOS
from src.demo.world import GENESIS, build
from src.detection.records import Action
from src.service.context import open_screener
from src.service.decider import Decider, Outcome
from src.service.node import NodeReader
from src.service.records import LoadedTransaction
from src.service.screening.screener import Screener, Screening
from tests.service.chain import common_settings

pytestmark = pytest.mark.integration


class Pair(NamedTuple):
    """The same transaction before and after it was mined."""

    screening: Screening
    mined: LoadedTransaction
    outcome: Outcome


class Screened(Chain):
    """A local chain on which every transaction is screened before it is sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.screener: Screener | None = None
        self.pairs: list[tuple[Screening, str]] = []

    def send(self, sender: str, **what: Any) -> dict[str, Any]:
        if self.screener is None:
            return super().send(sender, **what)
        self.rpc("evm_setNextBlockTimestamp", self._time + 12)
        call = {
            "from": sender, "gas": hex(12_000_000), "maxFeePerGas": hex(100 * 10**9),
            "maxPriorityFeePerGas": hex(10**9), **what, "value": hex(what.get("value", 0)),
        }  # fmt: skip
        screening = self.screener.screen([UnsignedCall.from_rpc(call)])
        receipt = super().send(sender, **what)
        self.pairs.append((screening, receipt["transactionHash"]))
        return receipt


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, list[Pair]]]:
    code = compile_contracts()
    with ExitStack() as opened:
        chain = Screened(opened.enter_context(anvil(timestamp=GENESIS)).url)
        world = build(chain, code)
        common = common_settings(chain.url)
        decider = Decider(common)
        opened.callback(decider.close)
        node = NodeReader(chain.url, requests_per_second=10_000, verify=False, patience=1.0)
        opened.callback(node.close)
        chain.screener = open_screener(opened, common, decider)
        pairs: dict[str, list[Pair]] = {}
        for scenario in SCENARIOS:
            chain.pairs.clear()
            scenario.play(world)
            for screening, tx_hash in chain.pairs:
                mined = node.transaction(tx_hash)
                assert mined is not None
                pairs.setdefault(scenario.key, []).append(
                    Pair(screening, mined, decider.decide(mined))
                )
        yield pairs


@pytest.mark.parametrize("scenario", [one.key for one in SCENARIOS])
def test_simulated_and_mined_decisions_of_the_demo_are_the_same(
    played: dict[str, list[Pair]], scenario: str
) -> None:
    for screening, mined, outcome in played[scenario]:
        (simulated,) = screening.transactions
        assert screening.status == "success"
        assert screening.block == mined.block_number
        assert screening.action == outcome.decision.action
        assert [one[:4] for one in simulated.transaction.transfers] == [
            one[:4] for one in mined.transfers
        ]
        for name in ("sender", "to", "nonce", "value", "gas_used", "gas_price", "approvals"):
            assert getattr(simulated.transaction, name) == getattr(mined, name), name
        for name in (
            "score",
            "attack_score",
            "reasons",
            "shadow",
            "money",
            "prediction",
            "summary",
        ):
            assert getattr(simulated.outcome.decision, name) == getattr(outcome.decision, name)
        assert simulated.outcome.features == outcome.features


def test_the_theft_is_blocked_before_it_is_mined(played: dict[str, list[Pair]]) -> None:
    theft = played["theft"][-1].screening
    assert theft.action is Action.BLOCK
    assert theft.sentence.startswith("0x")
    assert any("repays" in reason for reason in theft.reasons)
    assert not any("0.8" in reason for reason in theft.reasons), "scores are details"
