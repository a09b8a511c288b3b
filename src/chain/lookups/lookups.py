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
from typing import Any

from src.chain.clients.deadline import Deadline
from src.chain.errors import Failure, NotFound, RequestRefused
from src.chain.facts import CodeAt, Facts, FirstTransaction, Price, TokenInfo, Unknown
from src.chain.lookups import deployment
from src.chain.lookups.cache import FactCache
from src.chain.lookups.fallback import Inquiry, run
from src.chain.lookups.prices import moment_of, token_of
from src.chain.lookups.sources import Sources, SourceUsage
from src.chain.lookups.store import FactStore
from src.chain.networks import block_a_day_before, blocks_a_day, network
from src.chain.price_feeds import feed_of, fixed_price
from src.chain.transfers import normalise_address
from src.chain.well_known import WellKnownTokens

_REFRESH_DEADLINE_SECONDS = 30.0
_MAX_REFRESHING = 256


_deadline: ContextVar[Deadline | None] = ContextVar("lookups_deadline", default=None)
"""Of the transaction that is being looked up."""


class Lookups:
    """The only access to external facts. Created by `build.build_lookups`. Thread-safe.

    A transaction waits for `deadline_seconds` in all. `add_explorers` adds the explorers whose API
    keys (Etherscan's, Ethplorer's; None for none) came later.
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
        add_explorers: Callable[[str | None, str | None], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.add_explorers = add_explorers
        self.closed = threading.Event()
        """Set by `close`."""
        self._sources = sources
        self._cache = cache
        self._store = store
        self.well_known = well_known
        """The built-in list of the chain's well-known tokens."""
        self.caches = cache.infos
        """Functions that return the hits, misses and size of each memory cache."""
        self._chain_id = chain_id
        self.seconds_per_block = seconds_per_block
        self._deadline_seconds = deadline_seconds
        self._now = now
        self.on_wait: Callable[[float], object] | None = None
        """Called with the seconds of each wait of a transaction."""
        self._refreshing: set[str] = set()
        self._refresher = ThreadPoolExecutor(1, thread_name_prefix="refresh")

    @contextmanager
    def transaction(self) -> Iterator[Deadline]:
        """The context of one transaction: one deadline for all its lookups.

        Lookups outside such a context have a deadline each. A nested context joins the outer one.
        """
        outer = _deadline.get()
        if outer is not None:
            yield outer
            return
        deadline = Deadline.after(self._deadline_seconds)
        token = _deadline.set(deadline)
        try:
            yield deadline
        finally:
            _deadline.reset(token)

    def token_info(self, address: str) -> TokenInfo:
        """The token's metadata.

        Raises:
            SourceError: it is unknown, and no source returned a usable answer in time.
        """
        address = _address(address)
        info = self.token_infos([address])[address]
        if isinstance(info, Failure):
            raise info.error()
        return info

    def token_infos(self, addresses: Collection[str]) -> dict[str, TokenInfo | Failure]:
        """The metadata of tokens by lowercase address, or why no source returned any in time."""
        known = {address: self._known_token(address) for address in addresses}
        missing = [address for address, info in known.items() if info is None]
        answers: dict[str, TokenInfo | Failure] = {}
        if missing:
            infos, _, _ = self._ask(missing)
            answers = infos.found | infos.failures
        return {address: info or answers[address] for address, info in known.items()}

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
        _, firsts, _ = self._ask((), address, block_number)
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
            info = self.well_known.get(token)
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
            elif day_before is not None and self._sources.code_stages:
                unaged.append(token)
        called_existed = None
        if called is not None and day_before is not None and called not in tokens:
            called_existed = self._cache.existed_at(called, day_before)
            if called_existed is None and self._sources.code_stages:
                unaged.append(called)
        first: FirstTransaction | Unknown | None = Unknown("no sender")
        if account is not None:
            first = self._cache.first_transaction(account)
        if missing or unaged or first is None:
            unknown_sender = account if first is None else None
            contracts = [deployment.question(token, day_before or 0) for token in unaged]
            infos, firsts, codes = self._ask(missing, unknown_sender, block_number, contracts)
            if missing:
                known |= infos.found
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
        if self._now() - timestamp < deployment.PRESENT_SECONDS or not self._sources.code_stages:
            return counted
        # The start of the block's hour, so that all blocks of the hour get the same answer.
        blocks = (counted, counted + blocks_a_day(seconds))
        times = self._cache.block_times(blocks)
        missing = [str(number) for number in blocks if str(number) not in times]
        if missing:
            inquiry = Inquiry(missing, self._sources.time_stages)
            self._run(inquiry)
            times |= inquiry.found
        return deployment.measured_day_before(block_number, blocks, times)

    def prices(
        self, tokens: Collection[str], block_number: int | None, timestamp: int | None
    ) -> dict[str, Price]:
        """The prices of tokens at a transaction, as far as they are known. Never raises.

        In order: a dollar for stablecoins, a Chainlink feed through the node, the price API. None
        of them reads the transaction's own pools.

        Args:
            tokens: lowercase addresses.
            block_number: of the transaction's block; None for the newest.
            timestamp: of that block, Unix seconds; None for now.
        """
        moment = moment_of(timestamp, block_number, self._now())
        found: dict[str, Price] = {}
        feeds: dict[str, str] = {}
        others: list[str] = []
        for token in dict.fromkeys(tokens):
            question = moment.question(token)
            known = fixed_price(token, self.well_known) or self._cache.price(question)
            if known is not None:
                found[token] = known
            elif feed := feed_of(token, self._chain_id, self.well_known):
                feeds[question] = feed
            else:
                others.append(question)
        inquiries = [
            Inquiry(questions, stages)
            for questions, stages in (
                (list(feeds), self._sources.price_stages(moment, feeds)),
                (others, self._sources.price_stages(moment)),
            )
            if questions and stages
        ]
        if inquiries:
            self._run(*inquiries)
        for inquiry in inquiries:
            found |= {token_of(question): price for question, price in inquiry.found.items()}
        return found

    def balances(
        self, holdings: Collection[tuple[str, str]], block: int, earlier: int
    ) -> dict[tuple[str, str], tuple[int, int | None]]:
        """What accounts held of a token at the end of two blocks, raw units. Never raises.

        Args:
            holdings: lowercase addresses of an account and a token; the zero address stands for
                all that hold it.
            block: the newer block.
            earlier: the older one, whose state the node may have no more.

        Returns:
            By account and token, the balances at the newer and the older block. The older is None
            if it is unknown; where the newer is, the pair is left out.
        """
        keys = [
            f"{account}@{token}@{number}"
            for account, token in holdings
            for number in (block, earlier)
        ]
        inquiry = Inquiry(keys, self._sources.balance_stages)
        self._run(inquiry)
        found = inquiry.found
        return {
            (account, token): (found[key], found.get(f"{account}@{token}@{earlier}"))
            for account, token in holdings
            if (key := f"{account}@{token}@{block}") in found
        }

    def tokens_changed(self, addresses: Collection[str]) -> None:
        """Read the metadata of these contracts again before it is used next."""
        self._cache.expire_tokens(addresses)

    def health(self) -> list[str]:
        """Messages about sources that are not queried at present because they failed."""
        return self._sources.problems()

    def usage(self) -> dict[str, SourceUsage]:
        """The usage of each source so far, by name."""
        return self._sources.usage()

    def close(self) -> None:
        """Stop requests and close connections and files."""
        self.closed.set()
        self._refresher.shutdown(wait=False, cancel_futures=True)
        self._sources.close()
        self._store.close()

    def _known_token(self, address: str) -> TokenInfo | None:
        return self.well_known.get(address) or self._current_token(address)

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

    def _ask(
        self,
        tokens: Collection[str],
        account: str | None = None,
        block_number: int | None = None,
        contracts: Collection[str] = (),
    ) -> tuple[Inquiry[TokenInfo], Inquiry[FirstTransaction], Inquiry[CodeAt]]:
        """Ask at once for metadata of tokens, an account's first transaction, contracts' ages.

        `contracts` are `deployment.question`s. Metadata that no source returned is the expired one,
        if there is one.
        """
        known = any(self._cache.token_info(token) for token in tokens)
        infos = Inquiry(tokens, self._sources.token_stages(contract_first=known) if tokens else ())
        accounts = () if account is None else (account,)
        stages = self._sources.first_transaction_stages(block_number) if accounts else ()
        firsts = Inquiry(accounts, stages)
        codes = Inquiry(contracts, self._sources.code_stages if contracts else ())
        self._run(infos, firsts, codes)
        for address in list(infos.failures):
            info = self._cache.token_info(address)
            if info is not None:
                self._cache.retry_token_later(address, time.time())
                infos.found[address] = info
                del infos.failures[address]
        return infos, firsts, codes

    def _run(self, *inquiries: Inquiry[Any]) -> None:
        """Drive inquiries to their end, or the deadline of the transaction."""
        begun = time.perf_counter()
        with self.transaction() as deadline:
            run(inquiries, deadline)
        if self.on_wait is not None:
            self.on_wait(time.perf_counter() - begun)


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
