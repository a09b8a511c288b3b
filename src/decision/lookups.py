"""The look-ups that feed the pipeline with facts, opened from the settings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from src.chain.facts import Facts
from src.chain.lookups.build import build_lookups
from src.chain.lookups.lookups import Lookups
from src.chain.transactions import TransactionFields
from src.chain.transfers import Transfer
from src.decision.pipeline import Pipeline
from src.settings import Settings
from src.variables import reveal

_EARLIER_BLOCKS: Final = 99
"""A thief takes in parts what would show at once. Nodes keep the states of 128 blocks."""


def open_lookups(settings: Settings) -> Lookups:
    """The look-ups that the settings describe; sends nothing."""
    return build_lookups(
        chain_id=settings.chain_id,
        seconds_per_block=settings.block_seconds,
        json_rpc_url=settings.json_rpc_url,
        etherscan_url=settings.etherscan_url,
        etherscan_api_key=reveal(settings.etherscan_api_key),
        ethplorer_url=settings.ethplorer_url,
        ethplorer_api_key=reveal(settings.ethplorer_api_key),
        price_api_url=settings.price_api_url,
        cache_dir=settings.cache_dir,
        deadline_seconds=settings.lookup_deadline_seconds,
        node_requests_per_second=settings.json_rpc_requests_per_second,
    )


def with_holdings(
    pipeline: Pipeline,
    lookups: Lookups,
    transaction: TransactionFields,
    transfers: Sequence[Transfer],
    facts: Facts,
) -> Facts:
    """The facts with the balances that a detector needs; asks the node for them, in few cases."""
    wanted = pipeline.holdings_to_ask(transaction, transfers, facts)
    if not wanted or not transaction.block_number:
        return facts
    before = transaction.block_number - 1
    held = lookups.balances(wanted, before, max(0, before - _EARLIER_BLOCKS))
    return replace(facts, held=held)
