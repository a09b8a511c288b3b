"""Synthetic transactions that every model must classify correctly.

They need no data: a plain payment, a swap and an airdrop are never anomalies; a flash loan that
drains a pool in rounds always is. A challenger that fails here is wrong, however good its other
figures are.
"""

from dataclasses import dataclass

from src.chain.transfers import Transfer
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.forest.model import Model

_ETHER = 10**18


def _account(number: int) -> str:
    return f"0x{number:040x}"


_SENDER, _POOL, _CONTRACT, _LENDER = (_account(number) for number in (1, 2, 3, 4))
_TOKEN, _LOOT = _account(0xA), _account(0xB)


@dataclass(frozen=True, slots=True)
class Shape:
    """One transaction, sent by `_SENDER`.

    Attributes:
        name: human-readable.
        moves: token, payer, payee, raw amount.
        is_anomaly: the required classification.
    """

    name: str
    moves: tuple[tuple[str, str, str, int], ...]
    is_anomaly: bool


def _drain() -> tuple[tuple[str, str, str, int], ...]:
    moves = [(_TOKEN, _LENDER, _CONTRACT, 1000 * _ETHER)]
    for _ in range(5):
        moves += [
            (_TOKEN, _CONTRACT, _POOL, 100 * _ETHER),
            (_LOOT, _POOL, _CONTRACT, 50 * _ETHER),
            (_LOOT, _CONTRACT, _POOL, _ETHER),
            (_TOKEN, _POOL, _CONTRACT, 100 * _ETHER),
        ]
    moves += [
        (_TOKEN, _CONTRACT, _LENDER, 1000 * _ETHER),
        (_LOOT, _CONTRACT, _SENDER, 245 * _ETHER),
    ]
    return tuple(moves)


SHAPES = (
    Shape("plain payment", ((_TOKEN, _SENDER, _account(9), _ETHER),), is_anomaly=False),
    Shape(
        "swap",
        ((_TOKEN, _SENDER, _POOL, _ETHER), (_LOOT, _POOL, _SENDER, _ETHER)),
        is_anomaly=False,
    ),
    Shape(
        "airdrop to 100 accounts",
        tuple((_TOKEN, _SENDER, _account(1000 + number), _ETHER) for number in range(100)),
        is_anomaly=False,
    ),
    Shape("flash loan that empties a pool", _drain(), is_anomaly=True),
)


def misjudged(model: Model) -> list[str]:
    """The shapes that a model misclassifies at its threshold, with their scores."""
    profile = TokenProfile.from_manifest(model.manifest)
    columns = [FEATURE_NAMES.index(name) for name in model.inputs]
    wrong = []
    for shape in SHAPES:
        transfers = [
            Transfer(token=token, sender=payer, recipient=payee, amount=amount, log_index=index)
            for index, (token, payer, payee, amount) in enumerate(shape.moves)
        ]
        row = feature_row(transfers, _SENDER, profile)[columns]
        score = float(model.score(row[None])[0])
        if (score >= model.manifest.anomaly_threshold) is not shape.is_anomaly:
            wrong.append(f"{shape.name} (score {score:.3f})")
    return wrong
