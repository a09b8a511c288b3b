"""Decisions on batches, with the detectors of live handling after a prefilter."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.backtest.kernels.columns import hex_texts, integers, numbered
from src.backtest.kernels.words import ADDRESS_BYTES
from src.backtest.scoring.prefilter import (
    BLIND_TO_TRANSFERS,
    INFORMATIONAL,
    Surroundings,
    candidates,
    look_alike_rows,
    owners,
)
from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import TransactionBatch
from src.chain.well_known import load_well_known_tokens
from src.decision.second_opinion import OpenedAttackModel, explained_from
from src.decision.tokens import shown_tokens
from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.attack.reputation import columns_of
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence, LookAlike, TokenFact
from src.detection.features.definitions import TokenProfile
from src.detection.features.view import view_of
from src.detection.forest.model import Model
from src.detection.policy import Mode, Policy
from src.detection.records import Assessment, AttackAssessment, Attribution, Decision, decide
from src.detection.suite import DetectorSuite

EXPLANATIONS_REMEMBERED = 10_000
"""About 1.5 kB each."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A transaction that was evaluated by detectors.

    Attributes:
        decision: of the detectors.
        explanation: for an anomaly, the inputs with the largest weights; else empty.
        attack_explanation: the same for an attack score that requests more than `ALLOW`.
    """

    decision: Decision
    explanation: tuple[Attribution, ...] = ()
    attack_explanation: tuple[Attribution, ...] = ()


class BatchDecider:
    """Decides on batches. Thread-safe.

    The earlier counterparties of an account are known within a batch only, as after a restart of
    the bot.

    Args:
        model: the model; its features are the evidence's.
        policy: which detectors run.
        chain_id: on which chain.
        threshold: score from which a transaction is an anomaly.
        tokens: token metadata by address.
        attack: the attack model, or why there is none.
    """

    def __init__(
        self,
        model: Model,
        policy: Policy,
        chain_id: int,
        threshold: float,
        tokens: Mapping[str, TokenFact],
        attack: OpenedAttackModel,
    ) -> None:
        self._model = model
        self._chain_id = chain_id
        self._threshold = threshold
        self._amounts = model.manifest.token_amounts_on(chain_id)
        self._profile = TokenProfile.from_manifest(model.manifest)
        self._tokens = tokens
        self._impersonators = frozenset(a for a, fact in tokens.items() if fact.impersonates)
        self._attack = attack.model
        self._explain_attack_from = explained_from(policy, chain_id, None)
        equipment = Equipment(
            threshold,
            self._amounts,
            no_attack_score=attack.problem,
            has_token_list=len(load_well_known_tokens(chain_id)) > 0,
        )
        self._suite = DetectorSuite.from_policy(policy, chain_id, equipment)
        self._columns = {name: column for column, name in enumerate(model.inputs)}
        self._assessed: dict[bytes, Assessment] = {}
        self._weighed: dict[bytes, tuple[Attribution, ...]] = {}
        self._explained: dict[bytes, tuple[Attribution, ...]] = {}
        self._running = {
            name: entry.parameters
            for name, entry in policy.for_chain(chain_id).items()
            if entry.mode is not Mode.OFF
        }
        self._alone = {
            name: DetectorSuite.from_policy(_only(policy, name, chain_id), chain_id, equipment)
            for name in self._running
        }

    def decide(self, batch: TransactionBatch, scores: Scores) -> dict[int, Judged]:
        """Decisions by position; missing transactions are `ALLOW`, also by detectors in shadow.

        Anomalies are always included, for their explanation.
        """
        alike = look_alike_rows(batch) if "address_poisoning" in self._running else None
        look_alikes = {} if alike is None else _look_alikes(batch, alike)
        is_alike = np.zeros(len(batch), np.bool_)
        is_alike[list(look_alikes)] = True
        anomalies = np.flatnonzero(scores.score >= self._threshold).tolist()
        asked: dict[int, list[str]] = {position: [] for position in anomalies}
        shown = np.zeros(len(batch), np.bool_)
        values = self._profile.values_of(batch.transfers)
        view = view_of(batch.transfers.arrays, values, batch.transfers.n_accounts)
        for name, parameters in self._running.items():
            around = Surroundings(
                parameters, self._threshold, self._amounts, self._impersonators, is_alike, values,
                view,
            )  # fmt: skip
            wanted = candidates(name, batch, scores, around)
            if name not in BLIND_TO_TRANSFERS:
                shown |= wanted
            for position in np.flatnonzero(wanted).tolist():
                asked.setdefault(position, []).append(name)
        positions = np.array(sorted(asked), np.int64)
        judged = {}
        facts = self.evidence(batch, scores, positions, look_alikes, shown[positions])
        is_anomaly = frozenset(anomalies)
        for position, names in asked.items():
            evidence = facts[position]
            if evidence.transfers:
                said = [self._alone[name].decide(evidence) for name in names]
                if position not in is_anomaly and not any(map(_asks, said)):
                    continue  # most verdicts are ALLOW
                more = [name for name in self._running if name in INFORMATIONAL - set(names)]
                said += [self._alone[name].decide(evidence) for name in more]
                decision = self._together(evidence, [*names, *more], said)
            else:
                decision = self._suite.decide(evidence)
            if position in is_anomaly or _asks(decision):
                judged[position] = Judged(
                    decision,
                    self._explanation(position, scores) if position in is_anomaly else (),
                    self._attack_explanation(position, scores),
                )
        return judged

    def _together(self, facts: Evidence, names: list[str], said: list[Decision]) -> Decision:
        """The combined decision, given some verdicts. The other detectors need no transfers."""
        if not self._suite.has_conditions(facts.sender, facts.to):
            facts = replace(facts, transfers=(), tokens={}, look_alikes=())
        others = self._suite.decide(facts)
        verdicts = [v for v in (*others.reasons, *others.shadow) if v.detector not in names]
        for decision in said:
            verdicts += (*decision.reasons, *decision.shadow)
        return decide(verdicts)

    def _explanation(self, position: int, scores: Scores) -> tuple[Attribution, ...]:
        """The inputs with the largest weights; the same object for equal rows."""
        row = scores.features[position]
        known = self._explained.get(content := row.tobytes())
        if known is None:
            weights = self._weights(row, scores.cell_names[scores.cell[position]])
            column, values = self._columns, row.tolist()
            known = tuple(
                [Attribution(name, values[column[name]], weight) for name, _, weight in weights]
            )
            if len(self._explained) >= EXPLANATIONS_REMEMBERED:
                self._explained = {}
            self._explained[content] = known
        return known

    def _attack_explanation(self, position: int, scores: Scores) -> tuple[Attribution, ...]:
        if self._attack is None or not scores.attack[position] >= self._explain_attack_from:
            return ()
        row = scores.all_features[position, columns_of(self._attack.inputs)]
        return tuple(self._attack.explain(row, EXPLAINED_INPUTS))

    def _attack_assessment(self, position: int, scores: Scores) -> AttackAssessment | None:
        if self._attack is None or np.isnan(scores.attack[position]):
            return None
        return AttackAssessment(float(scores.attack[position]), self._attack.version)

    def _weights(self, row: NDArray[np.float64], cell: bytes) -> tuple[Attribution, ...]:
        """The explanation of a row. All rows of a cell have the same weights."""
        known = self._weighed.get(cell)
        if known is None:
            known = tuple(self._model.explain(row, EXPLAINED_INPUTS))
            if len(self._weighed) >= EXPLANATIONS_REMEMBERED:
                self._weighed = {}
            self._weighed[cell] = known
        return known

    def _assessment(self, position: int, scores: Scores) -> Assessment:
        """Score and percentile, one object per cell, since detectors cache their verdicts by it."""
        name = scores.cell_names[scores.cell[position]]
        known = self._assessed.get(name)
        if known is None:
            score, percentile = float(scores.score[position]), float(scores.percentile[position])
            known = Assessment(score, percentile, self._model.base_score)
            if len(self._assessed) >= EXPLANATIONS_REMEMBERED:
                self._assessed = {}
            self._assessed[name] = known
        return known

    def evidence(
        self,
        batch: TransactionBatch,
        scores: Scores,
        positions: NDArray[np.int64],
        look_alikes: Mapping[int, tuple[LookAlike, ...]],
        shown: NDArray[np.bool_],
    ) -> dict[int, Evidence]:
        """The evidence for detectors on these transactions, by position; without explanations.

        Args:
            batch: the transactions.
            scores: of the transactions.
            positions: the selected ones.
            look_alikes: by position.
            shown: of each, whether its transfers are shown; the others look as if they had none,
                but for those that a scope's condition reads.
        """
        senders = hex_texts(batch.sender[positions], ADDRESS_BYTES)
        called = hex_texts(batch.to[positions], ADDRESS_BYTES)
        read = list(map(self._suite.has_conditions, senders, called))
        moved = transfers_of(batch, positions[shown | np.array(read, np.bool_)])
        found = {}
        for at, position in enumerate(positions.tolist()):
            has_sender = bool(batch.has_sender[position])
            row = scores.features[position]
            transfers = moved.get(position, ())
            tokens = [token for token in shown_tokens(transfers) if token in self._tokens]
            found[position] = Evidence(
                transfers=transfers,
                sender=senders[at] if has_sender else None,
                to=called[at] if batch.has_to[position] else None,
                chain_id=self._chain_id,
                block_number=int(batch.block_number[position]),
                timestamp=_or_none(batch.timestamp[position]),
                nonce=_or_none(batch.nonce[position]),
                assessment=self._assessment(position, scores) if has_sender else None,
                attack=self._attack_assessment(position, scores),
                features=(
                    dict(zip(self._model.inputs, row.tolist(), strict=True)) if has_sender else {}
                ),
                tokens={token: self._tokens[token] for token in tokens},
                values=self._profile.values,
                look_alikes=look_alikes.get(position, ()),
            )
        return found


def _only(policy: Policy, name: str, chain_id: int) -> Policy:
    """The policy with one detector, as it runs on a chain."""
    return replace(policy, detectors={name: policy.for_chain(chain_id)[name]}, chains={})


def _asks(decision: Decision) -> bool:
    return bool(decision.action or any(verdict.action for verdict in decision.shadow))


class MovedTransfer(NamedTuple):
    """A transfer as detectors read it (`TransferLike`)."""

    token: str
    sender: str
    recipient: str
    amount: int


# What `MovedTransfer._make` does, without a Python call for each.
_make_transfer = partial(tuple.__new__, MovedTransfer)


def transfers_of(
    batch: TransactionBatch, positions: NDArray[np.int64]
) -> dict[int, list[MovedTransfer]]:
    """The transfers of some transactions as records, amounts exact, by position."""
    offsets = batch.transfers.offsets
    counts = offsets[positions + 1] - offsets[positions]
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
    """The transfers in these rows; an account's address is one text, however often it occurs."""
    number, first = numbered(words := np.concatenate([batch.payer[rows], batch.payee[rows]]))
    texts = np.array(hex_texts(words[first], ADDRESS_BYTES), object)
    named = texts[number].tolist()
    addresses = np.array(batch.transfers.token_addresses, object)
    tokens = addresses[batch.transfers.token[rows]].tolist()
    amounts = integers(batch.amount[rows])
    columns = zip(tokens, named[: len(rows)], named[len(rows) :], amounts, strict=True)
    return list(map(_make_transfer, columns))


def _look_alikes(
    batch: TransactionBatch, marked: NDArray[np.bool_]
) -> dict[int, tuple[LookAlike, ...]]:
    """The look-alikes of each transaction that has some; only marked transfers can be in one."""
    rows = np.flatnonzero(marked)
    entered: dict[int, list[MovedTransfer]] = {}
    for position, record in zip(owners(batch, rows).tolist(), _records(batch, rows), strict=True):
        entered.setdefault(position, []).append(record)
    positions = np.array(list(entered), np.int64)
    senders = hex_texts(batch.sender[positions], ADDRESS_BYTES)
    book = CounterpartyBook(4 * len(rows) + 2)  # forgets nothing
    found = {}
    for sender, (position, transfers) in zip(senders, entered.items(), strict=True):
        pairs = book.enter(transfers, sender if batch.has_sender[position] else None)
        if pairs:
            found[position] = pairs
    return found


def _or_none(number: np.int64) -> int | None:
    return int(number) if number >= 0 else None
