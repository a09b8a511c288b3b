"""The batch analysis: an Isolation Forest over the transfers of a range of blocks. Pure.

One row a transaction and token: the amount of the token that the transaction moved in all its
transfers together, and what the transaction's gas cost. A transaction's score is the highest among
its rows. Rows are put in one order before anything looks at them, so the same blocks give the same
answer in whatever order they arrive.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.decision.tokens import TokenView, decimals_of, labels_in
from src.detection.forest.forest import Forest
from src.detection.forest.forest_file import read_forest
from src.service.database.analyses import AnalysisRow
from src.service.records import LoadedTransaction

MIN_ROWS = 2
"""Rows that training needs: one alone is neither usual nor unusual."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class TokenMove:
    """What one transaction moved of one token.

    Attributes:
        value: in token units.
        gas_cost: of the whole transaction, ETH.
        supply_share: the value as a share of the token's total supply; 0 where that is unknown.
    """

    tx_hash: str
    token: str
    label: str
    value: float
    gas_cost: float
    supply_share: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainedForest:
    """A fitted forest as the registry keeps it.

    Attributes:
        content: serialised; read without running anything in it.
        offset: scikit-learn's `offset_`: a row is an anomaly when its score is above `-offset`.
    """

    content: bytes
    offset: float

    @property
    def sha256(self) -> str:
        """Of the content, hex."""
        return hashlib.sha256(self.content).hexdigest()


def token_moves(
    transactions: Iterable[LoadedTransaction],
    tokens: Mapping[str, TokenView],
    supplies: Mapping[str, int] | None = None,
) -> list[TokenMove]:
    """What each transaction moved of each token, ordered by hash and token.

    Amounts are summed exactly and scaled once. A token whose decimals nobody knows counts with 18.

    Args:
        transactions: with transfers.
        tokens: what is known of them, by address.
        supplies: total supply in raw units, by address, as far as it is known.
    """
    moves = []
    for transaction in transactions:
        amounts: dict[str, int] = {}
        for transfer in transaction.transfers:
            amounts[transfer.token] = amounts.get(transfer.token, 0) + transfer.amount
        labels = labels_in(amounts, tokens)
        for address, amount in amounts.items():
            supply = (supplies or {}).get(address, 0)
            moves.append(
                TokenMove(
                    tx_hash=transaction.tx_hash,
                    token=address,
                    label=labels[address],
                    value=amount / 10 ** decimals_of(address, tokens),
                    gas_cost=transaction.gas_cost,
                    supply_share=amount / supply if supply else 0.0,
                )
            )
    return sorted(moves, key=lambda move: (move.tx_hash, move.token))


def feature_matrix(moves: Sequence[TokenMove], inputs: Sequence[str]) -> NDArray[np.float32]:
    """The forest's rows, shape (n, len(inputs)); what float32 cannot hold becomes its largest."""
    rows = [[getattr(move, name) for name in inputs] for move in moves]
    table = np.array(rows, dtype=np.float64).reshape(len(moves), len(inputs))
    return np.ascontiguousarray(np.clip(table, 0.0, _LARGEST), dtype=np.float32)


def train(matrix: NDArray[np.float32], *, contamination: float, random_state: int) -> TrainedForest:
    """Fit a forest; the same rows in the same order give the same bytes."""
    # Seconds and 160 MB that a worker need not pay before it trains.
    import dill  # noqa: PLC0415
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    forest = IsolationForest(contamination=contamination, random_state=random_state)
    forest.fit(matrix)
    return TrainedForest(dill.dumps(forest, protocol=4), float(forest.offset_))


def ranked(
    moves: Sequence[TokenMove], matrix: NDArray[np.float32], forest: TrainedForest
) -> list[AnalysisRow]:
    """Score and rank: the most anomalous transaction first, ties by hash.

    Raises:
        ModelMalformed: the registry's content is no forest.
        ValueError: a forest of other inputs.
    """
    contents = read_forest(forest.content)
    if contents.n_features != matrix.shape[1]:
        raise ValueError(f"a forest of {contents.n_features} inputs, not {matrix.shape[1]}")
    scores = Forest.from_contents(contents).score(matrix).tolist()
    highest: dict[str, float] = {}
    for move, score in zip(moves, scores, strict=True):
        highest[move.tx_hash] = max(score, highest.get(move.tx_hash, 0.0))
    order = sorted(highest, key=lambda tx_hash: (-highest[tx_hash], tx_hash))
    ranks = {tx_hash: rank for rank, tx_hash in enumerate(order)}
    rows = [
        AnalysisRow(
            rank=ranks[move.tx_hash],
            token=move.token,
            tx_hash=move.tx_hash,
            label=move.label,
            value=move.value,
            gas_cost=move.gas_cost,
            score=score,
            tx_score=highest[move.tx_hash],
            is_anomaly=highest[move.tx_hash] > -forest.offset,
        )
        for move, score in zip(moves, scores, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.rank, row.token))
