"""One external source of facts with an asynchronous interface: requests return futures.

`ask` never blocks. Identical requests in flight are joined; if the circuit breaker is open, the
rate limit is exhausted or the bounded queue is full, it fails immediately, so that the next source
can be tried. Requests run in the source's own threads with their own timeouts, not with the
transaction's deadline: an answer that is too late for its transaction is still cached.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from src.chain.clients.circuit_breaker import CircuitBreaker
from src.chain.clients.rate_limit import RateLimit
from src.chain.errors import (
    DeadlineExceeded,
    Failure,
    MalformedAnswer,
    NotFound,
    PassingError,
    RateLimited,
    SourceError,
    SourceUnavailable,
)

T = TypeVar("T")

_PAUSE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Source(Generic[T]):
    """Looks up facts about addresses, several per request if the source supports it.

    Args:
        name: the source's name in errors.
        breaker: shared by the sources of one server.
        keep: called with every answer before it is returned, e.g. to cache it.
        rate_limit: applied to each request; None if the client has its own.
        threads: maximum number of requests in flight.
        max_waiting: maximum number of addresses in flight or queued; more are rejected.
    """

    def __init__(
        self,
        name: str,
        *,
        breaker: CircuitBreaker,
        keep: Callable[[Mapping[str, T]], None],
        rate_limit: RateLimit | None = None,
        threads: int = 4,
        max_waiting: int = 256,
    ) -> None:
        self.name = name
        self.breaker = breaker
        self._keep = keep
        self.rate_limit = rate_limit
        self._max_waiting = max_waiting
        self._in_flight: dict[str, Future[T]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"lookup-{name}")
        self.outcomes: Counter[str] = Counter()  # requests so far: ok, not_found, failed, refused
        self.last_problem = ""
        self.seconds = 0.0  # spent waiting for answers so far

    def ask(
        self,
        addresses: Collection[str],
        request: Callable[[list[str]], Mapping[str, T | Failure]],
    ) -> dict[str, Future[T]]:
        """Start one request for those `addresses` that have none in flight.

        `request` returns a value or a failure for each address, or raises one for all. The futures
        end with the value, or with a `SourceError` or `NotFound` without a traceback.
        """
        with self._lock:
            futures = {a: self._in_flight[a] for a in addresses if a in self._in_flight}
            new = [address for address in addresses if address not in futures]
            room = max(0, self._max_waiting - len(self._in_flight))
            surplus = {address: Future[T]() for address in new[room:]}
            started = {address: Future[T]() for address in new[:room]}
            refusal = self._refusal() if started else None
            if refusal is None:
                self._in_flight.update(started)
        futures |= started | surplus
        self._finish(surplus, {}, self._unavailable("too many requests waiting"))
        if refusal is not None:
            self.outcomes["rate_limited" if refusal.is_a(RateLimited) else "refused"] += 1
            self._finish(started, {}, refusal)
        elif started:
            try:
                self._threads.submit(self._run, started, request)
            except RuntimeError:  # closed
                self.breaker.abandoned()
                self._finish(started, {}, self._unavailable("closed"))
        return futures

    def close(self) -> None:
        """Reject further requests; requests in flight end with their own timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _unavailable(self, problem: str) -> Failure:
        return Failure(SourceUnavailable, self.name, problem)

    def _refusal(self) -> Failure | None:
        if not self.breaker.allow():
            return self._unavailable("not asked, it failed several times in a row")
        if self.rate_limit is not None and not self.rate_limit.try_acquire():
            self.breaker.abandoned()
            return Failure(RateLimited, self.name, "our own rate limit")
        return None

    def _run(
        self,
        started: dict[str, Future[T]],
        request: Callable[[list[str]], Mapping[str, T | Failure]],
    ) -> None:
        answers: Mapping[str, T | Failure] = {}
        missing = Failure(MalformedAnswer, self.name, "no answer to the question")
        begun = time.monotonic()
        try:
            answers = request(list(started))
            self._keep({a: v for a, v in answers.items() if not isinstance(v, Failure)})
        except (SourceError, NotFound) as failure:
            missing = Failure.of(failure)
            wish = failure.retry_after if isinstance(failure, SourceError) else None
            if wish is None and isinstance(failure, RateLimited):
                wish = _PAUSE_SECONDS  # its limit is lower than ours: of another plan, or shared
            if wish is not None and self.rate_limit is not None:
                self.rate_limit.pause(wish)
        except Exception as error:
            # A bug on unforeseen input must not make the caller wait for ever.
            logger.exception("%s: unexpected error in a lookup", self.name)
            problem = f"could not be read ({type(error).__name__})"
            missing = Failure(MalformedAnswer, self.name, problem)
        self._note(None if answers else missing, time.monotonic() - begun)
        self._finish(started, answers, missing)

    def _note(self, failure: Failure | None, seconds: float) -> None:
        outcome = "ok"
        if failure is not None:
            outcome = "not_found" if failure.is_a(NotFound) else "failed"
            self.last_problem = failure.problem
        with self._lock:
            self.outcomes[outcome] += 1
            self.seconds += seconds
        if failure is None or failure.is_a(PassingError):  # it answered
            self.breaker.succeeded()
        elif failure.is_a(SourceUnavailable, RateLimited):
            self.breaker.failed()
        elif failure.is_a(DeadlineExceeded):
            self.breaker.abandoned()
        else:
            self.breaker.succeeded()

    def _finish(
        self,
        started: dict[str, Future[T]],
        answers: Mapping[str, T | Failure],
        missing: Failure,
    ) -> None:
        with self._lock:
            for address, future in started.items():
                if self._in_flight.get(address) is future:
                    del self._in_flight[address]
        for address, future in started.items():
            answer = answers.get(address, missing)
            if isinstance(answer, Failure):
                future.set_exception(answer.error())
            else:
                future.set_result(answer)
