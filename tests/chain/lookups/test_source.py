"""A source joins identical questions, refuses at once and stays bounded."""

import threading
from collections.abc import Iterator, Mapping

import pytest

from src.chain.clients.circuit_breaker import CircuitBreaker
from src.chain.clients.rate_limit import Rate, RateLimit
from src.chain.errors import (
    DeadlineExceeded,
    Failure,
    MalformedAnswer,
    NotFound,
    RateLimited,
    RequestRefused,
    SourceError,
    SourceUnavailable,
)
from src.chain.lookups.source import Source
from tests.support.waiting import FakeClock


@pytest.fixture
def kept() -> dict[str, int]:
    return {}


@pytest.fixture
def source(kept: dict[str, int]) -> Iterator[Source[int]]:
    source = Source("test", breaker=CircuitBreaker(threshold=3, pause=3600.0), keep=kept.update)
    yield source
    source.close()


def failing(failure: Exception) -> object:
    def request(addresses: list[str]) -> Mapping[str, int]:
        raise failure

    return request


def test_questions_in_flight_are_joined_and_the_rest_asked_together(source: Source[int]) -> None:
    release = threading.Event()
    requests: list[list[str]] = []

    def request(addresses: list[str]) -> Mapping[str, int]:
        requests.append(addresses)
        release.wait()
        return {address: len(address) for address in addresses}

    first = source.ask(["a", "b"], request)
    second = source.ask(["b", "c", "d"], request)
    assert first["b"] is second["b"]
    release.set()
    assert [future.result() for future in (first | second).values()] == [1] * 4
    assert sorted(requests) == [["a", "b"], ["c", "d"]]


def test_answers_are_kept_and_failures_are_not(source: Source[int], kept: dict[str, int]) -> None:
    def request(addresses: list[str]) -> Mapping[str, int | Failure]:
        bad, none = Failure.of(MalformedAnswer("test", "x")), Failure.of(NotFound())
        return {"good": 1, "bad": bad, "none": none}

    futures = source.ask(["good", "bad", "none", "forgotten"], request)
    assert futures["good"].result() == 1
    for address, failure in (("bad", MalformedAnswer), ("none", NotFound)):
        assert isinstance(futures[address].exception(), failure)
    assert isinstance(futures["forgotten"].exception(), MalformedAnswer)
    assert kept == {"good": 1}


def test_nothing_stays_in_flight(source: Source[int]) -> None:
    for number in range(2000):
        futures = source.ask([str(number)], lambda addresses: dict.fromkeys(addresses, 1))
        futures[str(number)].exception()
    assert not source._in_flight


def test_too_many_waiting_are_refused_at_once(kept: dict[str, int]) -> None:
    release = threading.Event()
    source: Source[int] = Source(
        "test", breaker=CircuitBreaker(), keep=kept.update, threads=1, max_waiting=10
    )

    def request(addresses: list[str]) -> Mapping[str, int]:
        release.wait()
        return dict.fromkeys(addresses, 1)

    futures = [source.ask([str(n)], request)[str(n)] for n in range(1000)]
    refused = [future for future in futures if future.done()]
    assert len(refused) == 990
    assert all(isinstance(future.exception(), SourceUnavailable) for future in refused)
    assert not source.breaker.is_open
    release.set()
    source.close()


def test_a_crowd_of_addresses_is_answered_as_far_as_there_is_room(kept: dict[str, int]) -> None:
    source: Source[int] = Source("test", breaker=CircuitBreaker(), keep=kept.update, max_waiting=10)
    futures = source.ask([str(n) for n in range(25)], lambda a: dict.fromkeys(a, 1))
    assert sum(future.exception() is None for future in futures.values()) == 10
    source.close()


def test_own_rate_limit_refuses_at_once_and_is_no_fault_of_the_source(
    kept: dict[str, int],
) -> None:
    source: Source[int] = Source(
        "test",
        breaker=CircuitBreaker(threshold=1),
        keep=kept.update,
        rate_limit=RateLimit(Rate(1, 3600.0)),
    )
    assert source.ask(["a"], lambda _: {"a": 1})["a"].result() == 1
    assert isinstance(source.ask(["b"], lambda _: {"b": 1})["b"].exception(), RateLimited)
    assert not source.breaker.is_open
    source.close()


@pytest.mark.parametrize("failure", [SourceUnavailable, RateLimited])
def test_circuit_opens_when_the_source_fails(
    source: Source[int], failure: type[SourceError]
) -> None:
    for _ in range(3):
        source.ask(["a"], failing(failure("test", "x")))["a"].exception()  # type: ignore[arg-type]
    assert source.breaker.is_open
    answer = source.ask(["a"], lambda _: {"a": 1})["a"].exception()
    assert isinstance(answer, SourceUnavailable)


@pytest.mark.parametrize(
    "failure",
    [
        MalformedAnswer("test", "x"),
        RequestRefused("test", "x"),
        DeadlineExceeded("test", "x"),
        NotFound(),
        KeyError("a fault of ours"),
    ],
)
def test_circuit_stays_closed_for_failures_about_one_address(
    source: Source[int], failure: Exception
) -> None:
    for _ in range(10):
        future = source.ask(["a"], failing(failure))["a"]  # type: ignore[arg-type]
        assert isinstance(future.exception(), SourceError | NotFound)
    assert not source.breaker.is_open


def test_closed_source_refuses(source: Source[int]) -> None:
    source.close()
    answer = source.ask(["a"], lambda _: {"a": 1})["a"].exception()
    assert isinstance(answer, SourceUnavailable)


def test_open_circuit_lets_one_trial_through_a_pause_and_closes_on_success() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(threshold=1, pause=30.0, clock=clock)
    breaker.failed()
    assert breaker.is_open
    clock.now += 29.9
    assert not breaker.allow()
    clock.now += 0.1
    assert [breaker.allow(), breaker.allow()] == [True, False]
    breaker.abandoned()
    assert breaker.allow()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.allow()  # a trial that fails begins another pause
    clock.now += 30.0
    assert breaker.allow()
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.allow() for _ in range(3))


def test_successes_between_failures_keep_the_circuit_closed() -> None:
    breaker = CircuitBreaker(threshold=2)
    for _ in range(10):
        breaker.failed()
        breaker.succeeded()
    assert not breaker.is_open


@pytest.mark.parametrize(
    "failure",
    [
        RateLimited("test", "HTTP 429", 7.0),
        SourceUnavailable("test", "HTTP 503", 7.0),
        RateLimited("test", "slow down"),
    ],
    ids=["429", "503", "no time named"],
)
def test_a_source_is_left_alone_for_as_long_as_it_asks(failure: SourceError) -> None:
    clock = FakeClock()
    limit = RateLimit(Rate(100, 1.0), clock=clock)
    source: Source[int] = Source(
        "test", breaker=CircuitBreaker(), keep=lambda _: None, rate_limit=limit
    )
    with pytest.raises(type(failure)):
        source.ask(["a"], failing(failure))["a"].result()  # type: ignore[arg-type]
    clock.now += (failure.retry_after or 1.0) - 0.1
    with pytest.raises(RateLimited, match="our own rate limit"):
        source.ask(["b"], lambda _: {"b": 1})["b"].result()
    clock.now += 0.2
    assert source.ask(["b"], lambda _: {"b": 1})["b"].result() == 1
    source.close()
