"""The Detector protocol, its alert and policy parameters, and its construction context."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import ClassVar, Protocol, Self, runtime_checkable

from src.detection.evidence import Evidence
from src.detection.forest.manifest import TokenAmounts
from src.detection.records import Status, Verdict

_ALERT_ID = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)*")
_MAX_ALERT_ID = 64
_MAX_ALERT_TITLE = 128
_MAX_PERCENT_DIGITS = 6
_BELOW_ALL = 99.999999


@dataclass(frozen=True, slots=True)
class AlertSpec:
    """How an alert reads. People filter by these texts: they are part of the public interface.

    Raises:
        ValueError: the id is not of this form, or a text is empty or too long.
    """

    id: str  # unique among all alerts; upper-case words joined by hyphens, at most 64 characters
    title: str  # the alert in a few words, at most 128 characters
    description: str  # what the sender did; `{sender}` stands for its address

    def __post_init__(self) -> None:
        if not _ALERT_ID.fullmatch(self.id) or len(self.id) > _MAX_ALERT_ID:
            raise ValueError(f"{self.id!r} is not an alert id such as DRAINED-ACCOUNT")
        if not 0 < len(self.title) <= _MAX_ALERT_TITLE or not self.description:
            raise ValueError(f"{self.id}: the title or the description is empty or too long")

    def describe(self, sender: str) -> str:
        """The description with the sender's address in its place."""
        return self.description.replace("{sender}", sender)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that the policy may set."""

    default: float | None  # where the policy is silent; None where that is the model's own
    # low, high: the smallest and the largest allowed value.
    low: float
    high: float
    meaning: str  # for people, with the unit
    whole: bool = False  # whether it must be a whole number


class SupervisedModel(Protocol):
    """A classifier trained on labelled transactions, as the `supervised` detector uses it."""

    @property
    def version(self) -> str:
        """When the model was made, as findings carry it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs; they must be among the features of a transaction."""

    def probability(self, features: Mapping[str, float]) -> float:
        """Probability of fraud, 0 to 1. Raises ValueError for a missing or infinite input."""


@unique
class Need(StrEnum):
    """What a detector cannot work without and some chains do not have; the text says so."""

    WELL_KNOWN_SYMBOLS = "there is no list of this chain's well-known tokens"
    USUAL_AMOUNTS = "the model knows no usual amounts of this chain's tokens"
    REFERENCE_VALUES = "the model knows no reference values of this chain's tokens"


@dataclass(frozen=True, slots=True)
class Equipment:
    """What detectors are made with, besides their parameters."""

    anomaly_threshold: float = 0.5  # score from which a transaction is an anomaly
    # How much of each known token ordinary transfers move, by address.
    token_amounts: Mapping[str, TokenAmounts] = field(default_factory=dict)
    supervised: SupervisedModel | None = None  # the operator's own classifier, where there is one
    no_attack_score: str = ""  # why transactions have no attack score; "" where they have
    has_token_list: bool = True  # whether the chain's well-known tokens are known
    has_reference_values: bool = True  # whether the model knows any of the chain's tokens

    def lacking(self, needs: Collection[Need]) -> str:
        """Why a detector with these needs cannot work; "" where it can."""
        if Need.WELL_KNOWN_SYMBOLS in needs and not self.has_token_list:
            return Need.WELL_KNOWN_SYMBOLS
        if Need.USUAL_AMOUNTS in needs and not self.token_amounts:
            return Need.USUAL_AMOUNTS
        if Need.REFERENCE_VALUES in needs and not self.has_reference_values:
            return Need.REFERENCE_VALUES
        return ""


class Detector(Protocol):
    """One way to look at a transaction. Stateless: the same evidence gives the same verdict.

    `evaluate` may raise: its caller turns that into a verdict that says so.
    """

    NAME: ClassVar[str]
    ALERT: ClassVar[AlertSpec | None]
    """The alert that the detector raises on its own; None where the primary one reports it."""
    SUMMARY: ClassVar[str]
    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {}
    NEEDS: ClassVar[frozenset[Need]] = frozenset()
    """Where one is not met, the detector is not asked and the decision says so."""

    @classmethod
    def build(cls, parameters: Mapping[str, float | None], equipment: Equipment) -> Self:  # noqa: ARG003
        """Make one; `parameters` has exactly the names of `PARAMETERS`. Raises ValueError.

        A detector that needs anything else overrides this.
        """
        return cls(**parameters)

    def evaluate(self, evidence: Evidence) -> Verdict:
        """Judge one transaction."""


@runtime_checkable
class AsksForHoldings(Protocol):
    """A detector that judges by what accounts held before the transaction."""

    def holdings(self, evidence: Evidence) -> list[tuple[str, str]]:
        """The accounts and tokens that it must find in `Evidence.held`; mostly none, quickly."""


def missing(detector: str, what: str) -> Verdict:
    """The verdict of a detector whose inputs are not there."""
    return Verdict(detector, reason=what, status=Status.MISSING_INPUTS)


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 transfer", "2 transfers"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def than_training(percentile: float) -> str:
    """What a score of this percentile is higher than, after a comparative."""
    if percentile >= 100:
        return "than all of the training transactions"
    return f"than {percentage(percentile)}% of the training transactions"


def shown_score(value: float, digits: int = 3) -> str:
    """A score in [0, 1]; one below 1 is never rounded up to it."""
    shown = f"{value:.{digits}f}"
    return f">{1 - 10**-digits:.{digits}f}" if value < 1 and float(shown) == 1 else shown


def percentage(value: float, digits: int = 1) -> str:
    """A share in percent, without the sign. What is below 100 is never rounded up to it."""
    while value < 100 and digits < _MAX_PERCENT_DIGITS and float(f"{value:.{digits}f}") >= 100:
        digits += 1
    return f"{value:.{digits}f}" if value >= 100 else f"{min(value, _BELOW_ALL):.{digits}f}"
