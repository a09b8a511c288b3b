"""Which tokens of a transaction the bot looks up and shows: all, up to a number."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from src.detection.transfer_batch import TransferLike
from src.utils.constants import MAX_TOKENS_IN_METADATA


def shown_tokens(transfers: Sequence[TransferLike]) -> Collection[str]:
    """Tokens in the order of the logs; where there are too many, those with most transfers."""
    tokens = dict.fromkeys([transfer.token for transfer in transfers])
    if len(tokens) <= MAX_TOKENS_IN_METADATA:
        return tokens
    return most_moved(Counter([transfer.token for transfer in transfers]))


def most_moved(counts: Mapping[str, int]) -> list[str]:
    """Tokens with most transfers first, as many as are shown; by address where they are equal."""
    return sorted(counts, key=lambda token: (-counts[token], token))[:MAX_TOKENS_IN_METADATA]
