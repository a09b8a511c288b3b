"""What a model must beat: the number of transfers, and the field's feature set on the same data."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from src.datasets.tables import TransactionSet, read_table
from src.training.fit import CrossFit, scores_of

_VOCABULARY = 20
_UNKNOWN_DECIMALS = 18
_SEEDS = range(5)
_VALUE_CAP = 1e30  # float32 holds it

Floats = NDArray[np.float64]


def transfer_count(data: TransactionSet) -> Floats:
    """Number of ERC-20 transfers."""
    return data.n_transfers.astype(np.float64)


def largest_single_token_count(data: TransactionSet) -> Floats:
    """Number of transfers of the token that is transferred most often."""
    return np.array([_most_moved(row)[0] for row in _tokens_of(data)], dtype=np.float64)


def vocabulary_scores(
    background: TransactionSet, crossed: CrossFit, exploits: TransactionSet, folder: Path
) -> tuple[Floats, Floats]:
    """Scores by the field's reference feature set, cross-fitted in the same folds.

    Counts and values of the twenty commonest tokens (here by address), number of transfers and of
    tokens, count and value of the most-moved token; 100 trees, the mean of five seeds, since a
    single one moves its AUC by 0.01. The account's age, which it has besides, is not known of this
    data; a token's decimals are 18 where unknown.
    """
    decimals = _decimals(folder)
    scores = np.zeros(len(background))
    outside = np.zeros(len(exploits))
    for fold, model in crossed.models.items():
        tokens = [
            token
            for row in model.profile_rows
            for token in np.unique(_transfers(background, row)).tolist()
        ]
        # Ids follow the order of the hashes, so ties are decided alike whatever the rows' order.
        common = sorted(Counter(tokens).items(), key=lambda item: (-item[1], item[0]))
        addresses = background.batch.token_addresses
        vocabulary = [addresses[token] for token, _ in common[:_VOCABULARY]]
        table = _vocabulary_table(background, vocabulary, decimals)
        held_out = crossed.fold == fold
        theirs = _vocabulary_table(exploits, vocabulary, decimals)
        for seed in _SEEDS:
            forest = IsolationForest(n_estimators=100, random_state=seed)
            forest.fit(table[model.profile_rows].astype(np.float32))
            scores[held_out] += scores_of(forest, table[held_out]) / len(_SEEDS)
            outside += scores_of(forest, theirs) / len(_SEEDS)
    return scores, outside / len(crossed.models)


def _decimals(folder: Path) -> dict[str, int]:
    path = folder / "tokens.csv.gz"
    if not path.is_file():
        return {}
    table = read_table(path, ("address", "decimals")).dropna(subset="decimals")
    return dict(
        zip(table["address"].str.lower(), table["decimals"].astype(int).tolist(), strict=True)
    )


def _transfers(data: TransactionSet, row: int) -> NDArray[np.int32]:
    return data.batch.token[data.batch.offsets[row] : data.batch.offsets[row + 1]]


def _tokens_of(data: TransactionSet) -> list[list[int]]:
    return [_transfers(data, row).tolist() for row in range(len(data))]


def _most_moved(tokens: list[int]) -> tuple[int, int]:
    token, count = Counter(tokens).most_common(1)[0]
    return count, token


def _vocabulary_table(
    data: TransactionSet, vocabulary: list[str], decimals: dict[str, int]
) -> Floats:
    addresses = data.batch.token_addresses
    scale = np.array([10.0 ** decimals.get(address, _UNKNOWN_DECIMALS) for address in addresses])
    values = data.batch.amount / scale[data.batch.token]
    owner = data.batch.owner
    table = np.zeros((len(data), 2 * len(vocabulary) + 4))
    position = {address: place for place, address in enumerate(vocabulary)}
    place = np.array([position.get(address, -1) for address in addresses])[data.batch.token]
    known = place >= 0
    np.add.at(table, (owner[known], 2 * place[known]), 1.0)
    np.add.at(table, (owner[known], 2 * place[known] + 1), values[known])
    for row, tokens in enumerate(_tokens_of(data)):
        count, most = _most_moved(tokens)
        first, last = data.batch.offsets[row], data.batch.offsets[row + 1]
        moved = values[first:last][data.batch.token[first:last] == most].sum()
        table[row, -4:] = len(tokens), len(set(tokens)), count, moved
    return np.minimum(table, _VALUE_CAP)
