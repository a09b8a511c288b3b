"""Transactions of a local chain, each screened before it is sent."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from src.chain.simulation.call import UnsignedCall
from src.demo.anvil import Chain, anvil
from src.demo.contracts import compile_contracts
from src.demo.world import GENESIS, World, build
from src.service.context import open_screener
from src.service.decider import Decider, Outcome
from src.service.node import NodeReader
from src.service.records import LoadedTransaction
from src.service.screening.screener import Screener, Screening
from tests.service.chain import common_settings
from tests.support.taking_away import node_without


class Pair(NamedTuple):
    """The same transaction before and after it was mined."""

    screening: Screening
    mined: LoadedTransaction
    outcome: Outcome


class ScreenedChain(Chain):
    """Screens every transaction before it sends it, once `screener` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.screener: Screener | None = None
        self.sent: list[tuple[Screening, str]] = []

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
        self.sent.append((screening, receipt["transactionHash"]))
        return receipt


@contextmanager
def screened_world(*without: str) -> Iterator[tuple[World, Callable[[], list[Pair]]]]:
    """The demo's world, and what returns the pairs of what was sent since it was called last.

    Args:
        without: methods that the node lacks when it is asked for simulations.
    """
    with ExitStack() as opened:
        chain = ScreenedChain(opened.enter_context(anvil(timestamp=GENESIS)).url)
        world = build(chain, compile_contracts())
        url = opened.enter_context(node_without(chain.url, *without)) if without else chain.url
        common = common_settings(url)
        decider = Decider(common)
        opened.callback(decider.close)
        node = NodeReader(chain.url, requests_per_second=10_000, verify=False, patience=1.0)
        opened.callback(node.close)
        chain.screener = open_screener(opened, common, decider)

        def pairs() -> list[Pair]:
            found = []
            for screening, tx_hash in chain.sent:
                mined = node.transaction(tx_hash)
                assert mined is not None
                found.append(Pair(screening, mined, decider.decide(mined)))
            chain.sent.clear()
            return found

        yield world, pairs


def assert_same(pair: Pair) -> None:
    """The screening and the decision in the block agree in everything."""
    screening, mined, outcome = pair
    assert screening.status == "success", screening.problem
    (simulated,) = screening.transactions
    assert screening.block == mined.block_number
    assert screening.action == outcome.decision.action
    assert [one[:4] for one in simulated.transaction.transfers] == [
        one[:4] for one in mined.transfers
    ]
    for name in ("sender", "to", "nonce", "value", "gas_used", "gas_price", "approvals"):
        assert getattr(simulated.transaction, name) == getattr(mined, name), name
    for name in ("score", "attack_score", "reasons", "shadow", "prediction"):
        assert getattr(simulated.outcome.decision, name) == getattr(outcome.decision, name)
    assert simulated.outcome.features == outcome.features
