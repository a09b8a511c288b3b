"""The batch analysis: an Isolation Forest over the transfers of a range of blocks. Pure.

One row per transaction and token: the total amount of the token that the transaction moved, and the
transaction's gas cost. A transaction's score is the highest of its rows. Rows are sorted first, so
the same blocks give the same result in any order.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.decision.tokens import TokenView, decimals_of, labels_in
from src.detection.forest.forest_file import forest_content, read_forest
from src.service.database.analyses import AnalysisRow
from src.service.records import LoadedTransaction

MIN_ROWS = 2
"""Minimum number of rows for training: a single row is neither usual nor unusual."""

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transaction moved: all that is kept of it, for a range may have a million."""

    tx_hash: str
    gas_cost: float  # ETH
    amounts: dict[str, int]  # by token, raw units, summed over its transfers


@dataclass(frozen=True, slots=True)
class TokenMove:
    """The amount of one token that a transaction moved."""

    tx_hash: str
    token: str
    label: str
    value: float  # in token units
    gas_cost: float  # of the whole transaction, ETH
    # The value as a share of the token's total supply; 0 if that is unknown.
    supply_share: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainedForest:
    """A fitted forest as stored in the registry."""

    content: bytes  # serialised; read without running code in it
    offset: float  # scikit-learn's `offset_`: a row is an anomaly when its score is above `-offset`

    @property
    def sha256(self) -> str:
        """Of the content, hex."""
        return hashlib.sha256(self.content).hexdigest()


def moved_by(transaction: LoadedTransaction) -> Moved:
    """What a transaction moved."""
    amounts: dict[str, int] = {}
    for one in transaction.transfers:
        token = sys.intern(one.token)  # one object for all transactions
        amounts[token] = amounts.get(token, 0) + one.amount
    return Moved(transaction.tx_hash, transaction.gas_cost, amounts)


def token_moves(
    transactions: Iterable[Moved],
    tokens: Mapping[str, TokenView],
    supplies: Mapping[str, int] | None = None,
) -> list[TokenMove]:
    """The amount of each token that each transaction moved, ordered by hash and token.

    Amounts are summed exactly and scaled once. Unknown decimals count as 18.

    Args:
        transactions: what each moved.
        tokens: token metadata by address.
        supplies: known total supplies in raw units, by address.
    """
    moves = []
    for transaction in transactions:
        labels = labels_in(transaction.amounts, tokens)
        for address, amount in transaction.amounts.items():
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
    """The forest's rows, shape (n, len(inputs)); values are clipped to the range of float32."""
    rows = [[getattr(move, name) for name in inputs] for move in moves]
    table = np.array(rows, dtype=np.float64).reshape(len(moves), len(inputs))
    return np.ascontiguousarray(np.clip(table, 0.0, _MAX_FLOAT32), dtype=np.float32)


def train(matrix: NDArray[np.float32], *, contamination: float, random_state: int) -> TrainedForest:
    """Fit a forest; the same rows in the same order give the same bytes."""
    # Imported late: it takes seconds and 160 MB, which a worker without training does not need.
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    forest = IsolationForest(contamination=contamination, random_state=random_state)
    forest.fit(matrix)
    return TrainedForest(forest_content(forest), float(forest.offset_))


def ranked(
    moves: Sequence[TokenMove], matrix: NDArray[np.float32], forest: TrainedForest
) -> list[AnalysisRow]:
    """Score and rank: the most anomalous transaction first, ties by hash.

    Raises:
        ModelMalformed: the registry's content is not a forest.
        ValueError: the forest has another number of inputs.
    """
    trained = read_forest(forest.content)
    n_inputs = trained.trees.n_features
    if n_inputs != matrix.shape[1]:
        raise ValueError(f"the forest has {n_inputs} inputs, expected {matrix.shape[1]}")
    scores = trained.score(matrix).tolist()
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
            is_anomaly=score > -forest.offset,
        )
        for move, score in zip(moves, scores, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.rank, row.token))
