"""Decoding, features, scoring and explaining, each on its own, against what they replace."""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import dill
import numpy as np
import shap
from eth_abi.abi import decode
from lime.lime_tabular import LimeTabularExplainer
from numpy.typing import NDArray

from benchmarks.report import Line
from benchmarks.timing import Call, interleaved
from benchmarks.traffic import Traffic
from src.chain.transfers import decode_transfers
from src.detection.attack.model import load_attack_model
from src.detection.bundle_files import ATTACK_MODEL_FILE
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import (
    FEATURE_NAMES,
    FOREST_INPUTS,
    TokenProfile,
    columns_of,
    feature_row,
    feature_table,
)
from src.detection.forest.model import Model, load_model
from src.settings import DEFAULT_MODEL_PATH

TRANSFERS = 5
"""Transfers of a transaction, where nothing else is said."""

ATTACK_SCORE_SECONDS = 50e-6
"""What the project promises."""

LIME_SAMPLES = 5000
"""LIME's default."""

EXPLAINED = 10
"""Inputs that an explanation names."""

TRANSFER_ABI = json.dumps(
    {
        "type": "event",
        "name": "Transfer",
        "anonymous": False,
        "inputs": [
            {"name": "from", "type": "address", "indexed": True},
            {"name": "to", "type": "address", "indexed": True},
            {"name": "value", "type": "uint256", "indexed": False},
        ],
    }
)
_EVENTS = 200


class Rival:
    """The usual way: scikit-learn scores, LIME explains.

    Args:
        rows: what LIME takes as background.
    """

    def __init__(self, rows: NDArray[np.float64]) -> None:
        # The same file that the bot has verified by its hash; see `shipped_model`.
        self.forest: Any = dill.loads(DEFAULT_MODEL_PATH.read_bytes())
        self._lime = LimeTabularExplainer(
            rows, feature_names=FOREST_INPUTS, mode="regression", random_state=0
        )

    def score(self, row: NDArray[np.float64]) -> float:
        """Score one row."""
        return float(self._scores(row[np.newaxis])[0])

    def explain(self, row: NDArray[np.float64]) -> Any:
        """Explain one row."""
        return self._lime.explain_instance(
            row, self._scores, num_features=EXPLAINED, num_samples=LIME_SAMPLES
        )

    def score_and_explain(self, row: NDArray[np.float64]) -> float:
        """Score and explain one row."""
        score = self.score(row)
        self.explain(row)
        return score

    def _scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return cast(NDArray[np.float64], -self.forest.score_samples(rows.astype(np.float32)))


def shipped_model() -> Model:
    """The model of this repository, verified."""
    return load_model(Path(DEFAULT_MODEL_PATH), available_inputs=FEATURE_NAMES)


def sample_rows(profile: TokenProfile, n: int = 2000) -> NDArray[np.float64]:
    """Rows of the forest's inputs of transactions of 1 to 40 transfers, one a transaction."""
    rows: NDArray[np.float64] = feature_table(_batch(n), profile)[:, columns_of(FOREST_INPUTS)]
    return rows


def measure(*, rounds: int, round_seconds: float) -> list[Line]:
    """All lines of this group."""
    model = shipped_model()
    profile = TokenProfile.from_manifest(model.manifest)
    rows = sample_rows(profile)
    rival = Rival(rows)
    tree_shap = shap.TreeExplainer(rival.forest)
    each = cycle(rows)
    traffic = Traffic(1)
    events = cycle([traffic.event(TRANSFERS) for _ in range(_EVENTS)])
    rewritten = traffic.event(TRANSFERS)  # `filter_log` replaces the topics of what it reads
    decoded = cycle(
        [(decode_transfers(event.logs), event.from_) for event in
         [traffic.event(TRANSFERS) for _ in range(_EVENTS)]]
    )  # fmt: skip

    def lines(name: str, ours: Call, against: dict[str, Call]) -> Iterator[Line]:
        times = interleaved({"": ours, **against}, rounds=rounds, round_seconds=round_seconds)
        for other in against:
            yield Line("kernels", name, times[""].cpu, times[other].cpu, other)

    return [
        *lines(
            f"decode {TRANSFERS} transfers",
            lambda: decode_transfers(next(events).logs),
            {
                "eth_abi": lambda: _decode_with_eth_abi(next(events)),
                "forta_agent filter_log": lambda: rewritten.filter_log(TRANSFER_ABI),
            },
        ),
        Line(
            "kernels",
            f"features of {TRANSFERS} transfers",
            interleaved(
                {"": lambda: feature_row(*next(decoded), profile)},
                rounds=rounds,
                round_seconds=round_seconds,
            )[""].cpu,
        ),
        *lines(
            "score a row",
            lambda: model.score(next(each)[np.newaxis]),
            {"scikit-learn score_samples": lambda: rival.score(next(each))},
        ),
        *_attack_lines(model, profile, rounds=rounds, round_seconds=round_seconds),
        *lines(
            "explain a row",
            lambda: model.explain(next(each)),
            {
                "shap.TreeExplainer": lambda: tree_shap.shap_values(next(each)[np.newaxis]),
                f"LIME, {LIME_SAMPLES} samples": lambda: rival.explain(next(each)),
            },
        ),
    ]


def _attack_lines(
    forest: Model, profile: TokenProfile, *, rounds: int, round_seconds: float
) -> Iterator[Line]:
    """The attack score of one row, and its explanation, which only suspicious ones get."""
    attack = load_attack_model(DEFAULT_MODEL_PATH.with_name(ATTACK_MODEL_FILE), forest)
    table = feature_table(_batch(2000), profile)
    rows, scores = table[:, columns_of(attack.inputs)], np.array([0.5])
    each = cycle(rows)

    def cpu(call: Call) -> float:
        timed = interleaved({"": call}, rounds=rounds, round_seconds=round_seconds)
        return timed[""].cpu

    yield Line(
        "kernels",
        "attack score of a row",
        cpu(lambda: attack.scores(next(each)[np.newaxis], scores)),
        limit=ATTACK_SCORE_SECONDS,
    )
    yield Line("kernels", "explain an attack score", cpu(lambda: attack.explain(next(each))))


def _batch(n: int) -> TransferBatch:
    traffic = Traffic(2)
    sizes = [1 + i % 40 for i in range(n)]
    events = [traffic.event(size) for size in sizes]
    return TransferBatch.from_transactions(
        (decode_transfers(event.logs), event.from_) for event in events
    )


def _decode_with_eth_abi(event: Any) -> list[Any]:
    types = ["address", "address", "uint256"]
    return [
        decode(types, b"".join(bytes.fromhex(word[2:]) for word in (*log.topics[1:], log.data)))
        for log in event.logs
    ]
