"""Synthetic transactions that every model must classify correctly.

They need no data: a plain payment, a swap and an airdrop are never anomalies; a flash loan that
drains a pool in rounds always is. A challenger that fails here is wrong, however good its other
figures are.
"""

from src.chain.transfers import Transfer
from src.detection.features.definitions import TokenProfile, columns_of, feature_row
from src.detection.forest.model import Model

_ETHER = 10**18
_SENDER, _POOL, _CONTRACT, _LENDER, _OTHER = (f"0x{number:040x}" for number in range(1, 6))
_TOKEN, _LOOT = f"0x{0xA:040x}", f"0x{0xB:040x}"
_ROUND = [
    (_TOKEN, _CONTRACT, _POOL, 100),
    (_LOOT, _POOL, _CONTRACT, 50),
    (_LOOT, _CONTRACT, _POOL, 1),
    (_TOKEN, _POOL, _CONTRACT, 100),
]

# Token, payer, payee, ether; all sent by `_SENDER`.
_NORMAL = {
    "plain payment": [(_TOKEN, _SENDER, _OTHER, 1)],
    "swap": [(_TOKEN, _SENDER, _POOL, 1), (_LOOT, _POOL, _SENDER, 1)],
    "airdrop to 100 accounts": [
        (_TOKEN, _SENDER, f"0x{number:040x}", 1) for number in range(1000, 1100)
    ],
}
_ANOMALOUS = {
    "flash loan that empties a pool": [
        (_TOKEN, _LENDER, _CONTRACT, 1000),
        *5 * _ROUND,
        (_TOKEN, _CONTRACT, _LENDER, 1000),
        (_LOOT, _CONTRACT, _SENDER, 245),
    ]
}


def misjudged(model: Model) -> list[str]:
    """The shapes that a model misclassifies at its threshold, with their scores."""
    profile = TokenProfile.from_manifest(model.manifest)
    columns = columns_of(model.inputs)
    wrong = []
    for name, moves in (_NORMAL | _ANOMALOUS).items():
        transfers = [
            Transfer(token, payer, payee, amount * _ETHER, index)
            for index, (token, payer, payee, amount) in enumerate(moves)
        ]
        row = feature_row(transfers, _SENDER, profile)[columns]
        score = float(model.score(row[None])[0])
        if (score >= model.manifest.anomaly_threshold) is not (name in _ANOMALOUS):
            wrong.append(f"{name} (score {score:.3f})")
    return wrong
