"""Human-readable features: counts and values by token symbol, and the sender's age.

The model's inputs (`detection.features.definitions`) do not depend on token names; every finding
contains these features in addition.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from src.chain.facts import FirstTransaction, Unknown
from src.chain.quantities import SECONDS_PER_MINUTE
from src.chain.transfers import Transfer
from src.decision.tokens import TokenView, labels_in, most_moved

ACCOUNT_AGE: Final = "account_active_period_in_minutes"
_NAMES: Final = frozenset(
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


def reserved_symbols(others: Collection[str]) -> frozenset[str]:
    """Symbols whose features would have the names of other features.

    Args:
        others: names of features for models.
    """
    return frozenset(
        name.removesuffix(suffix)
        for name in _NAMES.union(others)
        for suffix in ("_transfers", "_value")
        if name.endswith(suffix)
    )


def readable_features(
    transfers: Sequence[Transfer], tokens: Mapping[str, TokenView], reserved: Collection[str]
) -> dict[str, Any]:
    """Counts and values by token.

    Args:
        transfers: in log order, at least one.
        tokens: token metadata by address.
        reserved: see `reserved_symbols`.

    Returns:
        Features by name; the value of a token with unknown decimals is None.
    """
    counts: dict[str, int] = {}
    amounts: dict[str, int] = {}  # exact, in raw units
    for transfer in transfers:
        token = transfer.token
        counts[token] = counts.get(token, 0) + 1
        amounts[token] = amounts.get(token, 0) + transfer.amount
    shown = most_moved(counts)
    labels = labels_in(shown, tokens, reserved)
    features: dict[str, Any] = {}
    names: list[str] = []
    types: list[str] = []
    values: list[float | None] = []
    for address in shown:
        label, known = labels[address], tokens.get(address)
        # The sum is exact and rounded once, here.
        decimals = None if known is None else known.decimals
        value = None if decimals is None else float(amounts[address] / 10**decimals)
        features[f"{label}_transfers"] = counts[address]
        features[f"{label}_value"] = value
        values.append(value)
        name = "" if known is None else known.name
        names.append(name or label)
        types.append(f"{name}-{label}" if name else label)
    features["transfer_counts"] = len(transfers)
    features["tokens_type_counts"] = len(counts)
    features["token_types"] = sorted(types)
    features["max_single_token_transfers_name"] = names[0]
    features["max_single_token_transfers_count"] = counts[shown[0]]
    features["max_single_token_transfers_value"] = values[0]
    if len(counts) > len(shown):
        features["tokens_omitted"] = len(counts) - len(shown)
    return features


def account_age(
    sender: str | None,
    timestamp: int | None,
    first: FirstTransaction | Unknown | None,
    nonce: int | None = None,
) -> dict[str, Any]:
    """The sender's age in minutes, and its source.

    Args:
        sender: the transaction's.
        timestamp: of its block, Unix seconds.
        first: the sender's first transaction; None for an account without one.
        nonce: number of its earlier transactions, or None if unknown.
    """
    if sender is None or timestamp is None:
        return {ACCOUNT_AGE: None, f"{ACCOUNT_AGE}_source": "none: no sender or block time"}
    if first is None and nonce:
        reason = "no transaction was found, though the sender has sent some"
        return {ACCOUNT_AGE: None, f"{ACCOUNT_AGE}_source": f"none: {reason}"}
    if first is None:
        return {ACCOUNT_AGE: 0.0, f"{ACCOUNT_AGE}_source": "new address"}
    if isinstance(first, Unknown):
        return {ACCOUNT_AGE: None, f"{ACCOUNT_AGE}_source": f"none: {first.reason}"}
    if first.timestamp > timestamp:  # a failed lookup, so that no source can take a score away
        reason = f"{first.source} claims a first transaction after this one"
        return {ACCOUNT_AGE: None, f"{ACCOUNT_AGE}_source": f"none: {reason}"}
    age = (timestamp - first.timestamp) / SECONDS_PER_MINUTE
    return {ACCOUNT_AGE: age, f"{ACCOUNT_AGE}_source": first.source}
