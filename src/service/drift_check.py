"""Periodically compares the newest stored traffic with the model's drift reference."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import Connection

from src.detection.features.batch import TransferBatch
from src.monitoring import metrics
from src.monitoring.drift.drift_report import as_json, publish
from src.monitoring.drift.inputs import sample_of_predictions
from src.monitoring.drift.levels import Levels
from src.monitoring.drift.sample import read_sample, sample_of
from src.monitoring.drift.verdict import Drift, Verdict, compare
from src.registry.drift_reference import parse_sample
from src.service.database.chain import newest_transfers
from src.service.database.engine import Database
from src.service.database.scheduled_tasks import claim_task, finish_task, last_outcome
from src.service.decider import Decider
from src.service.formatting import iso
from src.service.model_refresh import FraudInUse, FraudModel

logger = logging.getLogger(__name__)

CHORE: Final = "drift"
FRAUD_CHORE: Final = "fraud-drift"
LOOK_SECONDS: Final = 60.0
"""Interval at which a worker checks whether a drift check is due."""

_TRANSACTIONS: Final = 5_000


class FraudDriftCheck:
    """Compares the newest inputs of a process with the reference of its supervised model.

    Each worker checks its own: they are served in no order, and inputs, which may be of people,
    are kept in memory alone. The newest result of any worker is stored, for the pages.

    Args:
        database: holds the last outcome.
        fraud: the model in use.
        every_seconds: interval between checks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        fraud: FraudModel,
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._fraud = fraud
        self._every_seconds = every_seconds
        self._clock = clock
        self._due_at = -math.inf
        self._last: FraudInUse | None = None

    def check_if_due(self) -> Drift | None:
        """Check and publish the result; None if no check is due or possible yet.

        Too few predictions are waited for; a new model is checked as soon as it has enough.
        """
        in_use = self._fraud.in_use
        if in_use is not self._last:
            self._last, self._due_at = in_use, -math.inf
            metrics.fraud_drift_checked(-1, {})
        if in_use is None or in_use.reference is None or self._clock() < self._due_at:
            return None
        recent = list(in_use.recent)
        if len(recent) < Levels().least:
            return None
        self._due_at = self._clock() + self._every_seconds
        try:
            drift = self._compare(in_use, in_use.reference, recent)
        except ValueError as error:
            logger.warning("no drift check of the fraud model: %s", error)
            return None
        metrics.fraud_drift_checked(
            int(drift.verdict), {name: moved.psi for name, moved in drift.effects.items()}
        )
        with self._database.writing() as connection:
            claim_task(connection, FRAUD_CHORE, time.time(), 0.0)  # for any worker: only its row
            finish_task(connection, FRAUD_CHORE, time.time(), as_json(drift))
        _log("drift of the fraud model", drift)
        return drift

    @staticmethod
    def _compare(
        in_use: FraudInUse, reference: bytes, recent: list[tuple[float, tuple[float, ...]]]
    ) -> Drift:
        rows = np.array([values for _, values in recent], dtype=np.float64)
        times = np.array([at for at, _ in recent]).astype(np.int64)
        return compare(
            parse_sample(reference.decode()),
            sample_of_predictions(in_use.model, rows, times=times),
        )


class DriftCheck:
    """Checks for drift when a check is due, in one of the workers.

    Args:
        database: holds the traffic, when the next check is due, and the last outcome.
        decider: whose model is in use.
        chain_id: the chain.
        reference: file written by `npm run drift -- --save-reference`, for the model at the start;
            a bundle of the registry has its own.
        every_seconds: interval between checks.
    """

    def __init__(
        self,
        database: Database,
        decider: Decider,
        chain_id: int,
        reference: Path,
        every_seconds: float,
    ) -> None:
        self._database = database
        self._decider = decider
        self._chain_id = chain_id
        self._reference = reference
        self._every_seconds = every_seconds
        self._is_shown = False  # whether this process' metrics have an outcome
        metrics.drift_is_due_every(every_seconds)

    def check_if_due(self) -> Drift | None:
        """Check, store and publish the result; None if no check is due or possible."""
        name = f"{CHORE}-{self._chain_id}"
        with self._database.writing() as connection:
            if not claim_task(connection, name, time.time(), self._every_seconds):
                if not self._is_shown:
                    self._show_last(connection, name)
                return None
        try:
            drift = self._compare()
        except FileNotFoundError:
            logger.info(
                "no drift check: no reference at %s; create one with `npm run drift -- --reference "
                "data/training --save-reference %s`",
                self._reference,
                self._reference,
            )
            return None
        except (ValueError, OSError) as error:
            logger.warning("no drift check: %s", error)
            return None
        publish(as_json(drift))
        self._is_shown = True
        with self._database.writing() as connection:
            finish_task(connection, name, time.time(), as_json(drift))
        _log("drift", drift)
        return drift

    def _show_last(self, connection: Connection, name: str) -> None:
        """Publish what a process before this one, or another worker, found for this model."""
        finished_at, outcome = last_outcome(connection, name)
        if outcome is None or outcome.get("model_version") != self._decider.model.version:
            return
        publish(outcome, at=finished_at)
        self._is_shown = True

    def _compare(self) -> Drift:
        pipeline, own = self._decider.pipeline, self._decider.drift_reference
        model = pipeline.model
        if own is None and not self._reference.is_file():
            raise FileNotFoundError
        reference = (
            read_sample(self._reference, model, as_reference=True)
            if own is None
            else parse_sample(own.decode())
        )
        with self._database.reading() as connection:
            newest = newest_transfers(connection, self._chain_id, _TRANSACTIONS)
        if not newest:
            raise ValueError("no transactions are stored yet")
        batch = TransferBatch.from_transactions([(moved, sender) for moved, sender, _ in newest])
        times = sorted(at for *_, at in newest)
        sample = sample_of(model, batch, attack=pipeline.attack.model)
        return compare(reference, replace(sample, dates=(iso(times[0])[:10], iso(times[-1])[:10])))


def _log(what: str, drift: Drift) -> None:
    level = logging.INFO if drift.verdict is Verdict.OK else logging.WARNING
    logger.log(level, "%s: %s", what, "; ".join((drift.verdict.name.lower(), *drift.reasons)))
