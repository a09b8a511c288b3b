"""The checks that decide whether a challenger may replace the champion.

Both models score the same transactions, which the challenger was not fitted on, and differences are
bootstrapped on the same resamples, so that common errors cancel out. A challenger is worse if it is
worse beyond the interval's noise, or by more than a stated drop for any width of the interval.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from src.datasets.tables import TransactionSet
from src.detection.attack.model import AttackModel
from src.detection.attack.reputation import score_table
from src.detection.features.definitions import TokenProfile, columns_of, feature_table
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

Floats = NDArray[np.float64]

_CELLS = 20_000_000  # of one bootstrap's table of draws: 160 MB
_TIMED_ROWS = 20
_TIMED_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Tolerances of the gate."""

    # Share of ordinary transactions that may be flagged; recall is measured there.
    alert_budget: float = 0.004
    auc_drop: float = 0.02  # largest loss of AUC, even if the interval is too wide for a verdict
    recall_drop: float = 0.10  # the same for recall at the alert budget
    rate_band: float = 4.0  # the anomaly rate must be within this factor of the alert budget
    slowdown: float = 1.5  # largest factor on the time to score and explain
    background: int = 200  # minimum number of held-out transactions
    exploits: int = 10  # minimum number of known attacks


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result: `champion` and `challenger` are human-readable figures."""

    name: str
    passed: bool
    champion: str
    challenger: str
    why: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's scores of all sets, with its threshold."""

    model: Model
    scored: Scored
    recent: Floats
    benign: Floats
    golden: Floats
    attack: AttackModel | None
    second: Scored

    @classmethod
    def by(cls, model: Model, attack: AttackModel | None, data: RetrainingData) -> "Judged":
        """Score everything with a model and the attack model beside it."""
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
        """Anomaly scores at or above it are anomalies."""
        return self.model.manifest.anomaly_threshold

    @property
    def digests(self) -> list[str]:
        """Of the files of its models."""
        return [one.manifest.sha256 for one in (self.model, self.attack) if one is not None]

    def flagged(self, scores: Floats) -> int:
        """How many scores are anomalies."""
        return int((scores >= self.threshold).sum())


def judge(
    old: Judged,
    new: Judged,
    data: RetrainingData,
    tolerances: Tolerances | None = None,
    *,
    repetitions: int = 1000,
) -> list[Check]:
    """All checks of champion and challenger, in the order of the report.

    The challenger may be promoted if all pass.
    """
    allowed = tolerances or Tolerances()
    first = enough(
        "evaluation data",
        (len(data.held_out), allowed.background, "transactions"),
        (len(data.exploits), allowed.exploits, "attacks"),
    )
    if not first.passed:
        return [first]
    repetitions = max(100, min(repetitions, _CELLS // len(data.held_out)))
    return [
        first,
        *_detection(old, new, allowed, repetitions),
        _rate(
            "anomaly rate, held-out traffic",
            old.scored.background >= old.threshold,
            new.scored.background >= new.threshold,
            allowed,
        ),
        _rate(
            "anomaly rate, recent traffic",
            old.recent >= old.threshold,
            new.recent >= new.threshold,
            allowed,
        ),
        *_attack_checks(old, new, allowed, repetitions),
        _golden_cases(old, new, data),
        _shapes(old, new),
        _false_alarms(old, new),
        no_slower(
            "time to score and explain",
            [
                partial(_explain, side.model, _rows(side.model, data.held_out))
                for side in (old, new)
            ],
            allowed.slowdown,
        ),
    ]


def enough(what: str, *counts: tuple[int, int, str]) -> Check:
    """Whether there is enough to judge by: how many, how many are needed, of what; twice."""
    (many, least, unit), (few, fewest, rare) = counts
    return Check(
        f"enough {what}",
        many >= least and few >= fewest,
        f"{many:,} {unit}",
        f"{few} {rare}",
        f"at least {least} held-out {unit} and {fewest} {rare}",
    )


def _detection(old: Judged, new: Judged, allowed: Tolerances, repetitions: int) -> list[Check]:
    before, after = (Bootstrap(side.scored, repetitions=repetitions) for side in (old, new))
    return [
        *_discrimination("", (old.scored, before), (new.scored, after), allowed),
        no_worse(
            "recall at the model's own threshold",
            float(np.mean(old.scored.exploits >= old.threshold)),
            float(np.mean(new.scored.exploits >= new.threshold)),
            after.detected(after.by_cluster, new.threshold)
            - before.detected(before.by_cluster, old.threshold),
            allowed.recall_drop,
        ),
    ]


def _attack_checks(old: Judged, new: Judged, allowed: Tolerances, repetitions: int) -> list[Check]:
    """Of the attack scores, on attacks that the challenger's attack model was not trained on."""
    if old.attack is None and new.attack is None:
        return []
    if new.attack is None:
        why = "too few attacks to train one on and to judge it by"
        return [Check("attack model", False, "there", "missing", why)]
    before, after = (Bootstrap(side.second, repetitions=repetitions) for side in (old, new))
    least = 1 - allowed.alert_budget
    return [
        *_discrimination("attack score, ", (old.second, before), (new.second, after), allowed),
        _rate(
            "attack score, share of held-out traffic over the budget's score",
            None if old.attack is None else old.second.background >= least,
            new.second.background >= least,
            allowed,
        ),
    ]


def _discrimination(
    prefix: str,
    old: tuple[Scored, Bootstrap],
    new: tuple[Scored, Bootstrap],
    allowed: Tolerances,
) -> list[Check]:
    """AUC, and recall at the alert budget, of scores with their bootstraps."""
    (theirs, before), (ours, after), budget = old, new, allowed.alert_budget
    return [
        no_worse(
            f"{prefix}AUC",
            auc(theirs.background, theirs.exploits),
            auc(ours.background, ours.exploits),
            after.auc(after.by_cluster) - before.auc(before.by_cluster),
            allowed.auc_drop,
        ),
        no_worse(
            f"{prefix}recall at an alert budget of {budget:.2%}",
            recall_at(theirs, budget),
            recall_at(ours, budget),
            after.recall(after.by_cluster, budget) - before.recall(before.by_cluster, budget),
            allowed.recall_drop,
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


def another(champion: Sequence[str], challenger: Sequence[str]) -> Check:
    """Whether the challenger is another model, by the digests of both bundles' files.

    Promoting the same one again would leave a rollback nothing to return to.
    """
    is_same = champion == challenger
    return Check(
        "another model",
        not is_same,
        ", ".join(one[:12] for one in champion),
        ", ".join(one[:12] for one in challenger),
        "the same data gave the champion again" if is_same else "than the champion",
    )


def no_worse(name: str, old: float, new: float, differences: Floats, drop: float) -> Check:
    """Whether a figure is no worse: its paired differences reach 0, and it drops by little.

    Higher is better. `differences` are new less old, of each repetition of the bootstrap; `drop` is
    the largest loss, whatever the interval.
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


def no_slower(
    name: str, works: Sequence[Callable[[int], object]], factor: float, fast: float = 0.0
) -> Check:
    """Whether the challenger takes no longer: the best of several rounds.

    They are interleaved, so that other load affects both models alike.

    Args:
        name: of the check.
        works: the champion's work on the row of a number below `_TIMED_ROWS`, and the challenger's.
        factor: largest factor on the time ...
        fast: ... unless a row takes less than this, in seconds.
    """
    best = [np.inf, np.inf]
    for _ in range(_TIMED_ROUNDS):
        for side, work in enumerate(works):
            started = time.perf_counter()
            for row in range(_TIMED_ROWS):
                work(row)
            best[side] = min(best[side], (time.perf_counter() - started) / _TIMED_ROWS)
    return Check(
        name,
        best[1] <= max(factor * best[0], fast),
        f"{best[0] * 1e6:.0f} microseconds",
        f"{best[1] * 1e6:.0f} microseconds",
        f"at most {factor:g} times as long"
        + (f", or {fast * 1e6:.0f} microseconds" if fast else ""),
    )


def _rate(
    name: str, old: NDArray[np.bool_] | None, new: NDArray[np.bool_], allowed: Tolerances
) -> Check:
    """Whether the share of transactions that are flagged is near the alert budget."""
    low, high = share_interval(int(new.sum()), len(new))
    least, most = allowed.alert_budget / allowed.rate_band, allowed.alert_budget * allowed.rate_band
    return Check(
        name,
        high >= least and low <= most,
        "" if old is None else f"{old.mean():.3%}",
        f"{new.mean():.3%}",
        f"interval {low:.3%} to {high:.3%} of {len(new):,}; band {least:.3%} to {most:.3%}",
    )


def _golden_cases(old: Judged, new: Judged, data: RetrainingData) -> Check:
    cases = [] if data.golden_set is None else data.golden_set.table["tx_hash"].tolist()

    def wrong(side: Judged) -> list[str]:
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


def _shapes(old: Judged, new: Judged) -> Check:
    before, after = misjudged(old.model), misjudged(new.model)
    return Check(
        "golden shapes",
        not after,
        f"{len(before)} wrong",
        f"{len(after)} wrong",
        f"wrong: {', '.join(after)}" if after else "payment, swap, airdrop, drained pool",
    )


def _false_alarms(old: Judged, new: Judged) -> Check:
    before, after, many = old.flagged(old.benign), new.flagged(new.benign), len(new.benign)
    return Check(
        "false alarms that analysts reported",
        after <= before,
        f"{before} of {many} flagged",
        f"{after} of {many} flagged",
        "no more than before" if many else "none reported",
    )


def _explain(model: Model, rows: Floats, row: int) -> object:
    return model.score(rows[row][np.newaxis]), model.explain(rows[row])


def _rows(model: Model, data: TransactionSet) -> Floats:
    profile = TokenProfile.from_manifest(model.manifest)
    columns = columns_of(model.inputs)
    rows: Floats = feature_table(data.batch, profile)[:, columns]
    return rows


def _scores(model: Model, data: TransactionSet | None) -> Floats:
    return np.array([]) if data is None else model.score(_rows(model, data))
