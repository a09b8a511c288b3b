"""Processes one slice of a backtest, from parquet to decisions on disk; used by all engines."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from src.backtest.output.output import ALERTS, DECISIONS, UNKNOWN_DAY, Output, Part
from src.backtest.output.rows import tables_of
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

    def run(self, part: StoredSlice) -> int:
        """Process one slice; returns the number of its transfers.

        Its files and journal entry are synced to disk then.

        Raises:
            TableError: the data is unusable.
            OSError: the disk failed.
        """
        first, last = self.blocks(part)
        is_cut = (first, last) != (part.first, part.last)
        path = self.store / f"{part.name}.parquet"
        table = read_slice(path, first, last) if is_cut else read_slice(path)
        decisions, alerts = self.judge(table)
        parts = [
            Part(name, day, rows)
            for name, written in ((DECISIONS, decisions), (ALERTS, alerts))
            for day, rows in _by_day(written)
        ]
        transfers = pc.sum(decisions["n_transfers"]).as_py() or 0
        entry = {
            "first_block": first, "last_block": last, "transfers": transfers,
            "orphans": part.orphans,
        }  # fmt: skip
        Output(self.out).write_slice(self.name(part), parts, entry)
        return int(transfers)

    def judge(self, table: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Decisions and alerts on transactions of the store's form."""
        scorer, decider = _judges(self)
        batch = batch_of(table)
        scores = scorer.score(batch)
        names = scorer.model.inputs if self.with_features else ()
        return tables_of(batch, scores, decider.decide(batch, scores), self.threshold, names)

    def prepare(self) -> None:
        """Load the model, the policy and the token metadata, once per process."""
        _judges(self)


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


def _by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each day, in order; nearly always of one or two."""
    day = table["block_timestamp"].fill_null(-1).to_numpy() // _SECONDS_PER_DAY
    for number in np.unique(day).tolist():
        name = UNKNOWN_DAY if number < 0 else str(np.datetime64(number, "D"))
        yield name, table.filter(pa.array(day == number))
