"""Decisions of a batch: the same panel of detectors as in live handling, where it has to look."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.backtest import kernels
from src.backtest.assemble import TransactionBatch
from src.backtest.columns import hex_column, integers
from src.backtest.judge import Scores
from src.backtest.prefilter import Surroundings, candidates, look_alike_rows, owners
from src.detection.actions import Decision
from src.detection.assessment import Assessment
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence, LookAlike, TokenFact
from src.detection.model import Attribution, Model
from src.detection.panel import Panel
from src.detection.policy import Mode, Policy

EXPLAINED_INPUTS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """A transaction that detectors were asked about.

    Attributes:
        decision: theirs.
        explanation: of the score of an anomaly, the inputs that weigh most; else empty.
    """

    decision: Decision
    explanation: tuple[Attribution, ...] = ()


class Decider:
    """Decides about batches. Thread-safe.

    The counterparties that an account had are known within a batch: history before it is not seen,
    as after a restart of the bot.

    Args:
        model: the model; its features are the evidence's.
        policy: which detectors run.
        chain_id: on which chain.
        threshold: score from which a transaction is an anomaly.
        tokens: what is known of tokens, by address.
    """

    def __init__(
        self,
        model: Model,
        policy: Policy,
        chain_id: int,
        threshold: float,
        tokens: Mapping[str, TokenFact],
    ) -> None:
        self._model = model
        self._chain_id = chain_id
        self._threshold = threshold
        self._amounts = model.manifest.token_amounts
        self._tokens = tokens
        self._impersonators = frozenset(a for a, fact in tokens.items() if fact.impersonates)
        equipment = Equipment(threshold, self._amounts)
        self._panel = Panel.from_policy(policy, chain_id, equipment)
        self._running = {
            name: entry.parameters
            for name, entry in policy.for_chain(chain_id).items()
            if entry.mode is not Mode.OFF
        }
        self._alone = {
            name: Panel.from_policy(_only(policy, name, chain_id), chain_id, equipment)
            for name in self._running
        }

    def decide(self, batch: TransactionBatch, scores: Scores) -> dict[int, Judged]:
        """Decisions by position; what is not in there is allowed, by the detectors in shadow too.

        Anomalies by the threshold are always in there, for their explanation.
        """
        alike = look_alike_rows(batch) if "address_poisoning" in self._running else None
        look_alikes = {} if alike is None else _look_alikes(batch, alike)
        is_alike = np.zeros(len(batch), np.bool_)
        is_alike[list(look_alikes)] = True
        asked: dict[int, list[Panel]] = {
            position: [] for position in np.flatnonzero(scores.score >= self._threshold).tolist()
        }
        anomalies = frozenset(asked)
        for name, parameters in self._running.items():
            around = Surroundings(
                parameters, self._threshold, self._amounts, self._impersonators, is_alike
            )
            for position in np.flatnonzero(candidates(name, batch, scores, around)).tolist():
                asked.setdefault(position, []).append(self._alone[name])
        positions = np.array(sorted(asked), np.int64)
        judged = {}
        for position, facts in self.evidence(batch, scores, positions, look_alikes).items():
            # Most who are asked have nothing to say; only then do all give their reasons.
            if position in anomalies or any(_asks(p.decide(facts)) for p in asked[position]):
                judged[position] = Judged(self._panel.decide(facts))
        return self._explained(judged, anomalies, scores)

    def _explained(
        self, judged: dict[int, Judged], anomalies: frozenset[int], scores: Scores
    ) -> dict[int, Judged]:
        """Explanations added to the anomalies, one for all that have the same inputs."""
        known: dict[int, tuple[Attribution, ...]] = {}
        for position in anomalies:
            shape = int(scores.shape[position])
            if shape not in known:
                weights = self._model.explain(scores.features[position])
                known[shape] = tuple(weights[:EXPLAINED_INPUTS])
            judged[position] = replace(judged[position], explanation=known[shape])
        return judged

    def evidence(
        self,
        batch: TransactionBatch,
        scores: Scores,
        positions: NDArray[np.int64],
        look_alikes: Mapping[int, tuple[LookAlike, ...]],
    ) -> dict[int, Evidence]:
        """What detectors see of these transactions, by position; without explanations."""
        moved = transfers_of(batch, positions)
        senders = hex_column(batch.sender[positions], kernels.ADDRESS_BYTES).to_pylist()
        called = hex_column(batch.to[positions], kernels.ADDRESS_BYTES).to_pylist()
        found = {}
        for at, position in enumerate(positions.tolist()):
            has_sender = bool(batch.has_sender[position])
            row = scores.features[position]
            transfers = moved[position]
            known = {t.token: self._tokens[t.token] for t in transfers if t.token in self._tokens}
            found[position] = Evidence(
                transfers=transfers,
                sender=senders[at] if has_sender else None,
                to=called[at] if batch.has_to[position] else None,
                chain_id=self._chain_id,
                block_number=int(batch.block_number[position]),
                timestamp=_or_none(batch.timestamp[position]),
                nonce=_or_none(batch.nonce[position]),
                assessment=(
                    Assessment(
                        float(scores.score[position]),
                        float(scores.percentile[position]),
                        self._model.base_score,
                        (),
                    )
                    if has_sender
                    else None
                ),
                features=(
                    dict(zip(self._model.inputs, row.tolist(), strict=True)) if has_sender else {}
                ),
                tokens=known,
                look_alikes=look_alikes.get(position, ()),
            )
        return found


def _only(policy: Policy, name: str, chain_id: int) -> Policy:
    """The policy with one detector, as it runs on a chain."""
    return replace(policy, detectors={name: policy.for_chain(chain_id)[name]}, chains={})


def _asks(decision: Decision) -> bool:
    return bool(decision.action or any(verdict.action for verdict in decision.shadow))


class MovedTransfer(NamedTuple):
    """A transfer as detectors read it (`TransferLike`); cheaper to make than `Transfer`."""

    token: str
    sender: str
    recipient: str
    amount: int


def transfers_of(
    batch: TransactionBatch, positions: NDArray[np.int64]
) -> dict[int, list[MovedTransfer]]:
    """The transfers of some transactions as records, amounts exact, by position."""
    offsets = batch.transfers.offsets
    counts = np.diff(offsets)[positions]
    ends = np.cumsum(counts)
    rows = np.repeat(offsets[positions] - ends + counts, counts) + np.arange(counts.sum())
    records = _records(batch, rows)
    return {
        position: records[end - count : end]
        for position, count, end in zip(
            positions.tolist(), counts.tolist(), ends.tolist(), strict=True
        )
    }


def _records(batch: TransactionBatch, rows: NDArray[np.int64]) -> list[MovedTransfer]:
    transfers = batch.transfers
    account = np.concatenate([transfers.sender[rows], transfers.recipient[rows]])
    _, first, number = np.unique(account, return_index=True, return_inverse=True)
    words = np.concatenate([batch.payer[rows], batch.payee[rows]])[first]
    texts = hex_column(words, kernels.ADDRESS_BYTES).to_pylist()
    named = [texts[i] for i in number.tolist()]
    tokens = [transfers.token_addresses[i] for i in transfers.token[rows].tolist()]
    amounts = integers(batch.amount[rows])
    columns = zip(tokens, named[: len(rows)], named[len(rows) :], amounts, strict=True)
    return list(map(MovedTransfer._make, columns))


def _look_alikes(
    batch: TransactionBatch, marked: NDArray[np.bool_]
) -> dict[int, tuple[LookAlike, ...]]:
    """The look-alikes of each transaction that has some; only marked transfers can be in one."""
    rows = np.flatnonzero(marked)
    entered: dict[int, list[MovedTransfer]] = {}
    for position, record in zip(owners(batch)[rows].tolist(), _records(batch, rows), strict=True):
        entered.setdefault(position, []).append(record)
    positions = np.array(list(entered), np.int64)
    senders = hex_column(batch.sender[positions], kernels.ADDRESS_BYTES).to_pylist()
    book = CounterpartyBook(4 * len(rows) + 2)  # forgets nothing
    found = {}
    for sender, (position, transfers) in zip(senders, entered.items(), strict=True):
        pairs = book.enter(transfers, sender if batch.has_sender[position] else None)
        if pairs:
            found[position] = pairs
    return found


def _or_none(number: np.int64) -> int | None:
    return int(number) if number >= 0 else None
