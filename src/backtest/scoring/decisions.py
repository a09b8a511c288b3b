"""Decisions on batches, with the detectors of live handling after a prefilter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from src.backtest.scoring.money import Moved, moved_by
from src.backtest.scoring.prefilter import Considered, candidates, look_alike_rows, owners
from src.backtest.scoring.scoring import Scores
from src.backtest.scoring.transactions import TransactionBatch
from src.chain.names.book import AddressBook, published_routers
from src.chain.networks import network
from src.chain.well_known import load_well_known_tokens
from src.datasets.fixed_bytes import hex_column, integers
from src.decision.second_opinion import OpenedAttackModel, explained_from
from src.decision.tokens import shown_tokens
from src.detection.assessment import EXPLAINED_INPUTS
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence, LookAlike, TokenFact
from src.detection.features.definitions import TokenProfile, columns_of
from src.detection.forest.model import Model
from src.detection.policy import Mode, Policy
from src.detection.records import Assessment, AttackAssessment, Attribution, Decision
from src.detection.suite import DetectorSuite

EXPLANATIONS_REMEMBERED = 10_000
"""About 1.5 kB each."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A transaction that was evaluated by detectors."""

    decision: Decision  # of the detectors
    moved: Moved  # who gained and lost what
    # For an anomaly, the inputs with the largest weights; else empty.
    explanation: tuple[Attribution, ...] = ()
    # The same for an attack score that requests more than `ALLOW`.
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
        names: of addresses, for people.
    """

    def __init__(
        self,
        model: Model,
        policy: Policy,
        chain_id: int,
        threshold: float,
        tokens: Mapping[str, TokenFact],
        attack: OpenedAttackModel,
        names: AddressBook,
    ) -> None:
        self._model = model
        self._chain_id, self._chain = chain_id, network(chain_id)
        self._threshold = threshold
        self._amounts = model.manifest.token_amounts_on(chain_id)
        self._profile = TokenProfile.from_manifest(model.manifest)
        self._tokens = tokens
        self._names = names
        self._well_known = load_well_known_tokens(chain_id)
        self._impersonators = frozenset(a for a, fact in tokens.items() if fact.impersonates)
        self._attack = attack.model
        self._explain_attack_from = explained_from(policy, chain_id, None)
        equipment = Equipment(
            threshold,
            self._amounts,
            no_attack_score=attack.problem,
            has_reference_values=model.manifest.reference_values.has_chain(chain_id),
            has_token_list=len(self._well_known) > 0,
        )
        self._suite = DetectorSuite.from_policy(policy, chain_id, equipment)
        self._running = {
            name: entry.parameters
            for name, entry in policy.for_chain(chain_id).items()
            if entry.mode is not Mode.OFF
        }
        self._explain = lru_cache(EXPLANATIONS_REMEMBERED)(self._explained)

    def decide(self, batch: TransactionBatch, scores: Scores) -> dict[int, Judged]:
        """Decisions by position; missing transactions are `ALLOW`, also by detectors in shadow.

        Anomalies are always included, for their explanation.
        """
        look_alikes = _look_alikes(batch) if "address_poisoning" in self._running else {}
        is_alike = np.zeros(len(batch), np.bool_)
        is_alike[list(look_alikes)] = True
        seen = Considered(
            batch, scores, self._threshold, self._amounts, self._impersonators, is_alike
        )
        is_anomaly = scores.score >= self._threshold
        wanted = is_anomaly.copy()
        for name, parameters in self._running.items():
            wanted |= candidates(name, seen, parameters)
        judged = {}
        for position, evidence in self.evidence(batch, scores, wanted, look_alikes):
            decision = self._suite.decide(evidence, with_names=self._names.with_names)
            if is_anomaly[position] or _asks(decision):
                row = scores.features[position]
                judged[position] = Judged(
                    decision,
                    moved_by(evidence, decision, self._well_known, self._names.name_of),
                    self._explain(row.tobytes()) if is_anomaly[position] else (),
                    self._attack_explanation(position, scores),
                )
        return judged

    def _explained(self, row: bytes) -> tuple[Attribution, ...]:
        """The inputs with the largest weights; the same object for equal rows."""
        return tuple(self._model.explain(np.frombuffer(row), EXPLAINED_INPUTS))

    def _attack_explanation(self, position: int, scores: Scores) -> tuple[Attribution, ...]:
        if self._attack is None or not scores.attack[position] >= self._explain_attack_from:
            return ()
        row = scores.all_features[position, columns_of(self._attack.inputs)]
        return tuple(self._attack.explain(row, EXPLAINED_INPUTS))

    def evidence(
        self,
        batch: TransactionBatch,
        scores: Scores,
        wanted: NDArray[np.bool_],
        look_alikes: Mapping[int, tuple[LookAlike, ...]],
    ) -> Iterator[tuple[int, Evidence]]:
        """The evidence for detectors on these transactions, by position; without explanations."""
        positions = np.flatnonzero(wanted)
        chosen = pa.array(positions)
        senders, called = (
            hex_column(column.take(chosen)).to_pylist() for column in (batch.sender, batch.to)
        )
        offsets = batch.transfers.offsets
        rows = np.flatnonzero(np.repeat(wanted, np.diff(offsets)))
        moved = iter(_records(batch, rows))
        for position, sender, to in zip(positions.tolist(), senders, called, strict=True):
            transfers = list(islice(moved, int(offsets[position + 1] - offsets[position])))
            assessment, attack, features = None, None, {}
            if sender is not None:
                score, percentile = scores.score[position], scores.percentile[position]
                assessment = Assessment(float(score), float(percentile), self._model.base_score)
                features = dict(
                    zip(self._model.inputs, scores.features[position].tolist(), strict=True)
                )
                if self._attack is not None:
                    attack = AttackAssessment(float(scores.attack[position]), self._attack.version)
            tokens = [token for token in shown_tokens(transfers) if token in self._tokens]
            evidence = Evidence(
                transfers=transfers,
                sender=sender,
                to=to,
                chain_id=self._chain_id,
                block_number=int(batch.block_number[position]),
                timestamp=_or_none(batch.timestamp[position]),
                nonce=_or_none(batch.nonce[position]),
                assessment=assessment,
                attack=attack,
                features=features,
                tokens={token: self._tokens[token] for token in tokens},
                values=self._profile.values,
                look_alikes=look_alikes.get(position, ()),
                native_symbol=self._chain.native_symbol,
                wrapped_native=self._chain.wrapped_native,
                routers=published_routers(self._chain_id),
            )
            yield position, evidence


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


def _records(batch: TransactionBatch, rows: NDArray[np.int64]) -> list[MovedTransfer]:
    """The transfers in these rows; an account's address is one text, however often it occurs."""
    transfers = batch.transfers
    sides = np.append(transfers.sender[rows], transfers.recipient[rows])
    distinct, number = np.unique(sides, return_inverse=True)
    texts = np.array(hex_column(batch.accounts.take(pa.array(distinct))).to_pylist(), object)
    named = texts[number].tolist()
    addresses = np.array(transfers.token_addresses, object)
    tokens = addresses[transfers.token[rows]].tolist()
    amounts = integers(batch.amount.take(pa.array(rows)))
    columns = zip(tokens, named[: len(rows)], named[len(rows) :], amounts, strict=True)
    return list(map(_make_transfer, columns))


def _look_alikes(batch: TransactionBatch) -> dict[int, tuple[LookAlike, ...]]:
    """The look-alikes of each transaction that has some."""
    rows = look_alike_rows(batch)
    entered: dict[int, list[MovedTransfer]] = {}
    positions = owners(batch.transfers.offsets, rows).tolist()
    for position, record in zip(positions, _records(batch, rows), strict=True):
        entered.setdefault(position, []).append(record)
    senders = hex_column(batch.sender.take(pa.array(list(entered), pa.int64()))).to_pylist()
    book = CounterpartyBook(4 * len(rows) + 2)  # forgets nothing
    found = {}
    for sender, (position, transfers) in zip(senders, entered.items(), strict=True):
        pairs = book.enter(transfers, sender)
        if pairs:
            found[position] = pairs
    return found


def _or_none(number: np.int64) -> int | None:
    return int(number) if number >= 0 else None
