"""Recorded and hostile transactions for the soak run, the same for the same seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.recorded import RecordedTransaction
from benchmarks.traffic import BLOCK, TIMESTAMP, WELL_KNOWN, topic
from src.chain.text import BRIDGE_MARKERS
from src.chain.transfers import TRANSFER_TOPIC, ZERO_ADDRESS

FILL = 50_000
"""Transactions in which every cache fills up to its bound; from then on memory must not grow."""

MAX_TRANSFERS = 300

_FILLING_EVERY = 25  # so many transactions, one with many new tokens, while caches fill
_FILLING_TOKENS = 50
_NEW_SHARE = 0.01  # transactions with tokens and senders that nobody has seen, afterwards
_RECORDED_SHARE = 0.5
_WELL_KNOWN_SHARE = 0.97  # many of the others are never known: their answers are refused
_SIZES = ((0, 0, 50), (1, 3, 35), (4, 20, 12), (21, 60, 2), (61, MAX_TRANSFERS, 1))
_AMOUNTS = (0, 1, 10**6, 10**18, 2**53 + 1, 2**128, 2**255, 2**256 - 1)
_TEXTS = (
    "", "USDC", "\x00\x1b[31m\r\n", "\u202edrow", "N" * 5000, "{}", "null", "😀" * 40,
    *BRIDGE_MARKERS,
)  # fmt: skip
_BROKEN_LOGS: tuple[dict[str, Any], ...] = (
    {"topics": []},
    {"topics": [TRANSFER_TOPIC]},
    {"topics": [TRANSFER_TOPIC, "0x", "0x"]},
    {"topics": [TRANSFER_TOPIC, "0x" + "g" * 64, "0x" + "0" * 64]},
    {"topics": [TRANSFER_TOPIC, *["0x" + "0" * 64] * 3], "data": "0x"},  # ERC-721
    {"topics": [TRANSFER_TOPIC, *["0x" + "0" * 64] * 2], "data": "0x" + "١" * 64},
    {"topics": [TRANSFER_TOPIC, *["0x" + "0" * 64] * 2], "data": "0x" + "0" * 63},
    {"address": "", "topics": [TRANSFER_TOPIC, *["0x" + "0" * 64] * 2], "data": "0x" + "0" * 64},
)


@dataclass(frozen=True, slots=True)
class HostileTransaction:
    """An event as the bridge hands it over, and whether it has an ERC-20 transfer."""

    event: dict[str, Any]
    has_transfers: bool


class HostileTraffic:
    """Makes one transaction after another.

    Args:
        seed: the same seed, the same transactions.
        recorded: what half of them are drawn from, if there are any.
        strangers: if not 0, every transaction has so many tokens, and a sender, that nobody has
            seen, and no other kind is made.
    """

    def __init__(
        self, seed: int, recorded: Sequence[RecordedTransaction] = (), *, strangers: int = 0
    ) -> None:
        self._random = random.Random(seed)
        self._strangers = strangers
        self._recorded = recorded
        self._made = 0
        self._tokens = [self._address() for _ in range(200)]
        self._senders = [self._address() for _ in range(40)]

    def transaction(self) -> HostileTransaction:
        """The next transaction."""
        rng = self._random
        self._made += 1
        sender = rng.choice(self._senders)
        if self._strangers:
            tokens, sender = [self._address() for _ in range(self._strangers)], self._address()
        elif self._made < FILL and self._made % _FILLING_EVERY == 0:
            tokens = [self._address() for _ in range(_FILLING_TOKENS)]
        elif rng.random() < _NEW_SHARE:
            tokens, sender = [self._address() for _ in range(3)], self._address()
        elif self._recorded and rng.random() < _RECORDED_SHARE:
            return self._as_recorded(rng.choice(self._recorded))
        else:
            known = rng.random() < _WELL_KNOWN_SHARE
            tokens = rng.choices(WELL_KNOWN if known else self._tokens, k=self._size())
        accounts = [sender, ZERO_ADDRESS, *(self._address() for _ in range(1 + len(tokens) // 5))]
        logs = [self._log(token, accounts) for token in tokens]
        if rng.random() < 0.1:
            logs.append({"address": self._address(), "data": "0x", **rng.choice(_BROKEN_LOGS)})
        timestamp = TIMESTAMP + 12 * (self._made // 200)
        event = self._event(sender, self._recipient(), timestamp, logs)
        return HostileTransaction(event, has_transfers=bool(tokens))

    def _as_recorded(self, recorded: RecordedTransaction) -> HostileTransaction:
        """With a new hash, since the bridge tells transactions in flight apart by it."""
        logs = recorded.logs()
        event = self._event(recorded.sender, recorded.to, recorded.timestamp, logs)
        return HostileTransaction(event, has_transfers=bool(logs))

    def _size(self) -> int:
        low, high, _ = self._random.choices(_SIZES, [share for *_, share in _SIZES])[0]
        return self._random.randint(low, high)

    def _log(self, token: str, accounts: list[str]) -> dict[str, Any]:
        rng = self._random
        return {
            "address": token,
            "topics": [TRANSFER_TOPIC, topic(rng.choice(accounts)), topic(rng.choice(accounts))],
            "data": f"0x{rng.choice(_AMOUNTS):064x}",
        }

    def _event(
        self, sender: str, to: str | None, timestamp: int, logs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        rng = self._random
        for index, log in enumerate(logs):
            log["logIndex"] = hex(index)
        tx_hash = f"0x{rng.getrandbits(256):064x}"
        return {
            "transaction": {"hash": tx_hash, "from": sender, "to": to},
            "block": {
                "hash": tx_hash,
                "number": hex(BLOCK + self._made // 200),
                "timestamp": hex(timestamp),
            },
            "network": 1,
            "logs": logs,
        }

    def _recipient(self) -> str | None:
        return None if self._random.random() < 0.02 else self._address()  # a deployment has none

    def _address(self) -> str:
        return f"0x{self._random.getrandbits(160):040x}"


def hostile_text(rng: random.Random) -> str:
    """A name or symbol for a token, as its deployer may choose it."""
    return rng.choice(_TEXTS)
