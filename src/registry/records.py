"""The registry's records: one entry per model or data set, and the steps of their histories.

All are read from a store that others may write to, so all types are validated, and so are ids,
which become folder names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from src.datasets.columns import Columns
from src.detection.bundle_files import LAST_SECOND

CHAMPION, CHALLENGER, PREVIOUS = ALIASES = ("champion", "challenger", "previous")

MAX_RECORD_BYTES = 16 * 2**20
_MAX_PROBLEM = 300  # characters: a record may be wrong in many places
_STEP_NAME = re.compile(r"[0-9]{12}\.json")
_STRICT = ConfigDict(strict=True, extra="forbid")

_MODEL_ID = re.compile(r"[0-9]{1,20}-[0-9a-f]{12}")
ModelId = Annotated[str, StringConstraints(pattern=rf"^{_MODEL_ID.pattern}$")]
Seconds = Annotated[int, Field(ge=0, le=LAST_SECOND)]  # Unix time

DataKind = Literal["transactions", "labelled"]

T = TypeVar("T")


class RecordMalformed(ValueError):
    """An entry or a step is malformed. The message says why."""


class _Record:
    __slots__ = ()

    def to_bytes(self) -> bytes:
        """Serialise deterministically."""
        return _json_bytes(asdict(self))  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Entry(_Record):
    """The registry's entry of a bundle."""

    id: ModelId  # `<model_version>-<first 12 digits of the model file's SHA-256>`
    model_version: Seconds  # creation time of the model, Unix seconds
    registered_at: Seconds  # Unix seconds
    code_version: str  # commit that trained it, or "unknown"
    data: Mapping[str, Any]  # identity of the training data, from the manifest
    files: Mapping[str, str]  # SHA-256 by file name
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True, config=_STRICT)
class Step(_Record):
    """One step of the ledger: the aliases from this step on."""

    number: int = 0  # 0 before the first
    # champion, challenger, previous: ids, or None.
    champion: ModelId | None = None
    challenger: ModelId | None = None
    previous: ModelId | None = None
    digests: Mapping[str, str] | None = None  # SHA-256 of the entry of every model with an alias
    action: str = ""  # promote, rollback, challenge
    reason: str = ""  # human-readable
    at: Seconds = 0  # Unix seconds
    writer: str = ""  # unique id of the writer
    format: Literal[1] = 1

    def aliases_of(self, model_id: str) -> list[str]:
        """The aliases of a model."""
        return [alias for alias in ALIASES if getattr(self, alias) == model_id]


@dataclass(frozen=True, slots=True, config=_STRICT)
class DataEntry(_Record):
    """The entry of a data set."""

    files: Mapping[str, str]  # SHA-256 by file name
    kind: DataKind = "transactions"  # what it is for, see `data_sets`
    columns: Columns | None = None  # of a labelled table, what its columns mean

    def to_bytes(self) -> bytes:
        """Serialise deterministically; the identity of a data set is derived from this."""
        if self.kind == "transactions":
            return _json_bytes({"files": dict(self.files)})
        return _json_bytes(asdict(self))


@dataclass(frozen=True, slots=True, config=_STRICT)
class DataStep(_Record):
    """A data set was withdrawn, or added again."""

    withdrawn: bool  # whether it is not trained on from this step on
    reason: str  # human-readable
    at: Seconds  # Unix seconds


def is_id(text: str) -> bool:
    """Whether a value has the form of a model id."""
    return _MODEL_ID.fullmatch(text) is not None


def step_name(number: int) -> str:
    """The name of a step's object."""
    return f"{number:012d}.json"


def step_names(names: Iterable[str]) -> list[str]:
    """The names of steps, in order: what else lies in the folder (an editor's backup) is none.

    The last step counts, so one with a number far ahead would hide all that are written after it.

    Raises:
        RecordMalformed: they are not numbered from 1 without a gap.
    """
    found = sorted(filter(_STEP_NAME.fullmatch, names))
    for number, name in enumerate(found, start=1):
        if name != step_name(number):
            raise RecordMalformed(
                f"{name} is where {step_name(number)} should be: restore the missing step, or "
                "remove the file if it is none of the store's"
            )
    return found


def parse_record(kind: type[T], content: bytes) -> T:
    """Parse a record of this type. Raises RecordMalformed."""
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        problem = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in problems
        )
    raise RecordMalformed(problem[:_MAX_PROBLEM])


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
