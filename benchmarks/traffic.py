"""Transactions to measure with: made from a seed, the same in every run."""

import random
from typing import Any

from forta_agent import TransactionEvent, create_transaction_event

from src.chain.transfers import TRANSFER_TOPIC, ZERO_ADDRESS

TIMESTAMP = 1_700_000_000
BLOCK = 20_000_000

_UNITS_PER_DOLLAR = {
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48": 10**6,  # USDC
    "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2": 10**18 // 2_000,  # WETH
    "0x6b175474e89094c44da98b954eedeac495271d0f": 10**18,  # DAI
    "0xdac17f958d2ee523a2206206994597c13d831ec7": 10**6,  # USDT
}
WELL_KNOWN = tuple(_UNITS_PER_DOLLAR)


class Traffic:
    """Makes transactions whose transfers go round between few accounts, as those of swaps do.

    Args:
        seed: the same seed, the same transactions.
        tokens: contract addresses to choose from.
    """

    def __init__(self, seed: int, tokens: tuple[str, ...] = WELL_KNOWN) -> None:
        self._random = random.Random(seed)
        self._tokens = tokens

    def address(self) -> str:
        """A random address."""
        return f"0x{self._random.getrandbits(160):040x}"

    def logs(self, n_transfers: int, sender: str) -> list[dict[str, Any]]:
        """Raw logs of a transaction with `n_transfers` transfers."""
        accounts = [sender, *(self.address() for _ in range(2 + n_transfers // 4))]
        if self._random.random() < 0.1:
            accounts.append(ZERO_ADDRESS)
        dollars = 10 ** self._random.uniform(0, 4)
        return [self._log(accounts, index, dollars) for index in range(n_transfers)]

    def event(self, n_transfers: int, sender: str | None = None) -> TransactionEvent:
        """A transaction as the handler gets it."""
        sender = sender or self.address()
        return create_transaction_event(
            {
                "transaction": {
                    "hash": self._hash(), "from": sender, "to": self.address(), "nonce": 1,
                },
                "block": {"hash": self._hash(), "number": BLOCK, "timestamp": TIMESTAMP},
                "network": 1,
                "logs": self.logs(n_transfers, sender),
            }
        )  # fmt: skip

    def events(self, n_transfers: int, n: int, senders: list[str]) -> list[TransactionEvent]:
        """`n` transactions by senders of the list, taken in turn."""
        return [self.event(n_transfers, senders[i % len(senders)]) for i in range(n)]

    def _log(self, accounts: list[str], index: int, dollars: float) -> dict[str, Any]:
        payer, payee = accounts[index % len(accounts)], accounts[(index + 1) % len(accounts)]
        token = self._random.choice(self._tokens)
        amount = int(
            dollars * self._random.uniform(0.99, 1.01) * _UNITS_PER_DOLLAR.get(token, 1e18)
        )
        return {
            "address": token,
            "topics": [TRANSFER_TOPIC, topic(payer), topic(payee)],
            "data": f"0x{amount:064x}",
            "logIndex": index,
        }

    def _hash(self) -> str:
        return f"0x{self._random.getrandbits(256):064x}"


def topic(address: str) -> str:
    """An address as an indexed argument of a log."""
    return "0x" + "0" * 24 + address[2:]
