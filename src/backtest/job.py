"""Processes one slice of a backtest, from parquet to decisions on disk; used by all engines."""

import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.backtest.output.output import ALERTS, DECISIONS, UNKNOWN_DAY, Output, Part
from src.backtest.output.rows import SliceRows, alert_table, decision_rows
from src.backtest.output.summary import TOP
from src.backtest.scoring.decisions import BatchDecider
from src.backtest.scoring.scoring import Scorer
from src.backtest.scoring.transactions import batch_of
from src.chain.names.book import open_address_book
from src.datasets.store import StoredSlice, read_slice, slice_name
from src.datasets.tokens import token_facts
from src.decision.second_opinion import open_attack_model
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.policy import parse_policy
from src.detection.records import Action

HISTOGRAM_BINS = 100

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Job:
    """Processes slices. Can be pickled and sent to other machines with the same folders."""

    store: Path  # the history store
    out: Path  # the folder of the run
    model_path: Path  # the model file
    # The attack model; None for the one beside the model, where there is one.
    attack_model_path: Path | None
    policy_text: str  # the policy, as in its file
    policy_name: str  # of that file, for errors
    chain_id: int  # the chain
    threshold: float  # score from which a transaction is an anomaly
    exploits: frozenset[str]  # hashes of known exploits
    address_book: Path | None  # the operator's own names of addresses, or None
    # first, last: blocks outside are ignored.
    first: int
    last: int
    with_features: bool  # whether to write the model's inputs with each decision
    public_key: str | None  # the model must be signed with its private key; None to skip this check

    def blocks(self, part: StoredSlice) -> tuple[int, int]:
        """Those of a slice that count, first and last."""
        return max(part.first, self.first), min(part.last, self.last)

    def name(self, part: StoredSlice) -> str:
        """Of the files of a slice."""
        return slice_name(*self.blocks(part))

    def run(self, part: StoredSlice) -> dict[str, Any]:
        """Process one slice; its files and journal entry are synced to disk when this returns.

        Raises:
            TableError: the data is unusable.
            OSError: the disk failed.
        """
        started = time.thread_time()
        scorer, decider = _judges(self)
        first, last = self.blocks(part)
        is_cut = (first, last) != (part.first, part.last)
        path = self.store / f"{part.name}.parquet"
        batch = batch_of(read_slice(path, first, last) if is_cut else read_slice(path))
        scores = scorer.score(batch)
        judged = decider.decide(batch, scores)
        rows = decision_rows(batch, scores, judged, self.threshold)
        parts = []
        day = batch.timestamp // _SECONDS_PER_DAY
        names = scorer.model.inputs if self.with_features else ()
        table = rows.table(names)
        alerts = alert_table(table, rows, judged)
        alert_day = day[rows.alerts]
        for number in _days(day):
            name = _day_name(number)
            inside = day == number
            whole = table if inside.all() else table.filter(inside)
            parts.append(Part(DECISIONS, name, whole))
            if (alert_day == number).any():
                parts.append(Part(ALERTS, name, alerts.filter(alert_day == number)))
        entry = {
            **self._summary(rows, day),
            "first_block": first,
            "last_block": last,
            "transfers": len(batch.amount),
            "orphans": part.orphans,
            "cpu_seconds": round(time.thread_time() - started, 3),
        }
        Output(self.out).write_slice(self.name(part), parts, entry)
        return entry

    def judge(self, table: pa.Table) -> list[dict[str, Any]]:
        """Decisions on transactions of the store's form, for the report; writes nothing."""
        scorer, decider = _judges(self)
        batch = batch_of(table)
        scores = scorer.score(batch)
        rows = decision_rows(batch, scores, decider.decide(batch, scores), self.threshold)
        return [rows.facts(position) for position in range(len(batch))]

    def prepare(self) -> None:
        """Load the model, the policy and the token metadata, once per process."""
        _judges(self)

    def _summary(self, rows: SliceRows, day: NDArray[np.int64]) -> dict[str, Any]:
        """The values of a slice for the report."""
        detectors: Counter[str] = Counter()
        shadow: Counter[str] = Counter()
        for judged in rows.judged.values():
            detectors.update(v.detector for v in judged.decision.reasons if v.action)
            shadow.update(v.detector for v in judged.decision.shadow if v.action)
        score = rows.scores.score
        scored = score[~np.isnan(score)]
        histogram = np.histogram(scored, HISTOGRAM_BINS, (0, 1))[0]
        days = {}
        for number in _days(day):
            inside = day == number
            days[_day_name(number)] = {
                "transactions": int(inside.sum()),
                "anomalies": int(rows.anomaly[inside].sum()),
                **{
                    action.name.lower(): int((rows.action[inside] == action).sum())
                    for action in Action
                },
            }
        best = np.flatnonzero(score >= self.threshold)
        best = best[np.lexsort((best, -score[best]))][:TOP]
        return {
            "transactions": len(score),
            "without_sender": len(score) - len(scored),
            "days": days,
            "detectors": dict(sorted(detectors.items())),
            "shadow": dict(sorted(shadow.items())),
            "histogram": histogram.tolist(),
            "top": [rows.facts(position) for position in best.tolist()],
            "exploits": self._exploits(rows),
        }

    def _exploits(self, rows: SliceRows) -> list[dict[str, Any]]:
        if not self.exploits:
            return []
        known = pc.is_in(rows.tx_hash, _hash_set(self.exploits)).to_numpy(zero_copy_only=False)
        return [rows.facts(position) for position in np.flatnonzero(known).tolist()]


@lru_cache(maxsize=1)
def _judges(job: Job) -> tuple[Scorer, BatchDecider]:
    """Loaded once per process."""
    model = load_model(job.model_path, available_inputs=FEATURE_NAMES, public_key=job.public_key)
    attack = open_attack_model(job.attack_model_path, job.model_path, model, job.public_key)
    policy = parse_policy(job.policy_text, job.policy_name)
    facts = token_facts(job.store, job.chain_id)
    names = open_address_book(job.chain_id, job.address_book)
    names.close()  # so that they stay the same throughout the run
    decider = BatchDecider(model, policy, job.chain_id, job.threshold, facts, attack, names)
    return Scorer(model, attack.model), decider


@lru_cache(maxsize=1)
def _hash_set(hashes: frozenset[str]) -> Any:
    return pa.array(sorted(hashes), pa.large_string())


def _days(day: NDArray[np.int64]) -> list[int]:
    """The distinct ones, in order; nearly always one or two in long runs."""
    begins = np.flatnonzero(np.diff(day, prepend=day[:1] - 1))
    return sorted(set(day[begins].tolist()))


def _day_name(number: int) -> str:
    if number < 0:
        return UNKNOWN_DAY
    return str(np.datetime64(number, "D"))
