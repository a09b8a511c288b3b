"""How long an inquiry waits for which source, on a clock that only the test moves."""

from collections.abc import Collection
from concurrent.futures import Future

from src.chain.errors import DeadlineExceeded, SourceUnavailable
from src.chain.lookups.fallback import Inquiry, Stage
from tests.support.waiting import FakeClock

TOKEN = "0x" + "a0" * 20


class Asked:
    """A source that answers when the test has it answer."""

    def __init__(self) -> None:
        self.futures: dict[str, Future[int]] = {}

    def ask(self, addresses: Collection[str]) -> dict[str, Future[int]]:
        self.futures = {address: Future() for address in addresses}
        return self.futures


def test_the_next_source_is_asked_when_patience_ends_and_the_first_may_still_answer() -> None:
    clock, first, second = FakeClock(), Asked(), Asked()
    stages = [Stage(first.ask, patience=3.0), Stage(second.ask)]
    inquiry = Inquiry([TOKEN], stages, clock=clock)
    inquiry.advance()
    assert inquiry.next_step_at == clock.now + 3.0
    clock.now += 2.5
    inquiry.advance()
    assert not second.futures
    clock.now += 0.5
    inquiry.advance()
    assert list(second.futures) == [TOKEN]
    first.futures[TOKEN].set_result(1)
    inquiry.advance()
    assert inquiry.is_done
    assert inquiry.found == {TOKEN: 1}


def test_a_source_that_fails_gives_way_at_once() -> None:
    clock, first, second = FakeClock(), Asked(), Asked()
    stages = [Stage(first.ask, patience=3.0), Stage(second.ask)]
    inquiry = Inquiry([TOKEN], stages, clock=clock)
    inquiry.advance()
    first.futures[TOKEN].set_exception(SourceUnavailable("first", "x"))
    inquiry.advance()
    assert list(second.futures) == [TOKEN]


def test_without_an_end_of_patience_every_answer_is_waited_for() -> None:
    clock, only = FakeClock(), Asked()
    inquiry = Inquiry([TOKEN], [Stage(only.ask)], clock=clock)
    inquiry.advance()
    clock.now += 1e9
    inquiry.advance()
    assert not inquiry.is_done


def test_the_last_source_is_left_to_itself_after_a_while() -> None:
    clock, only = FakeClock(), Asked()
    inquiry = Inquiry([TOKEN], [Stage(only.ask, abandon_after=2.0)], clock=clock)
    inquiry.advance()
    assert not inquiry.is_done
    assert inquiry.next_step_at == clock.now + 2.0
    clock.now += 2.0
    inquiry.advance()
    assert inquiry.is_done
    inquiry.give_up()
    assert inquiry.failures[TOKEN].is_a(DeadlineExceeded)
