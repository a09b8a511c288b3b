"""What a target is, and how it says that a property does not hold."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("crash", "hang", "non-finite", "marker", "leak", "mismatch")


class Violation(AssertionError):
    """A property does not hold.

    Attributes:
        kind: one of `KINDS`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Bench:
    """What a target is given: a folder of its own, and counters of what its inputs reached."""

    folder: Path
    reached: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Target:
    """Code under attack.

    Attributes:
        name: for the command line.
        about: what is attacked and what must hold, one line.
        prepare: imports the code and returns what tries one input; it raises `Violation`, or
            whatever the code under attack should not have raised.
        inputs_share: of a run's inputs, relative to the other targets: small where each is dear.
        time_share: of a run's time.
    """

    name: str
    about: str
    prepare: Callable[[Bench], Callable[[bytes], None]]
    inputs_share: float = 1.0
    time_share: float = 1.0
