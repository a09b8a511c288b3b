"""The policy: the detectors, their parameters, overrides by chain, and scopes.

Parses the text into a validated `Policy`. Every mistake is an error with its line: a bot that
guesses what its operator meant is worse than one that does not start.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from typing import TypeVar

import yaml

from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment, Parameter
from src.detection.records import Action

VERSION = "1"
MAX_POLICY_BYTES = 4 * 1024 * 1024

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C ten times faster
_MAX_DEPTH = 16
_TOP = ("version", "detectors", "chains", "scopes", "on_unknown")
_MIN_GAINED = "min_gained_usd"
_LEAST_GAIN = Parameter(None, 0.0, 1e12, "USD gained from which the detector applies.")
_SCOPE = ("reason", "detectors", "match", "chains", "only_if", "addresses")
E = TypeVar("E", bound=StrEnum)

_HEX_DIGITS = frozenset("0123456789abcdef")


@unique
class Mode(StrEnum):
    """How a detector runs."""

    ON = "on"
    SHADOW = "shadow"
    OFF = "off"


@unique
class Match(StrEnum):
    """The addresses of a transaction that a scope compares."""

    SENDER = "sender"
    TO = "to"
    EITHER = "either"


@unique
class Condition(StrEnum):
    """Additional conditions of a scope."""

    SENDER_PAYS = "sender_pays"
    """The sender ends poorer of a token with a reference value, by more than a trifle."""


_ON_UNKNOWN = {action.name: action for action in (Action.REVIEW, Action.BLOCK)}


class PolicyError(ValueError):
    """The policy file is invalid. The message names the file, the line and the allowed values."""

    def __init__(self, name: str, line: int | None, problem: str) -> None:
        super().__init__(f"{name}, line {line}: {problem}" if line else f"{name}: {problem}")
        self.line = line


@dataclass(frozen=True, slots=True)
class DetectorPolicy:
    """How one detector runs."""

    mode: Mode  # on, shadow or off
    # A value for every parameter of the detector; None for the model's own.
    parameters: Mapping[str, float | None]
    # It does not apply where all gained less than that; None for no such limit.
    min_gained_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """An exception for some detectors."""

    name: str  # short; shown in the decision
    reason: str  # human-readable
    detectors: frozenset[str]  # switched off for a matching transaction
    match: Match  # which address of the transaction must be one of `addresses`
    addresses: frozenset[str]  # lowercase
    chains: frozenset[int] = frozenset()  # where it applies; empty for all chains
    only_if: Condition | None = None  # an additional condition, or None


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy."""

    detectors: Mapping[str, DetectorPolicy]  # by name, in the order of the file
    # Overrides by chain id.
    chains: Mapping[int, Mapping[str, DetectorPolicy]] = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()  # in the order of the file
    # What to do with a transaction before it is mined if nobody can tell what it would do; never
    # ALLOW.
    on_unknown: Action = Action.REVIEW

    def for_chain(self, chain_id: int) -> Mapping[str, DetectorPolicy]:
        """The detectors as they run on a chain."""
        return {**self.detectors, **self.chains.get(chain_id, {})}


def parse_policy(text: str, name: str = "policy.yaml") -> Policy:
    """Read a policy.

    Args:
        text: YAML; see docs/policy.md.
        name: of the file, for errors.

    Raises:
        PolicyError: with the line of the first mistake.
    """
    return _Reader(name).policy(text)


class _Reader:
    """Walks YAML nodes rather than values: `off` stays text, `0x1` too, and lines are known."""

    def __init__(self, name: str) -> None:
        self._name = name

    def policy(self, text: str) -> Policy:
        root = self._compose(text)
        top = self._mapping(root, "the policy", _TOP)
        version = self._required(top, "version", root)
        if self._text(version, "version") != VERSION:
            raise self._error(version, f"version must be {VERSION}")
        section = self._required(top, "detectors", root)
        detectors = dict(self._detectors(section, {}))
        if not detectors:
            raise self._error(section, "detectors: name at least one")
        chains: dict[int, dict[str, DetectorPolicy]] = {}
        for key, node in self._pairs(top.get("chains"), "chains"):
            entry = self._mapping(node, f"chains.{key.value}", ("detectors",))
            overridden = self._required(entry, "detectors", node)
            chains[self._chain(key)] = dict(self._detectors(overridden, detectors))
        scopes = tuple(
            self._scope(key, node) for key, node in self._pairs(top.get("scopes"), "scopes")
        )
        if "on_unknown" not in top:
            return Policy(detectors, chains, scopes)
        return Policy(detectors, chains, scopes, self._on_unknown(top["on_unknown"]))

    def _compose(self, text: str) -> yaml.Node:
        if len(text) > MAX_POLICY_BYTES:
            raise PolicyError(self._name, None, f"larger than {MAX_POLICY_BYTES} bytes")
        try:
            self._check_shape(text)
            root = yaml.compose(text, Loader=_LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "not a text of printable characters"
            # libyaml's mark of an unexpected end is behind the last line.
            line = min(mark.line, text.count("\n")) + 1 if mark is not None else None
            raise PolicyError(self._name, line, f"not YAML: {problem}") from None
        if root is None:
            raise PolicyError(self._name, 1, "the file is empty")
        return root

    def _check_shape(self, text: str) -> None:
        """Reject input that would overflow the YAML composer's stack or take very long."""
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            line = event.start_mark.line + 1 if event.start_mark else None
            if depth > _MAX_DEPTH:
                raise PolicyError(self._name, line, "nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise PolicyError(self._name, line, "aliases (*name) are not allowed")

    def _detectors(
        self, node: yaml.Node, base: Mapping[str, DetectorPolicy]
    ) -> Iterator[tuple[str, DetectorPolicy]]:
        for key, entry in self._pairs(node, "detectors"):
            detector = self._detector_name(key)
            yield detector, self._detector(detector, entry, base.get(detector))

    def _detector(
        self, detector: str, node: yaml.Node, base: DetectorPolicy | None
    ) -> DetectorPolicy:
        known = DETECTORS[detector].PARAMETERS
        if isinstance(node, yaml.ScalarNode):  # `detector: shadow`
            mode = self._choice(node, detector, Mode)
            if base is not None:
                return replace(base, mode=mode)
            return DetectorPolicy(mode, _defaults(known))
        entry = self._mapping(node, detector, ("mode", _MIN_GAINED, *known))
        parameters = dict(base.parameters if base else _defaults(known))
        least = base.min_gained_usd if base else None
        if _MIN_GAINED in entry:
            least = self._number(entry[_MIN_GAINED], f"{detector}.{_MIN_GAINED}", _LEAST_GAIN)
        for parameter, value in entry.items():
            if parameter not in ("mode", _MIN_GAINED):
                parameters[parameter] = self._number(
                    value, f"{detector}.{parameter}", known[parameter]
                )
        if "mode" in entry:
            mode = self._choice(entry["mode"], f"{detector}.mode", Mode)
        elif base is not None:
            mode = base.mode
        else:
            raise self._error(node, f"{detector} lacks mode: on, shadow or off")
        try:
            DETECTORS[detector].build(parameters, Equipment(anomaly_threshold=0.0))
        except ValueError as error:
            raise self._error(node, f"{detector}: {error}") from None
        return DetectorPolicy(mode, parameters, least)

    def _scope(self, key: yaml.ScalarNode, node: yaml.Node) -> Scope:
        where = f"scopes.{key.value}"
        entry = self._mapping(node, where, _SCOPE)
        reason = self._text(self._required(entry, "reason", node), f"{where}.reason").strip()
        if not reason:
            raise self._error(entry["reason"], f"{where}.reason must not be empty")
        detectors = [
            self._detector_name(item)
            for item in self._list(self._required(entry, "detectors", node), f"{where}.detectors")
        ]
        addresses = self._list(self._required(entry, "addresses", node), f"{where}.addresses")
        match = entry.get("match")
        chains = entry.get("chains")
        only_if = entry.get("only_if")
        return Scope(
            name=key.value,
            reason=" ".join(reason.split()),
            detectors=frozenset(detectors),
            match=self._choice(match, f"{where}.match", Match) if match else Match.EITHER,
            addresses=frozenset(self._unique(self._address(item) for item in addresses)),
            chains=frozenset(self._chain(c) for c in self._list(chains, f"{where}.chains"))
            if chains
            else frozenset(),
            only_if=self._choice(only_if, f"{where}.only_if", Condition) if only_if else None,
        )

    def _unique(self, addresses: Iterator[tuple[str, yaml.Node]]) -> Iterator[str]:
        seen: set[str] = set()
        for address, node in addresses:
            if address in seen:
                raise self._error(node, f"{address} is listed twice")
            seen.add(address)
            yield address

    def _detector_name(self, node: yaml.Node) -> str:
        name = self._text(node, "a detector")
        if name not in DETECTORS:
            raise self._error(
                node, f"unknown detector {name!r}; known: {', '.join(sorted(DETECTORS))}"
            )
        return name

    def _pairs(
        self, node: yaml.Node | None, where: str
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The entries of a mapping, each key once; none where the section is left out."""
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where} must be a mapping (key: value)")
        first: dict[str, int] = {}
        for key, value in node.value:
            text = self._text(key, f"a key of {where}")
            if text in first:
                raise self._error(
                    key, f"duplicate key {text!r} in {where} (first defined on line {first[text]})"
                )
            first[text] = key.start_mark.line + 1
            yield key, value

    def _mapping(
        self, node: yaml.Node, where: str, allowed: tuple[str, ...]
    ) -> dict[str, yaml.Node]:
        entries: dict[str, yaml.Node] = {}
        for key, value in self._pairs(node, where):
            if key.value not in allowed:
                raise self._error(
                    key, f"unknown key {key.value!r} in {where}; allowed: {', '.join(allowed)}"
                )
            entries[key.value] = value
        return entries

    def _list(self, node: yaml.Node, where: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self._error(node, f"{where} must be a list of at least one")
        return list(node.value)

    def _required(self, entries: Mapping[str, yaml.Node], key: str, node: yaml.Node) -> yaml.Node:
        if key not in entries:
            raise self._error(node, f"{key!r} is missing")
        return entries[key]

    def _text(self, node: yaml.Node, where: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{where} must be a single value")
        return str(node.value)

    def _choice(self, node: yaml.Node, where: str, choices: type[E]) -> E:
        text = self._text(node, where)
        try:
            return choices(text)
        except ValueError:
            allowed = ", ".join(choices)
            raise self._error(node, f"{where} is {text!r}; allowed: {allowed}") from None

    def _on_unknown(self, node: yaml.Node) -> Action:
        text = self._text(node, "on_unknown")
        if text not in _ON_UNKNOWN:
            allowed = ", ".join(_ON_UNKNOWN)
            raise self._error(node, f"on_unknown is {text!r}; allowed: {allowed}")
        return _ON_UNKNOWN[text]

    def _number(self, node: yaml.Node, where: str, parameter: Parameter) -> float:
        text = self._text(node, where)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not parameter.low <= number <= parameter.high or (
            parameter.whole and not number.is_integer()
        ):
            kind = "a whole number" if parameter.whole else "a number"
            raise self._error(
                node,
                f"{where} is {text!r}; it must be {kind} from {parameter.low:g} to "
                f"{parameter.high:g}",
            )
        return number

    def _chain(self, node: yaml.Node) -> int:
        text = self._text(node, "a chain id")
        if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text) > 0):
            raise self._error(node, f"{text!r} is not a chain id (1 is Ethereum)")
        return int(text)

    def _address(self, node: yaml.Node) -> tuple[str, yaml.Node]:
        text = self._text(node, "an address").lower()
        if len(text) != 42 or not text.startswith("0x") or not _HEX_DIGITS.issuperset(text[2:]):
            raise self._error(node, f"{text[:50]!r} is not an address (0x and 40 digits)")
        return text, node

    def _error(self, node: yaml.Node, problem: str) -> PolicyError:
        return PolicyError(self._name, node.start_mark.line + 1, problem)


def _defaults(parameters: Mapping[str, Parameter]) -> dict[str, float | None]:
    return {name: parameter.default for name, parameter in parameters.items()}
