"""What the findings of the soak run must say, worked out a second time and in another way.

In a process of its own, so that neither its work nor its memory counts as the bot's, and so that
none of the bot's caches can help: it makes the same transactions from the same seed, reads their
logs with eth_abi, computes the features with exact integers (`tests.support.reference_features`, of
the transfers as logged and of `reference_view`) and has scikit-learn score them.
"""

import math
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Full
from typing import Any

from benchmarks.hostile import HostileTraffic
from benchmarks.recorded import recorded_transactions
from benchmarks.sources import FIRST_TRANSACTION
from benchmarks.traffic import WELL_KNOWN
from src.decision.tokens import MAX_SHOWN_TOKENS
from src.settings import DEFAULT_MODEL_PATH
from src.utils.constants import (
    ANOMALOUS_ALERT_ID,
    INVALID_ALERT_ID,
    NORMAL_ALERT_ID,
)

PRIMARY = frozenset({NORMAL_ALERT_ID, ANOMALOUS_ALERT_ID, INVALID_ALERT_ID})

AGE = "account_active_period_in_minutes"
_SYMBOLS = dict(zip(WELL_KNOWN, (("USDC", 6), ("WETH", 18), ("DAI", 18), ("USDT", 6)), strict=True))
COMPARED = frozenset(
    {"prediction", "anomaly_score", "transfer_counts", "tokens_type_counts", AGE}
    | {f"{symbol}_value" for symbol, _ in _SYMBOLS.values()}
)
"""The metadata that is held against the oracle."""

_ZERO = "0x" + "0" * 40
_ROWS = 512  # that scikit-learn scores at once: one at a time costs it milliseconds
_SCORE_TOLERANCE = 0.5001e-3  # findings round to three decimals
_BATCH = 256
_QUEUED_BATCHES = 64
_MAX_EXAMPLES = 10
_WAIT_SECONDS = 5.0
_FINISH_SECONDS = 600.0

ShownFinding = tuple[str, Mapping[str, str]]
"""A finding: its alert id and, of its metadata, what is compared."""


@dataclass(slots=True)
class Verdict:
    """What the oracle has found.

    Attributes:
        checked: transactions compared.
        scored: of them, those whose score scikit-learn has computed.
        wrong: those with something that is not true.
        examples: the first of these, in words.
        kinds: how many transactions had which alert id of the model.
    """

    checked: int = 0
    scored: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


class Oracle:
    """Checks one transaction's findings after the other, in the order in which they were fed.

    Args:
        traffic: makes the transactions that the bot was fed with.
        model_path: the bot's model, which scikit-learn unpickles here.
    """

    def __init__(self, traffic: HostileTraffic, model_path: Path = DEFAULT_MODEL_PATH) -> None:
        import dill  # noqa: PLC0415 - only the oracle's process needs it

        from src.detection.forest.manifest import read_manifest  # noqa: PLC0415

        manifest = read_manifest(model_path)
        self._traffic = traffic
        self._forest = dill.loads(model_path.read_bytes())
        self._inputs = manifest.inputs
        self._threshold = manifest.anomaly_threshold
        self._profile = {
            token: (known.center, known.scale) for token, known in manifest.token_amounts.items()
        }
        self._eth = manifest.reference_values.eth_per_unit
        self._rows: list[list[float]] = []
        self._shown: list[tuple[int, str, str]] = []
        self.verdict = Verdict()

    def check(self, findings: Sequence[ShownFinding] | None) -> None:
        """Compare the findings on the next transaction; None where it was lost."""
        event = self._traffic.transaction().event
        number = self.verdict.checked
        self.verdict.checked += 1
        primary = [finding for finding in findings or () if finding[0] in PRIMARY]
        if len(primary) != 1:  # counted as lost, or rightly without a finding
            return
        alert_id, metadata = primary[0]
        self.verdict.kinds[alert_id] += 1
        transfers = [transfer for log in event["logs"] if (transfer := _decoded(log)) is not None]
        problem = next(_problems(alert_id, metadata, event, transfers), None)
        if problem is not None:
            self._note(number, problem)
        elif alert_id != INVALID_ALERT_ID:
            self._score(number, alert_id, metadata, transfers, event["transaction"]["from"])

    def finish(self) -> Verdict:
        """Check what is left."""
        self._compare_scores()
        return self.verdict

    def _score(
        self,
        number: int,
        alert_id: str,
        metadata: Mapping[str, str],
        transfers: Sequence[tuple[str, str, str, int]],
        sender: str,
    ) -> None:
        from tests.support.reference_features import reference_features  # noqa: PLC0415
        from tests.support.reference_view import reference_view  # noqa: PLC0415

        logged, view = (
            reference_features(seen, sender, _ZERO, self._profile, self._eth)
            for seen in (transfers, reference_view(transfers, sender, _ZERO, self._eth))
        )
        self._rows.append([max(logged[name], view[name]) for name in self._inputs])
        self._shown.append((number, alert_id, metadata["anomaly_score"]))
        if len(self._rows) == _ROWS:
            self._compare_scores()

    def _compare_scores(self) -> None:
        import numpy as np  # noqa: PLC0415

        if not self._rows:
            return
        scores = -self._forest.score_samples(np.array(self._rows, dtype=np.float32))
        for (number, alert_id, shown), score in zip(self._shown, scores.tolist(), strict=True):
            wanted = ANOMALOUS_ALERT_ID if score >= self._threshold else NORMAL_ALERT_ID
            if not abs(float(shown) - score) <= _SCORE_TOLERANCE:
                self._note(number, f"score {shown}, scikit-learn says {score:.6f}")
            elif alert_id != wanted:
                self._note(number, f"{alert_id} at a score of {score:.6f}")
        self.verdict.scored += len(self._rows)
        self._rows.clear()
        self._shown.clear()

    def _note(self, number: int, problem: str) -> None:
        self.verdict.wrong += 1
        if len(self.verdict.examples) < _MAX_EXAMPLES:
            self.verdict.examples.append(f"transaction {number}: {problem}")


def _problems(
    alert_id: str,
    metadata: Mapping[str, str],
    event: Mapping[str, Any],
    transfers: Sequence[tuple[str, str, str, int]],
) -> Iterator[str]:
    """What is not true in a finding, its score apart."""
    tokens = {transfer[0] for transfer in transfers}
    for name, wanted in (("transfer_counts", len(transfers)), ("tokens_type_counts", len(tokens))):
        if metadata.get(name) != str(wanted):
            yield f"{name} {metadata.get(name)}, not {wanted}"
    age = (int(event["block"]["timestamp"], 16) - FIRST_TRANSACTION) / 60
    shown = metadata.get(AGE, "")
    if shown != "unknown" and not math.isclose(float(shown or "nan"), age):
        yield f"age {shown}, not {age}"
    is_impossible = shown != "unknown" and age < 0
    if is_impossible != (alert_id == INVALID_ALERT_ID):
        yield f"{alert_id} at an age of {shown}"
    if not is_impossible and metadata.get("prediction") != (
        "ANOMALY" if alert_id == ANOMALOUS_ALERT_ID else "NORMAL"
    ):
        yield f"{alert_id} with the prediction {metadata.get('prediction')}"
    if len(tokens) <= MAX_SHOWN_TOKENS:
        yield from _wrong_amounts(metadata, transfers)


def _wrong_amounts(
    metadata: Mapping[str, str], transfers: Sequence[tuple[str, str, str, int]]
) -> Iterator[str]:
    totals: dict[str, int] = defaultdict(int)
    for token, _, _, amount in transfers:
        totals[token] += amount
    for token, (symbol, decimals) in _SYMBOLS.items():
        shown = metadata.get(f"{symbol}_value")
        if token in totals:
            wanted = float(Fraction(totals[token], 10**decimals))
            if shown is None or float(shown) != wanted:
                yield f"{symbol}_value {shown}, not {wanted!r}"
        elif shown is not None:
            yield f"{symbol}_value {shown} without such a transfer"


def _decoded(log: Mapping[str, Any]) -> tuple[str, str, str, int] | None:
    from fuzz.oracles import decoded_transfer  # noqa: PLC0415

    return decoded_transfer(log.get("address"), log.get("topics"), log.get("data"))


class OracleProcess:
    """The oracle in a process of its own, which takes the findings in batches."""

    def __init__(self, process: BaseProcess, queue: Any, answer: Connection) -> None:
        self._process = process
        self._queue = queue
        self._answer = answer
        self._batch: list[Sequence[ShownFinding] | None] = []

    def tell(self, findings: Iterable[ShownFinding] | None) -> None:
        """Pass on the findings on the next transaction; None where it was lost.

        Raises:
            RuntimeError: the oracle has ended.
        """
        self._batch.append(None if findings is None else list(findings))
        if len(self._batch) >= _BATCH:
            self._send(self._batch)
            self._batch = []

    def verdict(self) -> Verdict:
        """Wait until everything has been checked."""
        self._send(self._batch)
        self._send(None)
        if not self._answer.poll(_FINISH_SECONDS):
            raise RuntimeError("the oracle does not answer")
        verdict = self._answer.recv()
        if not isinstance(verdict, Verdict):
            raise RuntimeError(f"the oracle failed: {verdict}")
        return verdict

    def _send(self, batch: object) -> None:
        while True:
            try:
                self._queue.put(batch, timeout=_WAIT_SECONDS)
            except Full:
                if not self._process.is_alive():
                    raise RuntimeError("the oracle has ended") from None
            else:
                return


@contextmanager
def oracle_process(seed: int, recording: Path) -> Iterator[OracleProcess]:
    """An oracle for the traffic of this seed and recording."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    queue: Any = context.Queue(_QUEUED_BATCHES)
    process = context.Process(target=_serve, args=(seed, recording, queue, sender), daemon=True)
    process.start()
    try:
        yield OracleProcess(process, queue, receiver)
    finally:
        process.terminate()
        process.join()
        queue.cancel_join_thread()
        queue.close()


def _serve(seed: int, recording: Path, queue: Any, answer: Connection) -> None:
    try:
        oracle = Oracle(HostileTraffic(seed, recorded_transactions(recording)))
        while (batch := queue.get()) is not None:
            for findings in batch:
                oracle.check(findings)
        answer.send(oracle.finish())
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")
        raise
