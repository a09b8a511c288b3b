"""Decides on transactions before they are mined, by simulating them. Stores nothing.

What a transaction would do is not what it will do: see docs/screening.md.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from uuid import uuid4

from src.chain.clients.deadline import Deadline
from src.chain.errors import SourceError
from src.chain.names.book import AddressBook
from src.chain.simulation.answers import Header, SimulatedTransaction, Simulation
from src.chain.simulation.call import NonceGap, NotSimulated, SignedTransaction, UnsignedCall
from src.chain.simulation.raw import decode_raw
from src.chain.simulation.simulator import MAX_CALLS, Simulator
from src.detection.records import Action, Status
from src.service.database.screenings import NewScreening
from src.service.decider import Decider, Outcome, without_score
from src.service.node import approvals_of, decoded_logs
from src.service.records import LoadedTransaction

DEFAULT_SECONDS: Final = 5.0

_MAX_RECENT = 20_000
_MAX_RECENT_BYTES = 64 * 1024 * 1024
_PAUSES = (0.0, 0.05, 0.2, 0.5)
_ARRIVING_SECONDS = 0.1

ScreeningStatus = Literal["success", "reverts", "unknown"]


@dataclass(frozen=True, slots=True)
class Screened:
    """One transaction of a simulation."""

    # As if it were mined; without a block hash, and without a hash if unsigned.
    transaction: LoadedTransaction
    status: Literal["success", "reverts"]  # "reverts": what it does if it does not is unknown
    problem: str  # why it reverts, or ""
    outcome: Outcome  # the decision; for one that reverts, that on nothing


@dataclass(frozen=True, slots=True)
class Screening:
    """The decision on a transaction that is not mined, or on several in order."""

    decision_id: str  # a UUID, for logs and answers
    # The most drastic one of all transactions; `on_unknown` of the policy for what reverts, or is
    # unknown.
    action: Action
    status: ScreeningStatus  # "success" if all succeed; "unknown" if they could not be simulated
    reasons: tuple[str, ...]  # of the action, for people, with names; without scores
    sentence: str  # who would gain and lose what; "" if unknown
    block: int | None  # number of the block that they were simulated in; None if unknown
    problem: str  # why it is unknown, or why it reverts; "" otherwise
    tx_hash: str | None  # of the first, if it is a raw transaction
    sender: str | None  # of the first; None if it cannot be read
    transactions: tuple[Screened, ...] = ()  # one by one; none if unknown
    method: str = ""  # that the node was asked; "" if unknown

    def stored(self, chain_id: int, at: float, **more: Any) -> NewScreening:
        """In the form that is stored, made at a time in Unix seconds, with further columns."""
        return NewScreening(
            uuid=self.decision_id,
            chain_id=chain_id,
            tx_hash=self.tx_hash,
            from_address=self.sender,
            screened_at=at,
            block_number=self.block,
            status=self.status,
            action=int(self.action),
            reasons=list(self.reasons),
            summary=self.sentence,
            problem=self.problem,
            **more,
        )


class Screener:
    """Screens transactions with the service's decider. Thread-safe.

    Args:
        decider: decides on what they would do.
        simulator: of a node of the decider's chain.
        seconds: time limit of a simulation; look-ups have their own.
    """

    def __init__(
        self, decider: Decider, simulator: Simulator, *, seconds: float = DEFAULT_SECONDS
    ) -> None:
        self._decider = decider
        self._simulator = simulator
        self._seconds = seconds
        self._recent = _RecentTransactions()

    def screen(
        self,
        transactions: Sequence[bytes | SignedTransaction | UnsignedCall],
        before: Sequence[bytes] = (),
    ) -> Screening:
        """Screen transactions, each on the state that the one before leaves. Never raises.

        Args:
            transactions: raw signed ones as bytes, those that a node has checked as
                `SignedTransaction`, unsigned ones as calls.
            before: raw ones that are executed first, and not decided on; at most `MAX_CALLS`
                together.
        """
        read: list[SignedTransaction | UnsignedCall] = []
        try:
            if not transactions or len(before) + len(transactions) > MAX_CALLS:
                raise NotSimulated(f"a simulation has 1 to {MAX_CALLS} transactions")
            read.extend(map(_read, transactions))
            every = [*map(_read, before), *read]
            self._check_chain(every)
            is_new = any(isinstance(given, bytes) for given in transactions)
            simulation = self._simulate(every, patience=_ARRIVING_SECONDS if is_new else 0.0)
        except (NotSimulated, SourceError) as error:
            return self._unknown(read, str(error))
        return self._decided(read, simulation)

    def unknown(
        self, transactions: Sequence[bytes | SignedTransaction | UnsignedCall], problem: str
    ) -> Screening:
        """The decision on transactions that are not simulated, such as for lack of time."""
        read: list[SignedTransaction | UnsignedCall] = []
        with suppress(NotSimulated):
            read.extend(map(_read, transactions))
        return self._unknown(read, problem)

    def _check_chain(self, read: Sequence[SignedTransaction | UnsignedCall]) -> None:
        ours = self._decider.pipeline.chain_id
        for one in read:
            if isinstance(one, SignedTransaction) and one.chain_id not in (None, ours):
                raise NotSimulated(f"it was signed for chain {one.chain_id}, not for {ours}")

    def _simulate(
        self, read: Sequence[SignedTransaction | UnsignedCall], *, patience: float
    ) -> Simulation:
        """The simulation; these transactions are its last ones.

        If earlier transactions of a sender are missing that were screened lately, such as the
        deployment of the contract that this one calls, they are simulated first. What a client
        sends at once may arrive in another order, so they are waited for, `patience` seconds.
        """
        deadline = Deadline.after(self._seconds)
        calls = [_call_of(one) for one in read]
        for one in read:
            if isinstance(one, SignedTransaction):
                self._recent.enter(one.call)
        refusal = ""
        for pause in (*_PAUSES, None):
            try:
                return self._simulator.simulate(calls, deadline)
            except NonceGap as gap:
                wait = min(patience, deadline.remaining)
                before = self._recent.between(gap.sender, gap.expected, gap.given, wait)
                if not before:
                    raise
                if pause is None:
                    raise NotSimulated(f"{gap}; behind them, {refusal}") from None
            # They may have been mined meanwhile. Then a node, or the nodes behind one URL, may have
            # executed them already and still count without them, for a moment.
            try:
                return self._simulator.simulate([*before, *calls], deadline)
            except NotSimulated as error:
                refusal = str(error)
            time.sleep(min(pause, max(0.0, deadline.remaining)))
        raise AssertionError

    def _decided(
        self,
        read: Sequence[SignedTransaction | UnsignedCall],
        simulation: Simulation,
    ) -> Screening:
        simulated = simulation.transactions[-len(read) :]
        loaded = [
            _loaded(_hash_of(one), call, result, simulation.block, at)
            for at, (one, call, result) in enumerate(
                zip(read, simulation.calls[-len(read) :], simulated, strict=True)
            )
        ]
        screened = tuple(
            Screened(transaction, result.status, result.problem, outcome)
            for transaction, result, outcome in zip(
                loaded, simulated, self._decider.preview(loaded), strict=True
            )
        )
        reverting = [one for one in screened if one.status == "reverts"]
        action = max(Action(one.outcome.decision.action) for one in screened)
        if reverting:
            action = max(action, self._decider.pipeline.on_unknown)
        return Screening(
            decision_id=str(uuid4()),
            action=action,
            status="reverts" if reverting else "success",
            reasons=_reasons(screened, self._decider.pipeline.names),
            sentence=" ".join(
                one.outcome.decision.summary for one in screened if one.outcome.decision.summary
            ),
            block=simulation.block.number,
            problem=reverting[0].problem if reverting else "",
            tx_hash=_hash_of(read[0]),
            sender=_call_of(read[0]).sender,
            transactions=screened,
            method=simulation.method,
        )

    def _unknown(self, read: Sequence[SignedTransaction | UnsignedCall], problem: str) -> Screening:
        return Screening(
            decision_id=str(uuid4()),
            action=self._decider.pipeline.on_unknown,
            status="unknown",
            reasons=(f"what it would do is unknown: {problem}",),
            sentence="",
            block=None,
            problem=problem,
            tx_hash=_hash_of(read[0]) if read else None,
            sender=_call_of(read[0]).sender if read else None,
        )


class _RecentTransactions:
    """Signed transactions by sender and nonce, the latest ones. Thread-safe."""

    def __init__(self) -> None:
        # None where a nonce had two that do not do the same: either of them may be mined.
        self._calls: OrderedDict[tuple[str, int], UnsignedCall | None] = OrderedDict()
        self._bytes = 0
        self._entered = threading.Condition()

    def enter(self, call: UnsignedCall) -> None:
        if call.nonce is None:
            return
        with self._entered:
            earlier = self._calls.pop((call.sender, call.nonce), call)
            is_same = earlier is not None and _without_price(earlier) == _without_price(call)
            kept = self._calls[call.sender, call.nonce] = call if is_same else None
            self._bytes += _size(kept) - (0 if earlier is call else _size(earlier))
            while len(self._calls) > _MAX_RECENT or self._bytes > _MAX_RECENT_BYTES:
                self._bytes -= _size(self._calls.popitem(last=False)[1])
            self._entered.notify_all()

    def between(self, sender: str, first: int, end: int, seconds: float) -> list[UnsignedCall]:
        """The sender's transactions with these nonces; none if one is missing or in doubt.

        One that is missing is waited for, so many seconds.
        """
        if end - first >= MAX_CALLS:
            return []
        keys = [(sender, nonce) for nonce in range(first, end)]
        with self._entered:
            self._entered.wait_for(lambda: all(key in self._calls for key in keys), seconds)
            found = [call for key in keys if (call := self._calls.get(key)) is not None]
        return found if len(found) == len(keys) else []


def _size(call: UnsignedCall | None) -> int:
    """Bytes of memory, roughly."""
    if call is None:
        return 0
    entries = len(call.authorizations) + len(call.blob_versioned_hashes)
    entries += sum(1 + len(keys) for _, keys in call.access_list)
    return len(call.data) + 400 * entries


def _without_price(call: UnsignedCall) -> UnsignedCall:
    return replace(
        call,
        gas_price=None,
        max_fee_per_gas=None,
        max_priority_fee_per_gas=None,
        max_fee_per_blob_gas=None,
    )


def _loaded(
    tx_hash: str | None,
    call: UnsignedCall,
    simulated: SimulatedTransaction,
    block: Header,
    index: int,
) -> LoadedTransaction:
    decoded = decoded_logs(simulated.logs)
    native = decoded.native if simulated.native is None else simulated.native
    return LoadedTransaction(
        tx_hash=tx_hash or "",
        block_number=block.number,
        block_hash="",
        block_timestamp=block.timestamp,
        tx_index=index,
        sender=call.sender,
        to=call.to,
        nonce=call.nonce,
        gas_used=simulated.gas_used,
        gas_price=call.price_at(block.base_fee),
        transfers=tuple(decoded.transfers),
        native=tuple(native),
        value=call.value,
        approvals=approvals_of(simulated.logs),
        status=int(simulated.status == "success"),
    )


def _reasons(screened: Sequence[Screened], names: AddressBook) -> tuple[str, ...]:
    reasons = []
    for position, one in enumerate(screened, start=1):
        where = f"transaction {position}: " if len(screened) > 1 else ""
        if one.status == "reverts":
            reasons.append(f"{where}it would revert now: {names.with_names(one.problem)}")
        decision = one.outcome.decision
        reasons += [
            where + without_score(reason, decision)["reason"]
            for reason in decision.reasons
            if reason["reason"] and reason["status"] == Status.DECIDED
        ]
    return tuple(reasons)


def _read(given: bytes | SignedTransaction | UnsignedCall) -> SignedTransaction | UnsignedCall:
    return decode_raw(given) if isinstance(given, bytes) else given


def _call_of(read: SignedTransaction | UnsignedCall) -> UnsignedCall:
    return read.call if isinstance(read, SignedTransaction) else read


def _hash_of(read: SignedTransaction | UnsignedCall) -> str | None:
    return read.tx_hash if isinstance(read, SignedTransaction) else None
