"""Who dealt with whom lately, so that a counterparty who imitates another one stands out.

Address poisoning: a stranger puts an address that reads like a real counterparty's into an
account's history and waits for its owner to copy the wrong one. Wallets show the first and last few
characters, so that is what an imitation matches: in 1,092 recorded cases the first three and the
last four hexadecimal digits agree in 97%. Two unrelated addresses agree in them once in 2**28.
"""

import threading
from collections.abc import Sequence
from typing import Any

from src.detection.evidence import LookAlike
from src.detection.records import ZERO_ADDRESS, TransferLike

FIRST_DIGITS = 3
LAST_DIGITS = 4
DEFAULT_REMEMBERED = 40_000
"""Pairs of account and counterparty kept, about 300 bytes each, and half as many imitated ones."""

_HEAD = slice(2, 2 + FIRST_DIGITS)
_TAIL = slice(-LAST_DIGITS, None)
_MAX_LOOK_ALIKES = 100
_MAX_TRANSFERS = 1000  # so that one airdrop cannot flush the memory


class _Overlay(dict[str, tuple[str, bool]]):
    """A dictionary over another one, which it does not change."""

    def __init__(self, below: dict[str, tuple[str, bool]]) -> None:
        super().__init__()
        self._below = below

    def get(self, key: str, default: Any = None) -> Any:
        """The value of either; its own first."""
        return super().get(key) or self._below.get(key, default)


class CounterpartyBook:
    """Remembers the counterparties of accounts, forgets the oldest, never grows beyond its bound.

    A block of mainnet has 200 to 800 pairs, so most are remembered for less than an hour. That is
    enough to see an imitation, which follows a payment at once, but the victim pays the imitator
    when it pays next. So those that somebody has imitated are kept apart, where only further ones
    displace them.

    Holds what this process saw since its start. Thread-safe.

    Args:
        remembered: pairs of account and counterparty kept, at least half of it at any time, and
            half of it of those that are imitated.
    """

    def __init__(self, remembered: int = DEFAULT_REMEMBERED) -> None:
        # Two generations: when the younger is full, the older goes. Cheaper than an LRU list.
        self._capacity = max(1, remembered // 2)
        self._young: dict[str, tuple[str, bool]] = {}
        self._old: dict[str, tuple[str, bool]] = {}
        self._imitated: dict[str, tuple[str, bool]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._young) + len(self._old) + len(self._imitated)

    def trial(self) -> "CounterpartyBook":
        """The same book for transactions that may never happen: what enters it is not kept here."""
        book = CounterpartyBook()
        book._young, book._old = _Overlay(self._young), self._old
        book._imitated = _Overlay(self._imitated)
        return book

    def enter(self, transfers: Sequence[TransferLike], sender: str | None) -> tuple[LookAlike, ...]:
        """Enter a transaction's transfers; return the counterparties in it that imitate others.

        Args:
            transfers: in log order.
            sender: `tx.from`: what it pays out of its own account is paid on purpose.
        """
        found: dict[tuple[str, str], LookAlike] = {}
        with self._lock:
            for transfer in transfers[:_MAX_TRANSFERS]:
                payer, payee = transfer.sender, transfer.recipient
                if payer in (payee, ZERO_ADDRESS) or payee == ZERO_ADDRESS:
                    continue
                pays = payer == sender and transfer.amount > 0
                for account, other, on_purpose in ((payer, payee, pays), (payee, payer, False)):
                    key = account + other[_HEAD] + other[_TAIL]
                    known = self._young.get(key)
                    if known is not None and known[0] == other and known[1] >= on_purpose:
                        continue  # nothing new, as nearly always
                    earlier = self._enter(key, other, on_purpose)
                    if earlier is not None and len(found) < _MAX_LOOK_ALIKES:
                        found.setdefault(
                            (account, other), LookAlike(account, other, *earlier, on_purpose)
                        )
        return tuple(found.values()) if found else ()

    def _enter(self, key: str, other: str, on_purpose: bool) -> tuple[str, bool] | None:
        """Enter one counterparty; the earlier one that it reads like, if it is another."""
        young, imitated = self._young.get(key), self._imitated.get(key)
        known = young or self._old.get(key) or imitated
        if known is None:
            now = (other, on_purpose)
        elif known[0] == other:
            now = (other, on_purpose or known[1])
        else:  # whoever the account itself paid first stays the genuine one
            now = (other, True) if on_purpose and not known[1] else known
        if now != young:
            self._young[key] = now
            if len(self._young) > self._capacity:
                self._old, self._young = self._young, {}
        is_imitation = known is not None and known[0] != other
        if is_imitation or imitated is not None:
            self._imitated.pop(key, None)
            self._imitated[key] = now
            if len(self._imitated) > self._capacity:
                del self._imitated[next(iter(self._imitated))]
        return known if is_imitation else None
