"""The balances that a detector needs: asked of the node as of before the transaction."""

from collections.abc import Callable
from dataclasses import dataclass, field

from src import agent
from src.settings import PROJECT_ROOT
from tests.conftest import ALICE, BLOCK, BOB, TX_HASH, event_of, transfer_log
from tests.support.fake_chain import BALANCE_OF, FakeNode, serve

BRIDGE = "0x" + "b4" * 20
TAKEN = 10**14
SHIPPED = PROJECT_ROOT / "isolation_forest.pkl"  # knows the worth of USDC


@dataclass
class Emptying(FakeNode):
    """A node on which the bridge has been emptied in parts for 100 blocks."""

    asked: list[int] = field(default_factory=list)

    def eth_call(self, call: dict[str, str], block: str) -> str:
        if not call["data"].startswith(f"0x{BALANCE_OF.hex()}"):
            return super().eth_call(call, block)
        self.asked.append(int(block, 16))
        held = TAKEN * 3 // 2 if int(block, 16) == BLOCK - 1 else TAKEN * 10
        return f"0x{held:064x}"


def findings(start_bot: Callable[..., None], node: FakeNode, payer: str) -> set[str]:
    with serve(node.answer) as url:
        start_bot(JSON_RPC_URL=url, LOOKUP_DEADLINE_SECONDS="20", MODEL_PATH=str(SHIPPED))
        sent = {"hash": TX_HASH, "from": ALICE, "to": BOB, "nonce": 1}
        event = event_of([transfer_log(sender=payer, amount=TAKEN)], transaction=sent)
        return {str(finding.alert_id) for finding in agent.handle_transaction(event)}


def test_a_theft_in_parts_is_held_against_what_was_there_100_blocks_before(
    start_bot: Callable[..., None],
) -> None:
    node = Emptying()
    assert "EMPTIED-ACCOUNT" in findings(start_bot, node, BRIDGE)
    assert sorted(node.asked) == [BLOCK - 100, BLOCK - 1]


def test_a_payment_of_ones_own_asks_for_no_balance(start_bot: Callable[..., None]) -> None:
    node = Emptying()
    assert "EMPTIED-ACCOUNT" not in findings(start_bot, node, ALICE)
    assert node.asked == []
