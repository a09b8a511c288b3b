"""Transactions of a recording or data set, made ready to be fed again and again."""

import multiprocessing
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.traffic import topic
from src.chain.transfers import TRANSFER_TOPIC
from src.settings import PROJECT_ROOT

DEFAULT_RECORDING = PROJECT_ROOT / "src/service/demo_blocks"
"""Real contracts on a local chain: swaps, mints, flash-loan thefts, airdrops."""


@dataclass(frozen=True, slots=True)
class RecordedTransaction:
    """What the bot sees of a transaction with ERC-20 transfers.

    Attributes:
        sender, to: lowercase addresses; `to` is None for a deployment.
        timestamp: of its block, Unix seconds.
        transfers: (token, from, to, raw amount as 64 hex digits) in log order.
    """

    sender: str
    to: str | None
    timestamp: int
    transfers: tuple[tuple[str, str, str, str], ...]

    def logs(self) -> list[dict[str, Any]]:
        """Its Transfer logs as a node returns them."""
        return [
            {
                "address": token,
                "topics": [TRANSFER_TOPIC, topic(sender), topic(recipient)],
                "data": f"0x{amount}",
            }
            for token, sender, recipient, amount in self.transfers
        ]


def recorded_transactions(folder: Path) -> list[RecordedTransaction]:
    """The transactions with ERC-20 transfers of a folder of either kind, in order of their hashes.

    Raises:
        RecordingError: the folder is no recording and no data set.
    """
    from src.chain.recording.dataset import load_transactions, load_transfers  # noqa: PLC0415

    transfers: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
    order = [("tx_hash", "ascending"), ("log_index", "ascending")]
    for row in load_transfers(folder).sort_by(order).to_pylist():
        if row["token_std"] == "erc20":
            transfers[row["tx_hash"]].append(
                (
                    row["token_address"], row["from_address"], row["to_address"],
                    f"{int(row['value_raw']):064x}",
                )
            )  # fmt: skip
    transactions = load_transactions(folder).select(
        ["tx_hash", "from_address", "to_address", "block_timestamp"]
    )
    return [
        RecordedTransaction(
            row["from_address"],
            row["to_address"],
            row["block_timestamp"],
            tuple(transfers[row["tx_hash"]]),
        )
        for row in sorted(transactions.to_pylist(), key=lambda row: str(row["tx_hash"]))
        if row["tx_hash"] in transfers and row["from_address"]
    ]


def read_apart(folder: Path) -> list[RecordedTransaction]:
    """The same, read by another process: what parquet takes of memory does not come back.

    Raises:
        RecordingError: see `recorded_transactions`.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(recorded_transactions, (folder,))
