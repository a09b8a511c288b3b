"""The bot's lookups of external facts: token metadata, first transactions, contracts' ages.

Order of sources: token metadata from the built-in list, memory, disk, Ethplorer (with a key), the
node; first transactions from memory, disk, Etherscan or a compatible explorer, the node; whether a
token's contract existed a day before from memory, disk, the node. Metadata that is older than a day
is read again in the background, first from the contract, while the old value is used.

    facts = lookups.gather(tokens, sender, block_number)   # all of a transaction, one deadline
    info = lookups.token_info(token)                       # one of them alone
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from src.chain.clients.deadline import Deadline
from src.chain.errors import Failure, NotFound, RequestRefused
from src.chain.facts import CodeAt, Facts, FirstTransaction, Price, TokenInfo, Unknown
from src.chain.lookups import deployment, price_search, prices
from src.chain.lookups.cache import CacheInfo, FactCache
from src.chain.lookups.fallback import Inquiry, run
from src.chain.lookups.sources import Sources, SourceUsage
from src.chain.lookups.store import FactStore
from src.chain.networks import block_a_day_before, blocks_a_day, network
from src.chain.transfers import normalise_address
from src.chain.well_known import WellKnownTokens

__all__ = ["FirstTransaction", "Lookups", "SourceUsage", "TokenInfo"]

_REFRESH_DEADLINE_SECONDS = 30.0
_MAX_REFRESHING = 256


@dataclass(slots=True)
class _Scope:
    """One transaction: its deadline and what was read, so that nothing is requested twice."""

    deadline: Deadline
    tokens: dict[str, TokenInfo] = field(default_factory=dict)
    token_failures: dict[str, Failure] = field(default_factory=dict)
    first_failures: dict[str, Failure] = field(default_factory=dict)


_scope: ContextVar[_Scope | None] = ContextVar("lookups_transaction", default=None)


class Lookups:
    """The only access to external facts. Created by `build.build_lookups`. Thread-safe.

    A transaction waits for `deadline_seconds` in all; `add_explorers` adds explorers whose API keys
    came later.
    """

    def __init__(
        self,
        sources: Sources,
        cache: FactCache,
        store: FactStore,
        well_known: WellKnownTokens,
        *,
        chain_id: int,
        seconds_per_block: float | None,
        deadline_seconds: float,
        add_explorers: Callable[[str | None, str | None], object] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._add_explorers = add_explorers
        self._cache = cache
        self._store = store
        self._well_known = well_known
        self._chain_id = chain_id
        self.seconds_per_block = seconds_per_block
        self._deadline_seconds = deadline_seconds
        self._now = now
        self.on_wait: Callable[[float], object] | None = None
        """Called with the seconds of each wait of a transaction."""
        self.closed = threading.Event()
        """Set by `close`."""
        self._refreshing: set[str] = set()
        self._refresher = ThreadPoolExecutor(1, thread_name_prefix="refresh")

    @contextmanager
    def transaction(self) -> Iterator[Deadline]:
        """The context of one transaction: one deadline for all lookups, one request per fact.

        Lookups outside such a context have a deadline each. A nested context joins the outer one.
        """
        outer = _scope.get()
        if outer is not None:
            yield outer.deadline
            return
        scope = _Scope(Deadline.after(self._deadline_seconds))
        token = _scope.set(scope)
        try:
            yield scope.deadline
        finally:
            _scope.reset(token)

    def token_info(self, address: str) -> TokenInfo:
        """The token's metadata.

        Raises:
            SourceError: it is unknown, and no source returned a usable answer in time.
        """
        address = _address(address)
        known = self._known_token(address)
        if known is not None:
            return known
        with self._within_transaction() as scope:
            if address not in scope.tokens and address not in scope.token_failures:
                self._read_tokens(scope, [address], None)
            if address in scope.tokens:
                return scope.tokens[address]
            raise scope.token_failures[address].error()

    def first_transaction(self, address: str, block_number: int | None = None) -> FirstTransaction:
        """The address's first transaction.

        Args:
            address: the account.
            block_number: the current transaction's block, which avoids a long search of the node
                if the account is new. None for the newest block.

        Raises:
            NotFound: the address has no transaction yet. Never cached.
            SourceError: it is unknown, and no source returned a usable answer in time.
        """
        address = _address(address)
        known = self._cache.first_transaction(address)
        if known is not None:
            return known
        with self._within_transaction() as scope:
            failure = scope.first_failures.get(address)
            if failure is not None:
                raise failure.error()
            _, firsts, _ = self._ask(scope, (), address, block_number)
            if address in firsts.found:
                return firsts.found[address]
            raise firsts.failures[address].error()

    def gather(
        self,
        tokens: Collection[str],
        account: str | None,
        block_number: int | None = None,
        *,
        called: str | None = None,
        timestamp: int | None = None,
    ) -> Facts:
        """All facts about one transaction; requests unknown ones in parallel. Never raises.

        Args:
            tokens: lowercase addresses.
            account: its sender, likewise, or None.
            block_number: see `first_transaction`.
            called: a contract whose age is wanted too, likewise, or None.
            timestamp: of the block, Unix seconds; None for now. The time between blocks of an old
                one is measured, since it changes over the years.

        Returns:
            The facts, when all are known or the transaction's deadline has passed; tokens in the
            given order.
        """
        known: dict[str, TokenInfo] = {}
        reputations: dict[str, bool] = {}
        missing, unaged = [], []
        day_before = self._day_before(block_number, timestamp)
        for token in tokens:
            info = self._well_known.get(token)
            if info is not None:
                known[token] = info
                reputations[token] = True
                continue
            info = self._current_token(token)
            if info is not None:
                known[token] = info
            else:
                missing.append(token)
            existed = self._cache.existed_at(token, day_before) if day_before is not None else None
            if existed is not None:
                reputations[token] = existed
            elif day_before is not None and self._sources.code_stages():
                unaged.append(token)
        called_existed = None
        if called is not None and day_before is not None and called not in tokens:
            called_existed = self._cache.existed_at(called, day_before)
            if called_existed is None and self._sources.code_stages():
                unaged.append(called)
        first: FirstTransaction | Unknown | None = Unknown("no sender")
        if account is not None:
            first = self._cache.first_transaction(account)
        if missing or unaged or first is None:
            with self._within_transaction() as scope:
                unknown_sender = account if first is None else None
                contracts = [deployment.question(token, day_before or 0) for token in unaged]
                read, firsts, codes = self._read_tokens(
                    scope, missing, unknown_sender, block_number, contracts
                )
            if missing:
                known |= read
                known = {token: known[token] for token in tokens if token in known}
            if unknown_sender is not None:
                first = _first_of(firsts, unknown_sender)
            for answer in codes.found.values():
                if answer.contract in tokens:
                    reputations[answer.contract] = answer.exists
                else:
                    called_existed = answer.exists
        if called is not None and called in tokens:
            called_existed = reputations.get(called)
        claimed = first.timestamp if isinstance(first, FirstTransaction) else 0
        if account is not None and timestamp is not None and claimed > timestamp:  # refuted
            self._cache.forget_first_transaction(account)
        return Facts(known, first, reputations, called_existed)

    def _day_before(self, block_number: int | None, timestamp: int | None) -> int | None:
        """The block by which contracts count as older than a day; None if unknown."""
        seconds = self.seconds_per_block
        counted = block_a_day_before(block_number, seconds)
        if counted is None or block_number is None or seconds is None or timestamp is None:
            return counted
        if seconds != network(self._chain_id).seconds_per_block:
            return counted  # the operator knows the chain
        if self._now() - timestamp < deployment.PRESENT_SECONDS or not self._sources.code_stages():
            return counted
        # The start of the block's hour, so that all blocks of the hour get the same answer.
        blocks = (counted, counted + blocks_a_day(seconds))
        times = self._cache.block_times(blocks)
        missing = [str(number) for number in blocks if str(number) not in times]
        if missing:
            inquiry = Inquiry(missing, self._sources.time_stages())
            with self._within_transaction() as scope:
                run([inquiry], scope.deadline)
            times |= inquiry.found
        return deployment.measured_day_before(block_number, blocks, times)

    def prices(
        self, tokens: Collection[str], block_number: int | None, timestamp: int | None
    ) -> dict[str, Price]:
        """The prices of tokens at a transaction, as far as they are known. Never raises.

        In order: a dollar for stablecoins, a Chainlink feed through the node, Ethplorer, the price
        API. None of them reads the transaction's own pools.

        Args:
            tokens: lowercase addresses.
            block_number: of the transaction's block; None for the newest.
            timestamp: of that block, Unix seconds; None for now.
        """
        moment = prices.moment_of(timestamp, block_number, self._now())
        found, inquiries = price_search.begin(
            tokens, moment, self._sources, self._cache, self._well_known, self._chain_id
        )
        if inquiries:
            with self._within_transaction() as scope:
                begun = time.perf_counter()
                run(inquiries, scope.deadline)
                if self.on_wait is not None:
                    self.on_wait(time.perf_counter() - begun)
        return found | price_search.answers(inquiries)

    def tokens_changed(self, addresses: Collection[str]) -> None:
        """Read the metadata of these contracts again before it is used next."""
        self._cache.expire_tokens(addresses)

    def add_explorers(self, etherscan_api_key: str | None, ethplorer_api_key: str | None) -> None:
        """Also use the explorers with these keys from now on; None for no key."""
        if self._add_explorers is not None:
            self._add_explorers(etherscan_api_key, ethplorer_api_key)

    @property
    def well_known(self) -> WellKnownTokens:
        """The built-in list of the chain's well-known tokens."""
        return self._well_known

    @property
    def caches(self) -> dict[str, Callable[[], CacheInfo]]:
        """Functions that return the hits, misses and size of each memory cache."""
        return self._cache.infos

    def increment(self, name: str, by: int = 1) -> None:
        """Add to a named counter that survives restarts. Costs about a microsecond."""
        self._store.increment(name, by)

    def counter(self, name: str) -> int:
        """A named counter's value."""
        return self._store.counter(name)

    def health(self) -> list[str]:
        """Messages about sources that are not queried at present because they failed."""
        return self._sources.problems()

    def usage(self) -> dict[str, SourceUsage]:
        """The usage of each source so far, by name."""
        return self._sources.usage()

    def close(self) -> None:
        """Stop requests, write the counters and close connections and files."""
        self.closed.set()
        self._refresher.shutdown(wait=False, cancel_futures=True)
        self._sources.close()
        self._store.close()

    @contextmanager
    def _within_transaction(self) -> Iterator[_Scope]:
        with self.transaction():
            scope = _scope.get()
            assert scope is not None  # noqa: S101
            yield scope

    def _known_token(self, address: str) -> TokenInfo | None:
        return self._well_known.get(address) or self._current_token(address)

    def _current_token(self, address: str) -> TokenInfo | None:
        """Cached metadata, unless it must be read again first; started in the background if due."""
        info = self._cache.token_info(address)
        if info is None or not info.is_due(now := time.time()):
            return info
        if info.is_expired(now):
            return None
        if address not in self._refreshing and len(self._refreshing) < _MAX_REFRESHING:
            self._refreshing.add(address)
            with suppress(RuntimeError):  # closed
                self._refresher.submit(self._refresh, address)
        return info

    def _refresh(self, address: str) -> None:
        try:
            inquiry = Inquiry([address], self._sources.token_stages(contract_first=True))
            run([inquiry], Deadline.after(_REFRESH_DEADLINE_SECONDS))
            if address not in inquiry.found:
                self._cache.retry_token_later(address, time.time())
        finally:
            self._refreshing.discard(address)

    def _read_tokens(
        self,
        scope: _Scope,
        tokens: Collection[str],
        account: str | None,
        block_number: int | None = None,
        contracts: Collection[str] = (),
    ) -> tuple[dict[str, TokenInfo], Inquiry[FirstTransaction], Inquiry[CodeAt]]:
        """See `_ask`. Metadata that no source returned is the expired one, if there is one."""
        infos, firsts, codes = self._ask(scope, tokens, account, block_number, contracts)
        found = dict(infos.found)
        for address in infos.failures:
            info = self._cache.token_info(address)
            if info is not None:
                self._cache.retry_token_later(address, time.time())
                found[address] = info
        scope.tokens.update(found)
        return found, firsts, codes

    def _ask(
        self,
        scope: _Scope,
        tokens: Collection[str],
        account: str | None,
        block_number: int | None = None,
        contracts: Collection[str] = (),
    ) -> tuple[Inquiry[TokenInfo], Inquiry[FirstTransaction], Inquiry[CodeAt]]:
        """Ask at once for metadata of tokens, an account's first transaction, contracts' ages.

        `contracts` are `deployment.question`s.
        """
        known = any(self._cache.token_info(token) for token in tokens)
        infos = Inquiry(tokens, self._sources.token_stages(contract_first=known) if tokens else ())
        accounts = () if account is None else (account,)
        stages = self._sources.first_transaction_stages(block_number) if accounts else ()
        firsts = Inquiry(accounts, stages)
        codes = Inquiry(contracts, self._sources.code_stages() if contracts else ())
        begun = time.perf_counter()
        run([infos, firsts, codes], scope.deadline)
        if self.on_wait is not None:
            self.on_wait(time.perf_counter() - begun)
        scope.token_failures.update(infos.failures)
        scope.first_failures.update(firsts.failures)
        return infos, firsts, codes


def _first_of(firsts: Inquiry[FirstTransaction], account: str) -> FirstTransaction | Unknown | None:
    """The account's first transaction, None if it has none yet, or why it is unknown."""
    failure = firsts.failures.get(account)
    if failure is not None and failure.is_a(NotFound):
        return None
    return firsts.found.get(account) or Unknown(str(failure))


def _address(value: str) -> str:
    address = normalise_address(value)
    if address is None:
        raise RequestRefused("look-up", "not an address")
    return address
