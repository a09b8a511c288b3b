"""The gate: whether a call may pass. Screens what sends transactions, within a time limit."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from src.detection.records import Action
from src.monitoring import metrics, screening_metrics
from src.service.database.screenings import NewScreening
from src.service.guard import messages
from src.service.guard.decisions import Decisions, Outcome
from src.service.guard.messages import Call
from src.service.guard.methods import (
    MAX_TRANSACTIONS,
    SCREENED,
    AllowList,
    Unreadable,
    names_by_hash,
    signed_transactions,
)
from src.service.screening.screener import Screener, Screening

logger = logging.getLogger(__name__)

_THREADS: Final = 16
_MAX_WAITING: Final = 512
_MAX_REASONS: Final = 10
_BY_HASH: Final = "it names a transaction by its hash, so that it cannot be simulated"


@dataclass(frozen=True, slots=True)
class Rules:
    """How the guard behaves."""

    enforce: bool  # whether it refuses; in observe mode it only records what it would refuse
    refuse_unknown: bool  # whether a transaction that could not be screened is refused
    hold_review: bool  # whether REVIEW waits for a person instead of passing
    seconds: float  # time limit of a screening
    allowed: AllowList  # methods that pass unscreened


class Gate:
    """Decides on calls. Belongs to one event loop.

    Args:
        screener: screens in threads.
        rules: how to behave.
        decisions: where decisions are kept.
        on_decision: is given each decision as it is stored; must return at once.
    """

    def __init__(
        self,
        screener: Screener,
        rules: Rules,
        decisions: Decisions,
        on_decision: Callable[[NewScreening], object] = lambda _decided: None,
    ) -> None:
        self.rules = rules
        self._screener = screener
        self._decisions = decisions
        self._on_decision = on_decision
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="screen")
        self._running: set[Future[Screening]] = set()

    async def refusal(
        self, call: Call, before: Sequence[bytes], client: str
    ) -> tuple[str | None, tuple[bytes, ...]]:
        """Why a call may not pass, as the reply to its client; None if it may pass.

        Args:
            call: of a client's message.
            before: the transactions of earlier calls in the same batch that pass: they will be
                executed first.
            client: its name.

        Returns:
            The refusal, and the transactions that pass.
        """
        problem = self._problem(call)
        if problem is not None:
            screening_metrics.guard_refused("invalid" if call.problem else "method")
            return (problem if self.rules.enforce else None), ()
        if call.method not in SCREENED:
            return None, ()
        try:
            sent = signed_transactions(call.params)
            if len(before) + len(sent) > MAX_TRANSACTIONS:
                raise Unreadable(f"more than {MAX_TRANSACTIONS} transactions in one message")
        except Unreadable as error:
            screening_metrics.guard_refused("unreadable")
            text = messages.error(call.id, messages.INVALID_PARAMS, str(error))
            return (text if self.rules.enforce else None), ()
        decided = await self._decide(call, sent, before, client)
        self._keep(decided)
        passes = not self.rules.enforce or decided.outcome in {"passed", "unknown passed"}
        return (None, sent) if passes else (_reply(call, decided), ())

    def close(self) -> None:
        """Stop; screenings that wait are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _problem(self, call: Call) -> str | None:
        if call.problem:
            return messages.error(call.id, messages.INVALID_REQUEST, call.problem)
        if call.method in SCREENED or call.method in self.rules.allowed:
            return None
        return messages.error(
            call.id, messages.METHOD_NOT_FOUND, "the guard does not allow this method; see --allow"
        )

    async def _decide(
        self, call: Call, sent: Sequence[bytes], before: Sequence[bytes], client: str
    ) -> NewScreening:
        started = time.perf_counter()
        screening = await self._screen(sent, before, by_hash=names_by_hash(call.params))
        if len(sent) > 1:  # a bundle has no hash: its decision is not that on its first transaction
            screening = replace(screening, tx_hash=None)
        seconds = time.perf_counter() - started
        outcome = self._outcome(screening)
        holds = outcome == "held" and self.rules.enforce
        if holds and not self._decisions.hold(screening.decision_id, call.text):
            outcome = "dropped"
        screening_metrics.guard_screened(outcome, screening.action.name, seconds)
        return screening.stored(
            self._decisions.chain_id,
            time.time(),
            source="guard",
            outcome=outcome,
            is_enforced=self.rules.enforce,
            client=client,
            method=call.method,
            seconds=seconds,
        )

    async def _screen(
        self, sent: Sequence[bytes], before: Sequence[bytes], *, by_hash: bool
    ) -> Screening:
        if len(self._running) >= _MAX_WAITING:
            return self._screener.unknown(sent, "too many transactions are being screened")
        future = self._pool.submit(self._simulated, sent, before, by_hash=by_hash)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.rules.seconds)
        except TimeoutError:
            problem = f"not screened within {self.rules.seconds:g} s"
            return self._screener.unknown(sent, problem)
        except Exception as error:  # noqa: BLE001  whatever it is, the mode decides, not chance
            # Without the message, which could quote the transaction.
            logger.error("screening failed: %s", type(error).__name__)
            metrics.error_occurred(error)
            return self._screener.unknown(sent, "screening failed")

    def _simulated(
        self, sent: Sequence[bytes], before: Sequence[bytes], *, by_hash: bool
    ) -> Screening:
        """Screen in order, in a thread. What cannot be simulated hides no theft beside it."""
        if by_hash:
            screening = self._screener.unknown(sent, _BY_HASH)
        else:
            screening = self._screener.screen(sent, before)
        is_one_of_many = by_hash or before or len(sent) > 1
        if is_one_of_many and self._outcome(screening) == "unknown passed":
            for one in sent:
                alone = self._screener.screen([one])
                if alone.action == Action.BLOCK:
                    return alone
        return screening

    def _outcome(self, screening: Screening) -> Outcome:
        if screening.action == Action.BLOCK:
            return "blocked"
        if screening.status == "unknown":
            return "unknown refused" if self.rules.refuse_unknown else "unknown passed"
        if screening.action == Action.REVIEW and self.rules.hold_review:
            return "held"
        return "passed"

    def _keep(self, decided: NewScreening) -> None:
        self._decisions.add(decided)
        without_hash = "a bundle" if decided.from_address else "what cannot be read"
        logger.info(
            "decision %s on %s of %s: %s, %s, %s",
            decided.uuid,
            decided.tx_hash or without_hash,
            decided.client,
            Action(decided.action).name,
            decided.status,
            decided.outcome if self.rules.enforce else f"observed, would be {decided.outcome}",
        )
        self._on_decision(decided)


def _reply(call: Call, decided: NewScreening) -> str:
    what = {
        "blocked": "blocked",
        "held": "held for review",
        "dropped": "dropped: it needs a review, and too many wait for one; send it again later",
        "unknown refused": "could not be screened",
    }[decided.outcome or ""]
    why = decided.summary or decided.problem
    data: dict[str, Any] = {
        "decision": decided.uuid,
        "action": Action(decided.action).name,
        "status": decided.status,
        "reasons": decided.reasons[:_MAX_REASONS],
        "problem": decided.problem,
        "transactionHash": decided.tx_hash,
        "block": decided.block_number,
    }
    text = f"transaction {what} (decision {decided.uuid}){f': {why}' if why else ''}"
    return messages.error(call.id, messages.REJECTED, text, data)
