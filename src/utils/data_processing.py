"""From a transaction's transfers to features: what the model scores and what a reader sees.

The helpers ask the outside world at most once for a fact: answers are cached in memory and on disk,
failures are not. Two kinds of features stand side by side in the result: the model's inputs, named
for what they measure and independent of names, and those for the reader, keyed by token symbol.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.chain.errors import NotFound, SourceError
from src.chain.facts import MAX_NAME_LENGTH, MAX_SYMBOL_LENGTH
from src.chain.lookups import Lookups, build_lookups
from src.chain.text import sanitise_text
from src.chain.transfers import Transfer
from src.detection.evidence import TokenFact
from src.detection.features import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.manifest import read_manifest
from src.settings import Settings, load_settings
from src.utils.constants import SECONDS_PER_MINUTE
from src.utils.shown_tokens import most_moved, shown_tokens

ACCOUNT_AGE = "account_active_period_in_minutes"
_FIXED_NAMES = frozenset(
    {
        "transfer_counts",
        "tokens_type_counts",
        "token_types",
        "tokens_omitted",
        "max_single_token_transfers_name",
        "max_single_token_transfers_count",
        "max_single_token_transfers_value",
        ACCOUNT_AGE,
        f"{ACCOUNT_AGE}_source",
    }
)


@dataclass(frozen=True, slots=True)
class FeatureSources:
    """What features are made from, besides the transaction itself.

    Attributes:
        lookups: the outside world.
        inputs: names of the model's inputs.
        profile: what the model knows of tokens' amounts.
    """

    lookups: Lookups
    inputs: tuple[str, ...]
    profile: TokenProfile


_sources: FeatureSources | None = None


def use_sources(sources: FeatureSources) -> None:
    """Set what features are made from; done once at start, before the first transaction."""
    global _sources  # noqa: PLW0603  the helpers' signatures are fixed, so this is their state
    _sources = sources
    get_first_tx_timestamp.cache_clear()
    get_token_info.cache_clear()
    _token_fact.cache_clear()
    _shown_token.cache_clear()


def sources_from(
    settings: Settings, inputs: Sequence[str], profile: TokenProfile
) -> FeatureSources:
    """Build the sources that the settings describe."""
    lookups = build_lookups(
        chain_id=settings.chain_id,
        json_rpc_url=settings.json_rpc_url,
        etherscan_url=settings.etherscan_url,
        etherscan_api_key=settings.etherscan_api_key,
        ethplorer_url=settings.ethplorer_url,
        ethplorer_api_key=settings.ethplorer_api_key,
        cache_dir=settings.cache_dir,
        deadline_seconds=settings.lookup_deadline_seconds,
        node_requests_per_second=settings.json_rpc_requests_per_second,
    )
    return FeatureSources(lookups, tuple(inputs), profile)


def _current() -> FeatureSources:
    """The sources in use; without `use_sources`, those of the settings and the model in place."""
    if _sources is None:
        settings = load_settings()
        manifest = read_manifest(Path(settings.model_path), settings.model_public_key)
        profile = TokenProfile.from_amounts(manifest.token_amounts)
        use_sources(sources_from(settings, manifest.inputs, profile))
    assert _sources is not None  # noqa: S101  set above
    return _sources


@lru_cache(maxsize=4_096)
def get_first_tx_timestamp(address: str) -> int:
    """Unix seconds of the first transaction of an address.

    Raises:
        NotFound: it has none yet. An answer, but not a lasting one: asked again next time.
        SourceError: nobody could answer. Not cached either.
    """
    return _current().lookups.first_transaction(address).timestamp


@lru_cache(maxsize=4_096)
def get_token_info(token_address: str) -> tuple[str, str, int]:
    """(name, symbol, decimals) of a token; text is sanitised and may be empty.

    Raises:
        SourceError: nobody could answer. Not cached.
    """
    info = _current().lookups.token_info(token_address)
    return info.name, info.symbol, info.decimals


def get_account_active_period(address: str, tx_timestamp: int) -> float:
    """Minutes between an address's first transaction and this one; 0 for a new address.

    Negative when a source claims a first transaction after this one: see `valid_features`.

    Raises:
        SourceError: nobody could answer.
    """
    try:
        first = get_first_tx_timestamp(address)
    except NotFound:
        return 0.0
    return (tx_timestamp - first) / SECONDS_PER_MINUTE


def get_features(
    from_address: str | None,
    tx_timestamp: int | None,
    transfer_events: Sequence[Transfer],
    *,
    block_number: int | None = None,
) -> tuple[bool, dict[str, Any]]:
    """Features of one transaction.

    Args:
        from_address: its sender, lowercase, or None where the event lacks it.
        tx_timestamp: of its block, Unix seconds, or None where the event lacks it.
        transfer_events: its ERC-20 transfers in log order, at least one.
        block_number: of its block, which bounds the search for the first transaction.

    Returns:
        Whether the features are valid (see `valid_features`) and the features by name. What could
        not be had is None.
    """
    sources = _current()
    by_token = _group_by_token(transfer_events)
    shown = most_moved({token: total.count for token, total in by_token.items()})
    features: dict[str, Any] = {}
    if from_address is not None:
        row = feature_row(transfer_events, from_address, sources.profile)
        features.update(zip(FEATURE_NAMES, row.tolist(), strict=True))
    lookups = sources.lookups
    if lookups.knows(shown, from_address):
        features.update(_reader_features(by_token, shown))
        features.update(_account_age(from_address, tx_timestamp))
    else:
        with lookups.transaction():  # one deadline for all that this transaction asks
            lookups.prefetch(shown, from_address, block_number)
            features.update(_reader_features(by_token, shown))
            features.update(_account_age(from_address, tx_timestamp))
    return valid_features(features), features


def token_facts(transfers: Sequence[Transfer]) -> dict[str, TokenFact]:
    """What is known of the tokens that `get_features` has looked up, by address. Asks nobody."""
    facts: dict[str, TokenFact] = {}
    for token in shown_tokens(transfers):
        try:
            facts[token] = _token_fact(token)
        except KeyError:  # `suppress` would cost more than everything else here
            continue
    return facts


@lru_cache(maxsize=4_096)
def _token_fact(token: str) -> TokenFact:
    """Raises KeyError where it is not known, so that only facts are remembered."""
    lookups = _current().lookups
    known = lookups.well_known_token(token)
    if known is not None:
        return TokenFact(known.symbol, well_known=True)
    info = lookups.known_token(token)
    if info is None:
        raise KeyError(token)
    return TokenFact(info.symbol, impersonates=lookups.impersonates_well_known(info.symbol, token))


def valid_features(features: Mapping[str, Any]) -> bool:
    """False when the account's age is negative or a model input is missing or not finite."""
    return invalid_reason(features) is None


def invalid_reason(features: Mapping[str, Any]) -> str | None:
    """Why features must not be scored, or None when they may."""
    age = features.get(ACCOUNT_AGE)
    if age is not None and not age >= 0:
        return f"{ACCOUNT_AGE} is {age}: a first transaction after this one"
    inputs = _current().inputs
    # Nearly always all are there. What is no number is left to the closer look below.
    try:
        if all(map(math.isfinite, [features[name] for name in inputs])):
            return None
    except (KeyError, TypeError, OverflowError):
        pass
    for name in inputs:
        value = features.get(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return f"model input {name} is missing or not finite"
    return None


def model_row(features: Mapping[str, Any], inputs: Sequence[str]) -> NDArray[np.float64]:
    """The model's row of valid features, shape (number of inputs,)."""
    return np.array([features[name] for name in inputs], dtype=np.float64)


@dataclass(slots=True)
class _TokenTotal:
    """Transfers of one token in one transaction; the amount is exact, in raw units."""

    count: int = 0
    amount: int = 0


def _group_by_token(transfers: Sequence[Transfer]) -> dict[str, _TokenTotal]:
    totals: dict[str, _TokenTotal] = {}
    for transfer in transfers:
        total = totals.get(transfer.token)
        if total is None:
            total = totals[transfer.token] = _TokenTotal()
        total.count += 1
        total.amount += transfer.amount
    return totals


@dataclass(frozen=True, slots=True)
class _ShownToken:
    """How one token is named for people.

    Attributes:
        decimals: None where nothing is known of the token.
        name: sanitised, possibly empty.
        claim: its symbol in a form that is equal for symbols which read alike.
        label: its symbol, where nobody can mistake it for another token's; else with its address.
        full_label: with its address.
        well_known: on the built-in list, by its address.
    """

    decimals: int | None
    name: str
    claim: str
    label: str
    full_label: str
    well_known: bool


def _reader_features(by_token: Mapping[str, _TokenTotal], shown: Sequence[str]) -> dict[str, Any]:
    """Counts and values by token symbol, for people. `shown` is most transfers first."""
    tokens = [_shown_token(token, _token_info_or_none(token)) for token in shown]
    claims: dict[str, int] = {}
    for token in tokens:
        claims[token.claim] = claims.get(token.claim, 0) + 1
    features: dict[str, Any] = {}
    names: list[str] = []
    values: list[float | None] = []
    for address, token in zip(shown, tokens, strict=True):
        # Anyone can deploy a token called USDC: two of one symbol are told apart by address.
        is_unique = claims[token.claim] == 1 or token.well_known
        label = token.label if is_unique else token.full_label
        total = by_token[address]
        value = None if token.decimals is None else _in_token_units(total.amount, token.decimals)
        features[f"{label}_transfers"] = total.count
        features[f"{label}_value"] = value
        values.append(value)
        names.append(f"{token.name}-{label}" if token.name else label)
    features["transfer_counts"] = sum([total.count for total in by_token.values()])
    features["tokens_type_counts"] = len(by_token)
    features["token_types"] = sorted(names)
    features["max_single_token_transfers_name"] = names[0]
    features["max_single_token_transfers_count"] = by_token[shown[0]].count
    features["max_single_token_transfers_value"] = values[0]
    if len(by_token) > len(shown):
        features["tokens_omitted"] = len(by_token) - len(shown)
    return features


def _token_info_or_none(token: str) -> tuple[str, str, int] | None:
    try:
        return get_token_info(token)
    except SourceError:
        return None


@lru_cache(maxsize=2_048)
def _shown_token(address: str, info: tuple[str, str, int] | None) -> _ShownToken:
    """The names of a token of which this is known.

    A symbol that belongs to a well-known token at another address, or that would collide with the
    name of another feature, is followed by the token's address.
    """
    if info is None:
        return _ShownToken(None, "", "", address, address, well_known=False)
    sources = _current()
    name = sanitise_text(info[0], MAX_NAME_LENGTH)
    symbol = sanitise_text(info[1], MAX_SYMBOL_LENGTH)
    well_known = sources.lookups.well_known_token(address) is not None
    if not symbol:
        return _ShownToken(info[2], name, "", address, address, well_known)
    full_label = f"{symbol} ({address})"
    reserved = _FIXED_NAMES.union(sources.inputs)
    ambiguous = (
        sources.lookups.impersonates_well_known(symbol, address)
        or f"{symbol}_transfers" in reserved
        or f"{symbol}_value" in reserved
    )
    label = full_label if ambiguous else symbol
    return _ShownToken(info[2], name, symbol.casefold(), label, full_label, well_known)


def _in_token_units(amount: int, decimals: int) -> float:
    """raw / 10**decimals; the sum is exact and rounded once, here."""
    return float(amount / 10**decimals)


def _account_age(from_address: str | None, tx_timestamp: int | None) -> dict[str, Any]:
    """The sender's age and who said so. The model does not need it, so a failure is not invalid."""
    if from_address is None or tx_timestamp is None:
        return {ACCOUNT_AGE: None, f"{ACCOUNT_AGE}_source": "none: no sender or block time"}
    try:
        age = get_account_active_period(from_address, tx_timestamp)
    except SourceError as error:
        return {ACCOUNT_AGE: None, f"{ACCOUNT_AGE}_source": f"none: {error}"}
    try:
        source = _current().lookups.first_transaction(from_address).source
    except (NotFound, SourceError):
        source = "new address"
    return {ACCOUNT_AGE: age, f"{ACCOUNT_AGE}_source": source}
