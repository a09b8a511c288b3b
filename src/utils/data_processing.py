"""The common helpers of Forta bots: thin wrappers of the pipeline and its lookups.

They query sources at most once for a fact: answers are cached, failures are not. `use` sets the
pipeline and the lookups; without it, they use the configured model and settings.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from src.chain.errors import NotFound
from src.chain.lookups.lookups import Lookups
from src.chain.quantities import SECONDS_PER_MINUTE
from src.chain.transactions import TransactionFields
from src.chain.transfers import NATIVE_EMITTERS, Transfer, normalise_address, transfer_of_event
from src.decision.lookups import open_lookups
from src.decision.pipeline import Pipeline
from src.decision.readable_features import ACCOUNT_AGE
from src.decision.tokens import shown_tokens
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.settings import load_settings, on_the_nodes_chain

_in_use: tuple[Pipeline, Lookups] | None = None


def use(pipeline: Pipeline, lookups: Lookups) -> None:
    """Use this pipeline and these lookups from now on. Affects only the helpers of this module."""
    global _in_use  # noqa: PLW0603  the helpers' signatures are fixed, so this is their state
    _in_use = pipeline, lookups


def _current() -> tuple[Pipeline, Lookups]:
    if _in_use is None:
        settings = on_the_nodes_chain(load_settings(), is_needed=False)
        model = load_model(settings.model_path, FEATURE_NAMES, public_key=settings.model_public_key)
        use(Pipeline.from_settings(settings, model), open_lookups(settings))
    assert _in_use is not None  # noqa: S101  set above
    return _in_use


def get_first_tx_timestamp(address: str) -> int:
    """Unix seconds of the first transaction of an address. Cached by the lookups.

    Raises:
        NotFound: it has none yet. Not cached, since this may change.
        SourceError: no source returned an answer. Not cached.
    """
    _, lookups = _current()
    return lookups.first_transaction(address).timestamp


def get_token_info(token_address: str) -> tuple[str, str, int | None]:
    """(name, symbol, decimals) of a token; text is sanitised and may be empty.

    Decimals are None if the contract states none. Cached by the lookups, which read it again when
    it has become old.

    Raises:
        SourceError: no source returned an answer. Not cached.
    """
    _, lookups = _current()
    info = lookups.token_info(token_address)
    return info.name, info.symbol, info.decimals


def get_account_active_period(address: str, tx_timestamp: int) -> float:
    """Minutes between an address's first transaction and this one; 0 for a new address.

    Negative when a source claims a first transaction after this one: see `valid_features`.

    Raises:
        SourceError: no source returned an answer.
    """
    try:
        first = get_first_tx_timestamp(address)
    except NotFound:
        return 0.0
    return (tx_timestamp - first) / SECONDS_PER_MINUTE


def get_features(
    from_address: str | None,
    tx_timestamp: int | None,
    transfer_events: Sequence[Transfer | Mapping[str, Any]],
    *,
    block_number: int | None = None,
) -> tuple[bool, dict[str, Any]]:
    """Features of one transaction.

    Args:
        from_address: its sender, or None if the event lacks it.
        tx_timestamp: of its block, Unix seconds, or None if the event lacks it.
        transfer_events: its ERC-20 transfers in log order, at least one; decoded, or as returned
            by `TransactionEvent.filter_log`: `{"address": ..., "args": {...}}`. Native transfers,
            which look like them, are left out.
        block_number: of its block, which bounds the search for the first transaction.

    Returns:
        Whether the features are valid (see `valid_features`), and the features by name, with None
        for unavailable ones.

    Raises:
        ValueError: there is no event, or one is not a transfer.
    """
    transfers = [
        event if isinstance(event, Transfer) else transfer_of_event(event, position)
        for position, event in enumerate(transfer_events)
    ]
    transfers = [transfer for transfer in transfers if transfer.token not in NATIVE_EMITTERS]
    if not transfers:
        raise ValueError("features need at least one transfer")
    pipeline, lookups = _current()
    sender = normalise_address(from_address)
    transaction = TransactionFields("", sender, None, None, tx_timestamp, block_number)
    facts = lookups.gather(
        shown_tokens(transfers), sender, block_number, timestamp=transaction.timestamp
    )
    features = pipeline.features(transaction, transfers, facts)
    return valid_features(features), features


def valid_features(features: Mapping[str, Any]) -> bool:
    """False when the account's age is negative or a model input is missing or not finite."""
    pipeline, _ = _current()
    age, inputs = features.get(ACCOUNT_AGE), map(features.get, pipeline.model.inputs)
    return (age is None or age >= 0) and all(
        isinstance(value, (int, float)) and abs(value) <= sys.float_info.max for value in inputs
    )
