"""Builds the lookups: the configured sources and their rate limits."""

import logging
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from src.chain.clients.etherscan import EtherscanClient
from src.chain.clients.ethplorer import EthplorerClient
from src.chain.clients.price_api import PriceApiClient
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.clients.rpc import JsonRpcClient
from src.chain.clients.urls import ETHERSCAN_URL, ETHPLORER_URL, explorer_api
from src.chain.lookups.cache import FactCache
from src.chain.lookups.lookups import Lookups
from src.chain.lookups.sources import SEARCH_SECONDS, Sources
from src.chain.lookups.store import FactStore
from src.chain.networks import network
from src.chain.price_feeds import API_NAMES
from src.chain.well_known import load_well_known_tokens

MAINNET = 1

logger = logging.getLogger(__name__)

# Rate limits of the sources; the scan node's proxy returns HTTP 429 above 50 per second.
NODE_REQUESTS_PER_SECOND = 50
ETHERSCAN_RATES = (Rate(3, 1.0), Rate(100_000, 86_400.0))
ETHPLORER_RATES = (Rate(10, 1.0),)
PRICE_API_RATES = (Rate(5, 1.0),)
ETHPLORER_FREE_KEY = "freekey"
ETHPLORER_FREE_RATES = (Rate(2, 1.0), Rate(100, 3_600.0), Rate(1_000, 86_400.0))

# A block of 7,000 hashes fits. Larger answers are attacks: thirty tokens state some 15 kB. Up to 36
# requests at a time parse so much.
_METADATA_MAX_BYTES = 512 * 1024


def build_lookups(
    *,
    json_rpc_url: str | None = None,
    etherscan_url: str = ETHERSCAN_URL,
    etherscan_api_key: str | None = None,
    ethplorer_url: str = ETHPLORER_URL,
    ethplorer_api_key: str | None = None,
    price_api_url: str | None = None,
    chain_id: int = MAINNET,
    seconds_per_block: float | None = None,
    cache_dir: Path | None = None,
    deadline_seconds: float = 1.0,
    timeout_seconds: float = 5.0,
    patience_share: float = 0.3,
    node_requests_per_second: int = NODE_REQUESTS_PER_SECOND,
    etherscan_rates: Collection[Rate] = ETHERSCAN_RATES,
    ethplorer_rates: Collection[Rate] | None = None,
    search_seconds: float = SEARCH_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Lookups:
    """Build the lookups. Opens the cache, sends no requests.

    Args:
        json_rpc_url: the node, or None.
        etherscan_url: Etherscan V2 or a compatible explorer, see `explorer_api`.
        etherscan_api_key: required by Etherscan itself, which is not used without a key.
        ethplorer_url: Ethplorer, which supports mainnet only: its own URL is not used for other
            chains.
        ethplorer_api_key: without a key Ethplorer is not used.
        price_api_url: a keyless price API in the form of DefiLlama's, or None.
        chain_id: the chain of all addresses.
        seconds_per_block: on it; None for the usual, as far as it is known.
        cache_dir: folder for facts across restarts; None for memory only.
        deadline_seconds: total time to wait per transaction.
        timeout_seconds: of one background request; may exceed the deadline.
        patience_share: the share of the deadline after which the node is queried although an
            explorer may still answer, and after which a search of the node continues in the
            background.
        node_requests_per_second: rate limit of the node.
        etherscan_rates: rate limits of the explorer.
        ethplorer_rates: rate limits of Ethplorer; None for those of the kind of key.
        search_seconds: time limit of a search of the node for a first transaction.
        clock: of the rate limits and circuit breakers; monotonic, in seconds.
        now: Unix seconds.
    """
    with ExitStack() as opening:  # a client refuses a URL that is none
        store = FactStore(cache_dir, chain_id)
        opening.callback(store.close)
        cache = FactCache(store)
        sources = Sources(
            cache,
            patience=deadline_seconds * patience_share,
            search_seconds=search_seconds,
            clock=clock,
        )

        def add_explorers(etherscan_key: str | None, ethplorer_key: str | None) -> None:
            its_own = ethplorer_url.rstrip("/") == ETHPLORER_URL
            if ethplorer_key and its_own and chain_id != MAINNET:
                logger.warning("Ethplorer serves mainnet only: not used for chain %d", chain_id)
            elif ethplorer_key and not sources.has("ethplorer"):
                free = ethplorer_key == ETHPLORER_FREE_KEY
                sources.add_ethplorer(
                    EthplorerClient(ethplorer_url, ethplorer_key, timeout=timeout_seconds),
                    ethplorer_rates or (ETHPLORER_FREE_RATES if free else ETHPLORER_RATES),
                )
            is_usable = etherscan_key or explorer_api(etherscan_url) != ETHERSCAN_URL
            if is_usable and not sources.has("etherscan"):
                sources.add_etherscan(
                    EtherscanClient(
                        etherscan_url, etherscan_key, chain_id, timeout=timeout_seconds
                    ),
                    etherscan_rates,
                )

        add_explorers(etherscan_api_key, ethplorer_api_key)
        if price_api_url and chain_id in API_NAMES:
            api = PriceApiClient(price_api_url, API_NAMES[chain_id], timeout=timeout_seconds)
            sources.add_price_api(api, PRICE_API_RATES)
        elif price_api_url:
            logger.warning("the price API (PRICE_API_URL) is not used for chain %d", chain_id)
        if json_rpc_url:
            node = JsonRpcClient(
                json_rpc_url,
                timeout=timeout_seconds,
                max_bytes=_METADATA_MAX_BYTES,
                rate_limit=RateLimit(Rate(node_requests_per_second, 1.0), clock=clock),
            )
            sources.add_node(node, node_requests_per_second)
        opening.pop_all()
    well_known = load_well_known_tokens(chain_id)
    return Lookups(
        sources,
        cache,
        store,
        well_known,
        chain_id=chain_id,
        seconds_per_block=seconds_per_block or network(chain_id).seconds_per_block,
        deadline_seconds=deadline_seconds,
        add_explorers=add_explorers,
        now=now,
    )
