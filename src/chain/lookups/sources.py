"""The order of sources, with their rate limits and circuit breakers."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from src.chain.clients.circuit_breaker import CircuitBreaker
from src.chain.clients.deadline import Deadline
from src.chain.clients.etherscan import EtherscanClient
from src.chain.clients.ethplorer import EthplorerClient
from src.chain.clients.price_api import MAX_TOKENS, PriceApiClient
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import balance_at, token_info_alone, token_infos
from src.chain.errors import Failure, MalformedAnswer, PassingError, RequestRefused
from src.chain.facts import CodeAt, FirstTransaction, Price, TokenInfo
from src.chain.lookups import deployment
from src.chain.lookups.cache import FactCache
from src.chain.lookups.fallback import Stage
from src.chain.lookups.first_transaction import first_outgoing_transaction
from src.chain.lookups.prices import Moment, chainlink_price, token_of
from src.chain.lookups.source import Source

SEARCH_SECONDS = 30.0
"""Time limit in seconds of a search of the node for a first transaction."""

# A search takes some 30 requests: half of the node's rate limit is reserved for other requests.
_REQUESTS_PER_SEARCH = 30
_SHARE_SECONDS = 10.0  # a burst of searches may use up ten seconds' share at once

_NO_HISTORY = (
    "the node does not tell which contracts existed a day ago: every token counts as known"
)

_EXPLORERS = ("etherscan", "ethplorer")
_USELESS_AFTER = 5  # requests

T = TypeVar("T")


@dataclass(slots=True)
class SourceUsage:
    """The usage of one source so far."""

    # Requests by outcome: ok, not_found, failed, rate_limited (by ourselves), refused.
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # waiting for its responses, over all threads
    waited_seconds: float = 0.0  # waiting for our own rate limit
    circuit_open: bool = False  # whether its circuit breaker is open


class Sources:
    """Every configured source with its threads, circuit breaker and rate limit, in order.

    Sources may be added while others are in use.

    Token metadata: Ethplorer, then the node, with one request for all tokens and single requests
    for those that fail. First transactions: the explorer, then the node's nonces. Contracts' ages:
    the node, with a separate circuit breaker for old states, which many nodes lack.

    Args:
        cache: stores every answer, including late ones.
        patience: seconds after which the node is queried although an explorer may still answer,
            and after which a search of the node continues in the background: it takes long with a
            distant node, and its result serves the sender's next transaction.
        search_seconds: time limit of a search of the node.
        clock: of the rate limits and circuit breakers; monotonic, in seconds.
    """

    def __init__(
        self,
        cache: FactCache,
        *,
        patience: float,
        search_seconds: float = SEARCH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._patience = patience
        self._search_seconds = search_seconds
        self._clock = clock
        self._ethplorer_stages: list[Stage[TokenInfo]] = []
        self._node_stages: list[Stage[TokenInfo]] = []
        self._etherscan_stages: list[Stage[FirstTransaction]] = []
        self._search: Callable[[int | None], Stage[FirstTransaction]] | None = None
        self.code_stages: list[Stage[CodeAt]] = []
        """The sources of contracts' existence at an earlier block."""
        self.time_stages: list[Stage[int]] = []
        """The sources of blocks' times."""
        self.balance_stages: list[Stage[int]] = []
        """The sources of balances, asked for as `account@token@block`."""
        self._sources: list[Source[Any]] = []
        self._feeds: Callable[[Moment, Mapping[str, str]], Stage[Price]] | None = None
        self._market_prices: Callable[[Moment], Stage[Price]] | None = None
        self._clients: list[JsonRpcClient | EtherscanClient | EthplorerClient | PriceApiClient] = []

    def add_ethplorer(self, client: EthplorerClient, rates: Collection[Rate]) -> None:
        """Use Ethplorer for token metadata, with these rate limits."""
        self._clients.append(client)
        source = self._source(
            "ethplorer",
            self._cache.keep_token_infos,
            RateLimit(*rates, clock=self._clock),
            threads=8,
        )
        self._ethplorer_stages.append(
            Stage(_one_by_one(source, client.token_info), patience=self._patience)
        )

    def add_price_api(self, client: PriceApiClient, rates: Collection[Rate]) -> None:
        """Use a keyless API for prices, one request for all tokens, with these rate limits."""
        self._clients.append(client)
        source = self._source(
            "price API", self._cache.keep_prices, RateLimit(*rates, clock=self._clock)
        )

        def at(moment: Moment) -> Stage[Price]:
            def request(keys: list[str]) -> Mapping[str, Price | Failure]:
                tokens = {key: token_of(key) for key in keys[:MAX_TOKENS]}
                found = client.prices(list(tokens.values()), moment.timestamp, is_now=moment.is_now)
                return {key: found[token] for key, token in tokens.items()}

            return Stage(lambda keys: source.ask(keys, request))

        self._market_prices = at

    def add_etherscan(self, client: EtherscanClient, rates: Collection[Rate]) -> None:
        """Use an explorer for first transactions, with these rate limits."""
        self._clients.append(client)
        source = self._source(
            "etherscan", self._cache.keep_first_transactions, RateLimit(*rates, clock=self._clock)
        )
        self._etherscan_stages.append(
            Stage(_one_by_one(source, client.first_transaction), patience=self._patience)
        )

    def add_node(self, node: JsonRpcClient, requests_per_second: int) -> None:
        """Use the node for all facts; its client applies the rate limit.

        Half of the rate is for searches and contracts' ages, so that metadata does not wait.
        """
        self._clients.append(node)
        breaker = CircuitBreaker(clock=self._clock)
        keep_tokens = self._cache.keep_token_infos
        together = self._source("node", keep_tokens, breaker=breaker)
        alone = self._source("node", keep_tokens, breaker=breaker, threads=8)
        searches = self._source(
            "node",
            self._cache.keep_first_transactions,
            RateLimit(_share(requests_per_second, _REQUESTS_PER_SEARCH), clock=self._clock),
            breaker=breaker,
        )
        old_states = self._source(
            deployment.SOURCE,
            self._cache.keep_code_answers,
            RateLimit(_share(requests_per_second, 1), clock=self._clock),
            threads=8,
        )
        feeds = self._source("node", self._cache.keep_prices, breaker=breaker)

        def from_feeds(moment: Moment, feed_of: Mapping[str, str]) -> Stage[Price]:
            return Stage(
                _one_by_one(feeds, lambda key: chainlink_price(node, feed_of[key], moment))
            )

        times = self._source("node", self._cache.keep_block_times, breaker=breaker)
        self.time_stages.append(Stage(_one_by_one(times, lambda n: deployment.time_of(node, n))))
        balances = self._source("node", _forget, breaker=breaker)

        def balance(key: str) -> int:
            account, token, block = key.split("@")
            return balance_at(node, token, account, int(block))

        self.balance_stages.append(Stage(_one_by_one(balances, balance)))
        self._feeds = from_feeds
        self.code_stages.append(
            Stage(_one_by_one(old_states, lambda key: deployment.code_at(node, key)))
        )
        self._node_stages += [
            Stage(lambda addresses: together.ask(addresses, lambda a: token_infos(node, a))),
            Stage(
                _one_by_one(alone, lambda address: token_info_alone(node, address)),
                only_after=(MalformedAnswer, PassingError, RequestRefused),
            ),
        ]

        def search(block_number: int | None) -> Stage[FirstTransaction]:
            return Stage(
                _one_by_one(
                    searches,
                    lambda address: first_outgoing_transaction(
                        node, address, block_number, Deadline.after(self._search_seconds)
                    ),
                ),
                abandon_after=self._patience,
            )

        self._search = search

    def token_stages(self, *, contract_first: bool = False) -> list[Stage[TokenInfo]]:
        """The sources of token metadata.

        `contract_first`: what has changed is known to the contract before an explorer knows it.
        """
        if contract_first:
            return self._node_stages + self._ethplorer_stages
        return self._ethplorer_stages + self._node_stages

    def first_transaction_stages(self, block_number: int | None) -> list[Stage[FirstTransaction]]:
        """The sources of a first transaction up to `block_number`."""
        searches = [] if self._search is None else [self._search(block_number)]
        return self._etherscan_stages + searches

    def price_stages(
        self, moment: Moment, feeds: Mapping[str, str] | None = None
    ) -> list[Stage[Price]]:
        """The sources of prices at a moment.

        `feeds` has the feed of each question, where all have one.
        """
        stages = []
        if feeds and self._feeds is not None:
            stages.append(self._feeds(moment, feeds))
        if self._market_prices is not None:
            stages.append(self._market_prices(moment))
        return stages

    def has(self, name: str) -> bool:
        """Whether a source of this name is configured."""
        return any(source.name == name for source in self._sources)

    def problems(self) -> list[str]:
        """Messages about sources with an open circuit breaker."""
        dead = {source.name for source in self._sources if source.breaker.is_open}
        problems = [
            _NO_HISTORY
            if name == deployment.SOURCE
            else f"{name} does not answer and is asked only now and then"
            for name in sorted(dead)
        ]
        for source in self._sources:
            outcomes = source.outcomes
            is_useless = not outcomes["ok"] and not outcomes["not_found"]
            is_asked = source.name in _EXPLORERS and source.name not in dead
            if is_asked and is_useless and outcomes["failed"] >= _USELESS_AFTER:
                problems.append(
                    f"{source.name} has given no usable answer to {outcomes['failed']} requests:"
                    f" {source.last_problem}"
                )
        return problems

    def usage(self) -> dict[str, SourceUsage]:
        """The usage of each source so far, by name."""
        used: dict[str, SourceUsage] = {}
        for source in self._sources:
            usage = used.setdefault(source.name, SourceUsage())
            usage.outcomes += source.outcomes
            usage.seconds += source.seconds
            usage.circuit_open |= source.breaker.is_open
        for client in self._clients:
            if isinstance(client, JsonRpcClient):
                used["node"].waited_seconds += client.waited_seconds
        return used

    def close(self) -> None:
        """Stop requests and close the connections."""
        for source in self._sources:
            source.close()
        for client in self._clients:
            client.close()

    def _source(
        self,
        name: str,
        keep: Callable[[Mapping[str, T]], None],
        rate_limit: RateLimit | None = None,
        *,
        breaker: CircuitBreaker | None = None,
        threads: int = 4,
    ) -> Source[T]:
        source = Source(
            name,
            breaker=breaker or CircuitBreaker(clock=self._clock),
            keep=keep,
            rate_limit=rate_limit,
            threads=threads,
        )
        self._sources.append(source)
        return source


def _forget(_: Mapping[str, int]) -> None:
    """Balances of one block are of no use for another."""


def _share(requests_per_second: int, requests_each: int) -> Rate:
    share = requests_per_second * _SHARE_SECONDS / 2
    return Rate(max(1, int(share / requests_each)), _SHARE_SECONDS)


def _one_by_one(
    source: Source[T], request: Callable[[str], T]
) -> Callable[[Collection[str]], Mapping[str, Future[T]]]:
    """A request for each address, all at the same time."""

    def ask(addresses: Collection[str]) -> Mapping[str, Future[T]]:
        futures: dict[str, Future[T]] = {}
        for address in addresses:
            futures |= source.ask([address], lambda asked: {asked[0]: request(asked[0])})
        return futures

    return ask
