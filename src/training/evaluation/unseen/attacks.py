"""The attacks that are evaluated, each set by itself, and the folds that they are held out in."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.datasets.tables import TransactionSet
from src.training.attack.data import load_replays, with_beneficiaries
from src.training.evaluation.sets import attack_groups, clusters, load_exploits

OLDER = "older exploits, mainnet"
OLDER_BSC = "older exploits, BSC"
REPLAYS = "replays, mainnet"
REPLAYS_BSC = "replays, BSC"
REPLAYS_OTHER = "replays, other chains"
BENEFICIARY = ", sent by the beneficiary"
"""Ends the name of a set of replays whose sender is the account that gains most."""

_CHAINS = {"ethereum": REPLAYS, "bsc": REPLAYS_BSC}
_UNNAMED = ("", "nan", "none", "unknown")


@dataclass(frozen=True, slots=True)
class AttackSet:
    """Attacks that are judged together."""

    name: str
    data: TransactionSet
    # By attack, a number that is the same for equal transfer graphs in all sets.
    clusters: NDArray[np.int64]
    folds: NDArray[np.int64]  # by attack, the fold that it is held out in


def load_attack_sets(folder: Path, replays: Path | None, folds: int) -> tuple[AttackSet, ...]:
    """Read every set that is there.

    Attacks with the same transfer graph or of the same protocol are held out together.

    Raises:
        TableError: a file cannot be read.
    """
    named: dict[str, TransactionSet] = {}
    for name, chain in ((OLDER, "ethereum"), (OLDER_BSC, "bsc")):
        found = load_exploits(folder, chain)
        if found is not None:
            named[name] = found
    if replays is not None:
        replayed = load_replays(replays)
        belongs = replayed.table["chain"].map(_CHAINS).fillna(REPLAYS_OTHER).to_numpy(dtype=str)
        for name in (REPLAYS, REPLAYS_BSC, REPLAYS_OTHER):
            if (belongs == name).any():
                named[name] = replayed.where(belongs == name)
                named[name + BENEFICIARY] = with_beneficiaries(named[name])
    if not named:
        return ()
    numbers = clusters(*named.values())
    protocols = [
        name
        for data in named.values()
        for name in data.table["protocol"].map(protocol_name).tolist()
    ]
    held_out = _folds(numbers, protocols, folds)
    ends = np.cumsum([len(data) for data in named.values()])[:-1]
    parts = zip(named.items(), np.split(numbers, ends), np.split(held_out, ends), strict=True)
    return tuple(AttackSet(name, data, ours, where) for (name, data), ours, where in parts)


def protocol_name(text: object) -> str:
    """A protocol's name without what varies between lists; empty where it is not known."""
    name = re.sub(r"[^a-z0-9]", "", str(text).lower())
    name = re.sub(r"\d+$", "", name) or name
    name = re.sub(r"(finance|protocol|token|exp|dao|network|labs)$", "", name) or name
    return "" if name in _UNNAMED else name


def attack_classes(data: TransactionSet) -> list[frozenset[str]]:
    """What kind of attack each is, `area/kind`; several or none."""
    column = data.table.get("classes", pd.Series("", index=data.table.index))
    return [
        frozenset(part.strip().removeprefix("vuln/") for part in str(text).split("·"))
        - {"", "nan"}
        for text in column.tolist()
    ]  # fmt: skip


def _folds(numbers: NDArray[np.int64], protocols: Sequence[str], folds: int) -> NDArray[np.int64]:
    """The fold of each attack, by a digest of the graph of its group's first attack."""
    group = attack_groups(numbers, protocols)
    first = dict(zip(reversed(group.tolist()), reversed(numbers.tolist()), strict=True))
    digests = {
        one: hashlib.sha256(f"graph {graph}".encode()).digest()[:8] for one, graph in first.items()
    }
    return np.array([int.from_bytes(digests[one], "big") % folds for one in group.tolist()])
