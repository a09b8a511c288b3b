"""Synthetic transactions for tests, and for the notebook if there is no recorded data.

**Invented**: shapes and proportions only caricature mainnet. A model trained on them shows that the
code works; its figures say nothing about real attacks.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets.location import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE

FIRST_BLOCK = 1_000_000
FIRST_TIMESTAMP = 1_500_000_000
SOURCE = "synthetic"

_TOKENS = 6
_ZERO = "0x" + "0" * 40

Move = tuple[str, str, str, int]
"""Token, payer, payee, raw amount."""


def _address(kind: int, number: int) -> str:
    return f"0x{kind:04x}{number:036x}"


@dataclass(slots=True)
class _Inventor:
    """Draws transactions; each method returns (sender, transfers in log order)."""

    random: np.random.Generator
    strangers: int = field(default=0)

    def token(self) -> str:
        return _address(0xA, int(self.random.integers(_TOKENS)))

    def account(self) -> str:
        self.strangers += 1
        return _address(0xB, self.strangers)

    def pool(self) -> str:
        return _address(0xC, int(self.random.integers(20)))

    def amount(self) -> int:
        return int(10 ** self.random.normal(18, 1))

    def payment(self) -> tuple[str, list[Move]]:
        sender = self.account()
        return sender, [(self.token(), sender, self.account(), self.amount())]

    def withdrawal(self) -> tuple[str, list[Move]]:
        return self.account(), [(self.token(), self.pool(), self.account(), self.amount())]

    def swap(self) -> tuple[str, list[Move]]:
        sender = self.account()
        moves, token, holder = [], self.token(), sender
        for _ in range(int(self.random.integers(1, 4))):
            pool, bought = self.pool(), self.token()
            moves += [(token, holder, pool, self.amount()), (bought, pool, sender, self.amount())]
            token, holder = bought, sender
        return sender, moves

    def batch(self) -> tuple[str, list[Move]]:
        sender, token = self.account(), self.token()
        many = int(self.random.integers(3, 25))
        return sender, [(token, sender, self.account(), self.amount()) for _ in range(many)]

    def mint(self) -> tuple[str, list[Move]]:
        sender = self.account()
        return sender, [(self.token(), _ZERO, sender, self.amount())]

    def attack(self) -> tuple[str, list[Move]]:
        """A flash loan, a pool emptied in rounds, the loan repaid, the loot sent home."""
        sender, contract, lender, victim = (self.account() for _ in range(4))
        loan, loot = self.token(), self.token()
        lent = 1000 * self.amount()
        moves = [(loan, lender, contract, lent)]
        for _ in range(int(self.random.integers(2, 8))):
            part = lent // 10
            moves += [(loan, contract, victim, part), (loot, victim, contract, self.amount())]
            moves += [(loot, contract, victim, 10**17), (loan, victim, contract, part)]
        moves += [(loan, contract, lender, lent), (loot, contract, sender, self.amount())]
        return sender, moves

    def ordinary(self) -> tuple[str, list[Move]]:
        kinds = (self.payment, self.withdrawal, self.swap, self.batch, self.mint)
        return kinds[int(self.random.choice(len(kinds), p=[0.55, 0.1, 0.25, 0.05, 0.05]))]()


def write_sample(
    folder: Path, *, blocks: int = 40, per_block: int = 40, attacks: int = 20, seed: int = 0
) -> None:
    """Write synthetic background and attacks in the data-set layout; deterministic.

    Args:
        folder: for transactions.parquet, transfers.parquet and the two tables of exploits.
        blocks: number of background blocks.
        per_block: background transactions per block.
        attacks: number of synthetic attacks, which are outside the blocks.
        seed: of all random draws.
    """
    random = np.random.default_rng(seed)
    inventor = _Inventor(random)
    transactions, transfers = [], []
    for position in range(blocks * per_block):
        sender, moves = inventor.ordinary()
        tx_hash = "0x" + random.bytes(32).hex()
        block = FIRST_BLOCK + position // per_block
        transactions.append(
            {
                "tx_hash": tx_hash,
                "block_number": block,
                "block_hash": f"0x{block:064x}",
                "block_timestamp": FIRST_TIMESTAMP + 12 * (position // per_block),
                "from_address": sender,
                "to_address": moves[0][2],
                "tx_index": position % per_block,
                "source": SOURCE,
                "full_block": True,
                "all_logs": True,
            }
        )
        transfers += [
            {"log_index": index, "token_std": "erc20", **row}
            for index, row in enumerate(_rows(tx_hash, moves))
        ]
    exploits, exploit_transfers = [], []
    for _ in range(attacks):
        sender, moves = inventor.attack()
        tx_hash = "0x" + random.bytes(32).hex()
        exploits.append({"tx_hash": tx_hash, "label": "exploit", "protocol": "", "date": ""})
        exploit_transfers += [
            {"preferred": 1, "seq": index, "tx_from": sender, "derivation": "log", **row}
            for index, row in enumerate(_rows(tx_hash, moves))
        ]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(transactions).to_parquet(folder / "transactions.parquet", index=False)
    pd.DataFrame(transfers).to_parquet(folder / "transfers.parquet", index=False)
    pd.DataFrame(exploits).to_csv(folder / EXPLOITS_FILE, index=False)
    pd.DataFrame(exploit_transfers).to_csv(folder / EXPLOIT_TRANSFERS_FILE, index=False)


def _rows(tx_hash: str, moves: list[Move]) -> list[dict[str, str]]:
    return [
        {
            "tx_hash": tx_hash,
            "token_address": token,
            "from_address": payer,
            "to_address": payee,
            "value_raw": str(amount),
        }
        for token, payer, payee, amount in moves
    ]
