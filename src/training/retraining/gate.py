"""The checks that decide whether a challenger may replace the champion.

Both models score the same transactions, which the challenger was not fitted on, and differences are
bootstrapped on the same resamples, so that common errors cancel out. A challenger is worse if it is
worse beyond the interval's noise, or by more than a stated drop for any width of the interval.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.datasets.tables import TransactionSet
from src.detection.attack.model import AttackModel
from src.detection.attack.reputation import score_table
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.forest.model import Model
from src.reports.intervals import share_interval
from src.training.evaluation.statistics import (
    Bootstrap,
    Scored,
    auc,
    interval,
    recall_at,
)
from src.training.retraining.data import RetrainingData
from src.training.retraining.golden_shapes import misjudged
from src.training.retraining.tolerances import Tolerances

Floats = NDArray[np.float64]

_CELLS = 20_000_000  # of one bootstrap's table of draws: 160 MB
_TIMED_ROWS = 20
_TIMED_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result: `champion` and `challenger` are human-readable figures."""

    name: str
    passed: bool
    champion: str
    challenger: str
    why: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """One model's scores of all sets, with its threshold."""

    model: Model
    scored: Scored
    recent: Floats
    benign: Floats
    golden: Floats
    attack: AttackModel | None
    second: Scored

    @classmethod
    def by(cls, model: Model, attack: AttackModel | None, data: RetrainingData) -> "_Judged":
        background = _scores(model, data.held_out)
        blocks = data.held_out.table["block_number"].to_numpy(dtype=np.int64)
        scored = Scored(background, blocks, _scores(model, data.exploits), data.exploit_clusters)
        return cls(
            model,
            scored,
            background[data.recent],
            _scores(model, data.reported_benign),
            _scores(model, data.golden_set),
            attack,
            _second_opinion(model, attack, data, scored),
        )

    @property
    def threshold(self) -> float:
        return self.model.manifest.anomaly_threshold

    def flagged(self, scores: Floats) -> int:
        return int((scores >= self.threshold).sum())


def judge(
    champion: Model,
    challenger: Model,
    data: RetrainingData,
    tolerances: Tolerances | None = None,
    *,
    champion_attack: AttackModel | None = None,
    challenger_attack: AttackModel | None = None,
    repetitions: int = 1000,
) -> list[Check]:
    """All checks, in the order of the report. The challenger may be promoted if all pass.

    The attack models are those beside the forests, if any.
    """
    allowed = tolerances or Tolerances()
    enough = _enough(data, allowed)
    if not enough.passed:
        return [enough]
    repetitions = max(100, min(repetitions, _CELLS // len(data.held_out)))
    old = _Judged.by(champion, champion_attack, data)
    new = _Judged.by(challenger, challenger_attack, data)
    return [
        enough,
        *_detection(old, new, allowed, repetitions),
        _anomaly_rate("anomaly rate, held-out traffic", old, new, "background", allowed),
        _anomaly_rate("anomaly rate, recent traffic", old, new, "recent", allowed),
        *_attack_checks(old, new, allowed, repetitions),
        _golden_cases(old, new, data),
        _shapes(old, new),
        _false_alarms(old, new),
        _speed(old.model, new.model, data.held_out, allowed),
    ]


def _enough(data: RetrainingData, allowed: Tolerances) -> Check:
    background, exploits = len(data.held_out), len(data.exploits)
    return Check(
        "enough evaluation data",
        background >= allowed.background and exploits >= allowed.exploits,
        f"{background:,} transactions",
        f"{exploits} attacks",
        f"at least {allowed.background} held-out transactions and {allowed.exploits} attacks",
    )


def _detection(old: _Judged, new: _Judged, allowed: Tolerances, repetitions: int) -> list[Check]:
    ours, theirs = (Bootstrap(side.scored, repetitions=repetitions) for side in (new, old))
    budget = allowed.alert_budget
    return [
        no_worse(
            "AUC",
            auc(old.scored.background, old.scored.exploits),
            auc(new.scored.background, new.scored.exploits),
            ours.auc(ours.by_cluster) - theirs.auc(theirs.by_cluster),
            allowed.auc_drop,
        ),
        no_worse(
            f"recall at an alert budget of {budget:.2%}",
            recall_at(old.scored, budget),
            recall_at(new.scored, budget),
            ours.recall(ours.by_cluster, budget) - theirs.recall(theirs.by_cluster, budget),
            allowed.recall_drop,
        ),
        no_worse(
            "recall at the model's own threshold",
            float(np.mean(old.scored.exploits >= old.threshold)),
            float(np.mean(new.scored.exploits >= new.threshold)),
            ours.detected(ours.by_cluster, new.threshold)
            - theirs.detected(theirs.by_cluster, old.threshold),
            allowed.recall_drop,
        ),
    ]


def _attack_checks(
    old: _Judged, new: _Judged, allowed: Tolerances, repetitions: int
) -> list[Check]:
    """Of the attack scores, on attacks that the challenger's attack model was not trained on."""
    if old.attack is None and new.attack is None:
        return []
    if new.attack is None:
        return [Check("attack model", False, "there", "missing", "too few attacks to train one on")]
    budget = allowed.alert_budget
    ours, theirs = (Bootstrap(side.second, repetitions=repetitions) for side in (new, old))
    flagged, many = int((new.second.background >= 1 - budget).sum()), len(new.second.background)
    low, high = share_interval(flagged, many)
    least, most = budget / allowed.rate_band, budget * allowed.rate_band
    return [
        no_worse(
            "attack score, AUC",
            auc(old.second.background, old.second.exploits),
            auc(new.second.background, new.second.exploits),
            ours.auc(ours.by_cluster) - theirs.auc(theirs.by_cluster),
            allowed.auc_drop,
        ),
        no_worse(
            f"attack score, recall at an alert budget of {budget:.2%}",
            recall_at(old.second, budget),
            recall_at(new.second, budget),
            ours.recall(ours.by_cluster, budget) - theirs.recall(theirs.by_cluster, budget),
            allowed.recall_drop,
        ),
        Check(
            "attack score, share of held-out traffic over the budget's score",
            high >= least and low <= most,
            "" if old.attack is None else f"{np.mean(old.second.background >= 1 - budget):.3%}",
            f"{flagged / many:.3%}",
            f"interval {low:.3%} to {high:.3%} of {many:,}; band {least:.3%} to {most:.3%}",
        ),
    ]


def _second_opinion(
    model: Model, attack: AttackModel | None, data: RetrainingData, scored: Scored
) -> Scored:
    """Attack scores of the background and of the attacks kept from training.

    Without an attack model the anomaly score stands in: what a challenger's has to beat.
    """
    kept = data.kept_attacks
    attacks = data.exploits.where(kept)
    groups = np.unique(data.exploit_clusters[kept], return_inverse=True)[1]
    if attack is None:
        return Scored(scored.background, scored.blocks, scored.exploits[kept], groups)
    background, exploits = (
        score_table(attack, model, some.batch).scores for some in (data.held_out, attacks)
    )
    return Scored(background, scored.blocks, exploits, groups)


def no_worse(name: str, old: float, new: float, differences: Floats, drop: float) -> Check:
    """Whether a figure is no worse: its paired differences reach 0, and it drops by little.

    Args:
        name: of the check.
        old: the champion's figure; higher is better.
        new: the challenger's.
        differences: new less old, of each repetition of the bootstrap.
        drop: largest loss, whatever the interval.
    """
    low, high = interval(differences)
    passed = high >= 0 and old - new <= drop
    verdict = "no worse" if passed else "worse"
    return Check(
        name,
        passed,
        f"{old:.4f}",
        f"{new:.4f}",
        f"{verdict}: difference {new - old:+.4f}, interval {low:+.4f} to {high:+.4f}, "
        f"largest drop allowed {drop:g}",
    )


def _anomaly_rate(name: str, old: _Judged, new: _Judged, which: str, allowed: Tolerances) -> Check:
    def scores(side: _Judged) -> Floats:
        return side.recent if which == "recent" else side.scored.background

    flagged, many = new.flagged(scores(new)), len(scores(new))
    low, high = share_interval(flagged, many)
    least, most = allowed.alert_budget / allowed.rate_band, allowed.alert_budget * allowed.rate_band
    return Check(
        name,
        high >= least and low <= most,
        f"{old.flagged(scores(old)) / many:.3%}",
        f"{flagged / many:.3%}",
        f"interval {low:.3%} to {high:.3%} of {many:,}; band {least:.3%} to {most:.3%}",
    )


def _golden_cases(old: _Judged, new: _Judged, data: RetrainingData) -> Check:
    cases = [] if data.golden_set is None else data.golden_set.table["tx_hash"].tolist()

    def wrong(side: _Judged) -> list[str]:
        return [
            tx_hash
            for tx_hash, score in zip(cases, side.golden, strict=True)
            if bool(score >= side.threshold) != data.golden[tx_hash]
        ]

    missing = sorted(set(data.golden) - set(cases))
    lost = wrong(new)
    why = "every case as expected" if cases else "the data sets contain none (golden_cases.csv)"
    if lost:
        why = f"wrong: {', '.join(lost[:5])}"
    elif missing:
        why = f"not in the data: {', '.join(missing[:5])}"
    return Check(
        "golden cases", not lost and not missing,
        f"{len(wrong(old))} of {len(cases)} wrong", f"{len(lost)} of {len(cases)} wrong", why,
    )  # fmt: skip


def _shapes(old: _Judged, new: _Judged) -> Check:
    before, after = misjudged(old.model), misjudged(new.model)
    return Check(
        "golden shapes",
        not after,
        f"{len(before)} wrong",
        f"{len(after)} wrong",
        f"wrong: {', '.join(after)}" if after else "payment, swap, airdrop, drained pool",
    )


def _false_alarms(old: _Judged, new: _Judged) -> Check:
    before, after, many = old.flagged(old.benign), new.flagged(new.benign), len(new.benign)
    return Check(
        "false alarms that analysts reported",
        after <= before,
        f"{before} of {many} flagged",
        f"{after} of {many} flagged",
        "no more than before" if many else "none reported",
    )


def _speed(champion: Model, challenger: Model, data: TransactionSet, allowed: Tolerances) -> Check:
    """Best of several interleaved rounds, so that other load affects both models alike."""
    best = {"champion": np.inf, "challenger": np.inf}
    rows = {
        "champion": (champion, _rows(champion, data)[:_TIMED_ROWS]),
        "challenger": (challenger, _rows(challenger, data)[:_TIMED_ROWS]),
    }
    for _ in range(_TIMED_ROUNDS):
        for name, (model, table) in rows.items():
            started = time.perf_counter()
            for row in table:
                model.score(row[np.newaxis])
                model.explain(row)
            best[name] = min(best[name], (time.perf_counter() - started) / len(table))
    return Check(
        "time to score and explain",
        best["challenger"] <= allowed.slowdown * best["champion"],
        f"{best['champion'] * 1e6:.0f} microseconds",
        f"{best['challenger'] * 1e6:.0f} microseconds",
        f"at most {allowed.slowdown:g} times as long",
    )


def _rows(model: Model, data: TransactionSet) -> Floats:
    profile = TokenProfile.from_manifest(model.manifest)
    columns = [FEATURE_NAMES.index(name) for name in model.inputs]
    rows: Floats = feature_table(data.batch, profile)[:, columns]
    return rows


def _scores(model: Model, data: TransactionSet | None) -> Floats:
    return np.array([]) if data is None else model.score(_rows(model, data))
