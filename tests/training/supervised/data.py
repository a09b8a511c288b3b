"""Rows like those of cards, some of them fraud, and training from them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from src.detection.bundle_files import manifest_path
from src.training.supervised import __main__ as fraud

INPUTS = ("Time", "V1", "V2", "Amount")

QUICK = ("--trees", "10", "--folds", "3", "--created-at", "1700000000")


def labelled(n: int = 400, fraud_share: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """Card-like rows; fraud differs in V1 and Amount."""
    random = np.random.default_rng(seed)
    is_fraud = random.random(n) < fraud_share
    return pd.DataFrame(
        {
            "Time": random.integers(0, 172_800, n),
            "V1": random.normal(0, 1, n) - 3 * is_fraud,
            "V2": random.normal(0, 1, n),
            "Amount": np.exp(random.normal(3, 1, n) + is_fraud),
            "Class": is_fraud.astype(int),
        }
    )


def run(table: pd.DataFrame, folder: Path, *arguments: str, name: str = "data.csv") -> Path:
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / name, index=False)
    out = folder / "out"
    options = ["--data", str(folder / name), "--label", "Class", "--out", str(out)]
    assert fraud.main([*options, *QUICK, *arguments]) == 0
    return out


def a_row(**changes: object) -> dict[str, object]:
    return {"Time": 100, "V1": -3.2, "V2": 0.1, "Amount": 149.62, **changes}


def vouch_for(path: Path, content: bytes, **changes: object) -> None:
    """Replace the model file, and let the manifest vouch for the new one."""
    path.write_bytes(content)
    manifest = json.loads(manifest_path(path).read_text())
    manifest |= {"sha256": hashlib.sha256(content).hexdigest(), **changes}
    manifest_path(path).write_text(json.dumps(manifest))
