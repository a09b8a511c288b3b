"""Caches facts in memory and on disk. Failures and "not found" are never cached."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from src.chain.facts import CodeAt, Deployment, FirstTransaction, Price, TokenInfo
from src.chain.lookups.store import FactStore

MEMORY_FACTS = 10_000
"""Of each kind; about 300 bytes each."""

V = TypeVar("V")


class CacheInfo(NamedTuple):
    """Usage of a cache, with the names of `functools.lru_cache`."""

    hits: int
    misses: int
    currsize: int


class LruCache(Generic[V]):
    """A bounded mapping that evicts the least recently used entry. Thread-safe."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._entries: OrderedDict[str, V] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = 0
        self._misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def info(self) -> CacheInfo:
        """Its usage so far."""
        return CacheInfo(self._hits, self._misses, len(self))

    def get(self, key: str) -> V | None:
        """The value, now the most recently used one, or None."""
        with self._lock:
            value = self._entries.get(key)
            if value is None:
                self._misses += 1
            else:
                self._hits += 1
                self._entries.move_to_end(key)
            return value

    def put(self, key: str, value: V, better: Callable[[V, V], V] | None = None) -> None:
        """Store `value`, evicting the least recently used one if full.

        `better` chooses between a value that is stored already and the new one.
        """
        with self._lock:
            if better is not None and (known := self._entries.get(key)) is not None:
                value = better(known, value)
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_size:
                self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        """Drop the value, if there is one."""
        with self._lock:
            self._entries.pop(key, None)


class FactCache:
    """Memory first, then disk."""

    def __init__(self, store: FactStore) -> None:
        self._store = store
        self._tokens: LruCache[TokenInfo] = LruCache(MEMORY_FACTS)
        self._firsts: LruCache[FirstTransaction] = LruCache(MEMORY_FACTS)
        self._prices: LruCache[Price] = LruCache(MEMORY_FACTS)  # in memory alone: they age
        self._deployments: LruCache[Deployment] = LruCache(MEMORY_FACTS)
        self._block_times: LruCache[int] = LruCache(MEMORY_FACTS)  # by number, in memory alone

    @property
    def infos(self) -> dict[str, Callable[[], CacheInfo]]:
        """Functions that return the usage of each memory cache."""
        return {
            "tokens": self._tokens.info,
            "first_transactions": self._firsts.info,
            "deployments": self._deployments.info,
            "prices": self._prices.info,
        }

    def token_info(self, address: str) -> TokenInfo | None:
        """The token's metadata, or None when it is unknown."""
        info = self._tokens.get(address)
        if info is None and (info := self._store.token_info(address)) is not None:
            self._tokens.put(address, info)
        return info

    def first_transaction(self, address: str) -> FirstTransaction | None:
        """The address's first transaction, or None when it is unknown."""
        first = self._firsts.get(address)
        if first is None and (first := self._store.first_transaction(address)) is not None:
            self._firsts.put(address, first)
        return first

    def existed_at(self, contract: str, block: int) -> bool | None:
        """Whether a contract existed at the end of a block, or None when that is not known."""
        return self._deployment(contract).existed_at(block)

    def block_times(self, numbers: Collection[int]) -> dict[str, int]:
        """When blocks were made, Unix seconds, as far as known, by the numbers as text."""
        known = {str(number): self._block_times.get(str(number)) for number in numbers}
        return {number: time for number, time in known.items() if time is not None}

    def keep_block_times(self, times: Mapping[str, int]) -> None:
        """Keep them, likewise."""
        for number, time in times.items():
            self._block_times.put(number, time)

    def price(self, question: str) -> Price | None:
        """A price by `lookups.prices.Moment.question`, or None when it is unknown."""
        return self._prices.get(question)

    def keep_prices(self, prices: Mapping[str, Price]) -> None:
        """Keep prices, likewise."""
        for question, known in prices.items():
            self._prices.put(question, known)

    def keep_token_infos(self, infos: Mapping[str, TokenInfo]) -> None:
        """Keep metadata by token address; replaces what was read earlier.

        That a contract states nothing is kept in memory only: the node may not know it yet.
        """
        for address, info in infos.items():
            self._tokens.put(address, info)
        self._store.put_token_infos({a: info for a, info in infos.items() if not info.is_nothing})

    def expire_tokens(self, addresses: Collection[str]) -> None:
        """Have these tokens' metadata read again before it is used next."""
        known = {address: self.token_info(address) for address in addresses}
        self.keep_token_infos(
            {address: replace(info, read_at=0.0) for address, info in known.items() if info}
        )

    def retry_token_later(self, address: str, now: float) -> None:
        """Keep the old metadata for a while, as it could not be read again. In memory only."""
        info = self.token_info(address)
        if info is not None:
            self._tokens.put(address, info.put_off(now))

    def keep_first_transactions(self, firsts: Mapping[str, FirstTransaction]) -> None:
        """Cache first transactions by address, unless an earlier one is known.

        Whatever its source, it shows that a later one is not the first.
        """
        for address, first in firsts.items():
            self._firsts.put(address, first, _earlier)
        self._store.put_first_transactions(firsts)

    def forget_first_transaction(self, address: str) -> None:
        """Drop what was claimed of an address."""
        self._firsts.forget(address)
        self._store.forget_first_transaction(address)

    def keep_code_answers(self, answers: Mapping[str, CodeAt]) -> None:
        """Keep whether contracts existed at a block; joined with what is known already."""
        learnt: dict[str, Deployment] = {}
        for answer in answers.values():
            known = learnt.get(answer.contract) or self._deployment(answer.contract)
            learnt[answer.contract] = known.with_answer(answer)
        for contract, known in learnt.items():
            self._deployments.put(contract, known)
        self._store.put_deployments(learnt)

    def _deployment(self, contract: str) -> Deployment:
        known = self._deployments.get(contract)
        if known is None:
            # A miss on disk is cached too, since with a node without old states it stays one.
            known = self._store.deployment(contract) or Deployment()
            self._deployments.put(contract, known)
        return known


def _earlier(known: FirstTransaction, new: FirstTransaction) -> FirstTransaction:
    return new if new.timestamp < known.timestamp else known
