"""Champion against challenger on the same data: `npm run compare`."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.datasets.tables import TransactionSet
from src.datasets.training_set import load_background
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import ANOMALY, Model, load_model
from src.files import write_file
from src.reports.markdown import plain, table
from src.settings import model_public_key
from src.training.evaluation.sets import load_benign_fixtures, load_exploits
from src.training.scoring import score_set

MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class Contender:
    """A model with the threshold at which it alerts."""

    model: Model
    threshold: float

    @classmethod
    def load(cls, path: Path) -> "Contender":
        """Load a bundle; its manifest states the threshold. Raises `ModelError`."""
        model = load_model(path, FEATURE_NAMES, public_key=model_public_key())
        return cls(model, model.manifest.anomaly_threshold)

    def table(self, data: TransactionSet) -> pd.DataFrame:
        """Scores and predictions, one row a transaction."""
        return score_set(self.model, data, threshold=self.threshold)


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    champion, challenger = Contender.load(options.champion), Contender.load(options.challenger)
    loaded = {
        "background": load_background(options.data),
        "exploits": load_exploits(options.data),
        "benign hard cases": load_benign_fixtures(options.data),
    }
    sets = {name: data for name, data in loaded.items() if data is not None}
    report = compare(champion, challenger, sets)
    content = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_file(options.out / "compare.json", content.encode())
    write_file(options.out / "compare.md", to_markdown(report).encode())
    for name, found in report["sets"].items():
        sys.stdout.write(
            f"{name}: {found['champion_alerts']} alerts of the champion, "
            f"{found['challenger_alerts']} of the challenger, {found['both']} of both, "
            f"of {found['transactions']:,}.\n"
        )
    sys.stdout.write(f"Read {options.out / 'compare.md'}.\n")
    return 0


def compare(
    champion: Contender, challenger: Contender, sets: dict[str, TransactionSet]
) -> dict[str, Any]:
    """The comparison as JSON values, one entry a set."""
    return {
        "champion": _identity(champion),
        "challenger": _identity(challenger),
        "sets": {name: _compare_set(champion, challenger, data) for name, data in sets.items()},
    }


def _identity(contender: Contender) -> dict[str, Any]:
    return {
        "version": contender.model.version,
        "threshold": contender.threshold,
        "sha256": contender.model.manifest.sha256,
    }


def _compare_set(
    champion: Contender, challenger: Contender, data: TransactionSet
) -> dict[str, Any]:
    one, other = champion.table(data), challenger.table(data)
    flagged_by_one = (one["prediction"] == ANOMALY).to_numpy()
    flagged_by_other = (other["prediction"] == ANOMALY).to_numpy()
    difference = other["anomaly_score"].to_numpy() - one["anomaly_score"].to_numpy()
    # Thresholds differ, so what matters is how far each is from its own.
    rows = pd.DataFrame(
        {
            "tx_hash": data.table["tx_hash"],
            "champion_score": one["anomaly_score"],
            "challenger_score": other["anomaly_score"],
            "champion_percentile": one["anomaly_percentile"],
            "challenger_percentile": other["anomaly_percentile"],
        }
    )
    for name in ("protocol", "date", "label"):
        if name in data.table.columns:
            rows[name] = data.table[name].astype(object).where(data.table[name].notna(), None)
    rows["gap"] = np.abs(difference)
    return {
        "transactions": len(data),
        "champion_alerts": int(flagged_by_one.sum()),
        "challenger_alerts": int(flagged_by_other.sum()),
        "both": int((flagged_by_one & flagged_by_other).sum()),
        "disagreements": int((flagged_by_one != flagged_by_other).sum()),
        "score_difference": {
            "median": float(np.median(difference)),
            "median_absolute": float(np.median(np.abs(difference))),
            "largest_absolute": float(np.abs(difference).max()),
        },
        "rank_correlation": _rank_correlation(rows),
        "new_alerts": _listed(rows[flagged_by_other & ~flagged_by_one]),
        "lost_alerts": _listed(rows[flagged_by_one & ~flagged_by_other]),
    }


def _rank_correlation(rows: pd.DataFrame) -> float | None:
    """Spearman's; None where a model gives one score to everything."""
    ranks = rows[["champion_score", "challenger_score"]].rank()
    if len(ranks) < 2 or (ranks.nunique() < 2).any():
        return None
    return float(np.corrcoef(ranks["champion_score"], ranks["challenger_score"])[0, 1])


def _listed(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Those about which the models differ most, in an order that depends on nothing else."""
    ordered = rows.sort_values(["gap", "tx_hash"], ascending=[False, True]).head(MAX_LISTED)
    return [
        {str(key): value for key, value in row.items() if key != "gap" and value is not None}
        for row in ordered.to_dict("records")
    ]


def to_markdown(report: dict[str, Any]) -> str:
    """The comparison for people."""
    one, other = report["champion"], report["challenger"]
    header = ["Set", "Transactions", "Alerts of the champion", "of the challenger", "of both"]
    header += ["New", "Lost", "Median difference of scores", "Largest", "Rank correlation"]
    rows, changes = [], []
    for name, found in report["sets"].items():
        n, difference, both = found["transactions"], found["score_difference"], found["both"]
        theirs, ours = found["champion_alerts"], found["challenger_alerts"]
        correlation = found["rank_correlation"]
        rows.append(
            [name, f"{n:,}", f"{theirs} ({theirs / n:.2%})", f"{ours} ({ours / n:.2%})", f"{both}",
             f"{ours - both}", f"{theirs - both}", f"{difference['median']:+.4f}",
             f"{difference['largest_absolute']:.4f}",
             "none" if correlation is None else f"{correlation:.4f}"]
        )  # fmt: skip
        changes += _changes(f"{name}: only the challenger alerts", found["new_alerts"])
        changes += _changes(f"{name}: only the champion alerts", found["lost_alerts"])
    parts = [
        "# Champion and challenger",
        f"Champion {one['version']} at threshold {one['threshold']:g}, challenger "
        f"{other['version']} at {other['threshold']:g}. Each model has seen its own training "
        "transactions, which flatters it there.",
        table(header, rows),
        *changes,
    ]
    return "\n\n".join(parts) + "\n"


def _changes(title: str, alerts: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"`{alert['tx_hash']}`",
            f"{alert['champion_score']:.3f}",
            f"{alert['challenger_score']:.3f}",
            plain(alert.get("protocol") or alert.get("label") or ""),
        ]
        for alert in alerts
    ]
    header = ["Transaction", "Champion", "Challenger", ""]
    return [f"## {title}", table(header, rows) if rows else "None."]
