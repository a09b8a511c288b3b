"""What the registry writes down of models: an entry each, and the steps of its ledger.

Both are read from a store that others may write to, so nothing in them is taken on trust: not the
types, and not an id, which becomes the name of a folder.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from src.files import reason

CHAMPION, CHALLENGER, PREVIOUS = ALIASES = ("champion", "challenger", "previous")

_FORMAT = 1
_LATEST = 2**37  # Unix seconds that a calendar still knows
_ID = re.compile(r"[0-9]{1,20}-[0-9a-f]{12}", re.ASCII)


class RecordMalformed(ValueError):
    """An entry or a step is not one. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the registry knows of one bundle.

    Attributes:
        id: `<model_version>-<first 12 digits of the model file's SHA-256>`.
        model_version: when the model was made, Unix seconds.
        registered_at: Unix seconds.
        code_version: commit that trained it, or "unknown".
        data: identity of the training data, from the manifest.
        files: SHA-256 by file name.
    """

    id: str
    model_version: int
    registered_at: int
    code_version: str
    data: Mapping[str, Any]
    files: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """Serialise; the same entry gives the same bytes."""
        return _json_bytes({"format": _FORMAT, **asdict(self)})


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the ledger: which model has which alias from here on.

    Attributes:
        number: 0 before the first.
        champion, challenger, previous: ids, or None.
        digests: SHA-256 of the entry of every model that has an alias.
        action: promote, rollback, challenge.
        reason: for people.
        at: Unix seconds.
        writer: tells whose step it is.
    """

    number: int = 0
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    digests: Mapping[str, str] | None = None
    action: str = ""
    reason: str = ""
    at: int = 0
    writer: str = ""

    def aliases_of(self, model_id: str) -> list[str]:
        """The aliases that a model has."""
        return [alias for alias in ALIASES if getattr(self, alias) == model_id]

    def to_bytes(self) -> bytes:
        """Serialise; the same step gives the same bytes."""
        return _json_bytes({"format": _FORMAT, **asdict(self)})


def is_id(text: object) -> bool:
    """Whether it has the form of a model's id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def parse_entry(content: bytes, model_id: str) -> Entry:
    """Read the entry of a model. Raises RecordMalformed."""
    entry: Entry = _parse(Entry, content)
    good = (
        entry.id == model_id
        and _is_time(entry.model_version)
        and _is_time(entry.registered_at)
        and isinstance(entry.code_version, str)
        and isinstance(entry.data, dict)
        and _maps_text(entry.files)
    )
    if not good:
        raise RecordMalformed("another model, or a field of another type")
    return entry


def parse_step(content: bytes, name: str) -> Step:
    """Read the step of the ledger that has this name. Raises RecordMalformed."""
    step: Step = _parse(Step, content)
    good = (
        isinstance(step.number, int)
        and name == f"{step.number:012d}.json"
        and all(getattr(step, a) is None or is_id(getattr(step, a)) for a in ALIASES)
        and (step.digests is None or _maps_text(step.digests))
        and _is_time(step.at)
        and all(isinstance(text, str) for text in (step.action, step.reason, step.writer))
    )
    if not good:
        raise RecordMalformed("another number, no model's id, or a field of another type")
    return step


def _parse(kind: type[Any], content: bytes) -> Any:
    try:
        fields = json.loads(content)
        if fields.pop("format") != _FORMAT:
            raise RecordMalformed("another format")
        return kind(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecordMalformed(reason(error)) from None


def _is_time(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _LATEST


def _maps_text(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(part, str) for pair in value.items() for part in pair
    )


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
