"""The definition of a target, and the exception for violated properties."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("crash", "hang", "non-finite", "marker", "leak", "mismatch")


class Violation(AssertionError):
    """A property is violated.

    Attributes:
        kind: one of `KINDS`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Bench:
    """A target's environment: a folder, and counters of what its inputs reached."""

    folder: Path
    reached: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Target:
    """Code under test.

    Attributes:
        name: for the command line.
        about: the code under test and its property, on one line.
        prepare: imports the code and returns a function that tries one input; it raises
            `Violation`, or an exception that the code should not have raised.
        inputs_share: of a run's inputs, relative to the other targets; small for slow targets.
        time_share: of a run's time.
    """

    name: str
    about: str
    prepare: Callable[[Bench], Callable[[bytes], None]]
    inputs_share: float = 1.0
    time_share: float = 1.0
