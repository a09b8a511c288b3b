"""Reads a model file and its manifest, and rejects them if they do not belong together.

The same for every kind of model, as are a few fields of every manifest; the others are the kind's
own.
"""

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from src.detection.errors import (
    InvalidInput,
    ModelIncompatible,
    ModelMalformed,
    ModelMissing,
    ModelTampered,
)
from src.detection.signature import problem_with
from src.files import read_file, reason

ATTACK_MODEL_FILE = "attack_model.npz"
"""The attack model lies beside the isolation forest that it was calibrated with."""
FRAUD_MODEL_FILE = "fraud_model.npz"
DRIFT_FILE = "drift_reference.json"
"""A summary of the training traffic, which drift checks compare with."""
REPORT_FILE = "report.md"
LAST_SECOND = 253_402_300_799
"""Of the year 9999, with which dates end; Unix time."""

MAX_MODEL_BYTES = 256 * 2**20
_MAX_MANIFEST_BYTES = 16 * 2**20
_MAX_REASON_LENGTH = 300  # the reason quotes the file, which anybody may have written

NOT_AS_EXPECTED: Final = (
    KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading the values of a stranger's JSON raises where one is missing or of another kind."""

T = TypeVar("T")


def manifest_path(model_path: Path) -> Path:
    """The path of a model file's manifest: next to it, with the extension `.manifest.json`."""
    return model_path.with_suffix(".manifest.json")


def read_manifest_file(
    model_path: Path, public_key: str | None, parse: Callable[[Any], T], *, command: str
) -> T:
    """Read and parse the manifest beside a model file.

    Args:
        model_path: the model file.
        public_key: whose signature the manifest must carry, see `signature`; None if it needs none.
        parse: from the JSON's value to the manifest; raises built-in errors for what is wrong.
        command: the npm script that makes such models.

    Raises:
        ModelMissing: there is none.
        ModelTampered: it is not signed by that key.
        ModelMalformed: it is not valid; the message says why.
    """
    path = manifest_path(model_path)
    try:
        content = read_file(path, _MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise ModelMissing(
            f"{path.name} is missing next to {model_path.name}. A model needs its manifest: train "
            f"one with `npm run {command}`, or copy both files."
        ) from None
    except OSError as error:
        raise ModelMalformed(f"{path}: {reason(error)}") from None
    if public_key is not None and (problem := problem_with(path, content, public_key)):
        raise ModelTampered(f"{problem}: {model_path.name} is not loaded.")
    try:
        value = json.loads(content.decode())
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be shown
        return parse(value)
    except NOT_AS_EXPECTED as error:
        raise ModelMalformed(f"{path.name}: {reason(error)[:_MAX_REASON_LENGTH]}") from error


def common_fields(content: Any, *golden: str) -> dict[str, Any]:
    """The fields that the manifest of every kind has, checked.

    Args:
        content: the manifest's JSON.
        golden: names of the fields with a number for each golden row.

    Returns:
        `model_version`, `sha256`, `inputs`, `golden_rows` with a value for each input, `training`,
        and those fields.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: one is missing or impossible.
    """
    inputs = tuple(str(name) for name in content["inputs"])
    golden_rows = tuple(finite("golden_rows", row) for row in content["golden_rows"])
    outputs = {name: finite(name, content[name]) for name in golden}
    training = dict(content["training"])
    json.dumps(training, allow_nan=False)  # for people, but finite all the same
    model_version = int(content["model_version"])
    if not 0 <= model_version <= LAST_SECOND:
        raise ValueError(f"model_version {model_version} is not a time in Unix seconds")
    if not inputs or len(set(inputs)) != len(inputs):
        raise ValueError("inputs are empty or repeat a name")
    if any(len(row) != len(inputs) for row in golden_rows):
        raise ValueError("a golden row has another number of values than there are inputs")
    if not golden_rows or any(len(numbers) != len(golden_rows) for numbers in outputs.values()):
        raise ValueError(f"golden_rows and {', '.join(golden)} are empty or differ in number")
    return {
        **outputs,
        "model_version": model_version,
        "sha256": str(content["sha256"]),
        "inputs": inputs,
        "golden_rows": golden_rows,
        "training": training,
    }


def finite(name: str, values: Iterable[Any]) -> tuple[float, ...]:
    """Finite numbers of a manifest's field; raises ValueError, which names it."""
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} has a value that is not finite")
    return numbers


def share(name: str, value: Any) -> float:
    """A number from 0 to 1 of a manifest's field; raises ValueError, which names it."""
    (number,) = finite(name, [value])
    if not 0 <= number <= 1:
        raise ValueError(f"{name} {number} is outside [0, 1]")
    return number


def manifest_text(content: dict[str, Any]) -> str:
    """A manifest as its file has it; the same content gives the same text."""
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def read_vouched_file(path: Path, sha256: str, *, remedy: str) -> bytes:
    """The content of a model file, which must have the SHA-256 that its manifest states.

    Args:
        path: the model file.
        sha256: hexadecimal, from the manifest.
        remedy: what to do where the file is missing, a sentence.

    Raises:
        ModelMissing, ModelTampered: see `errors`.
    """
    try:
        content = read_file(path, MAX_MODEL_BYTES)
    except FileNotFoundError:
        raise ModelMissing(f"model file {path} is missing. {remedy}") from None
    except OSError as error:
        raise ModelMalformed(f"model file {path}: {reason(error)}") from None
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise ModelTampered(
            f"{path.name} has SHA-256 {actual}, but its manifest states {sha256}: the file was "
            "modified, or copied without its manifest. It is not loaded."
        )
    return content


def check_sklearn(trained_with: str, *, command: str) -> None:
    """Raise ModelIncompatible unless this very scikit-learn is installed.

    `command` is the npm script that makes such models.
    """
    installed = importlib.metadata.version("scikit-learn")
    if installed != trained_with:
        raise ModelIncompatible(
            f"the model was saved by scikit-learn {trained_with}, {installed} is installed: scores "
            f"may differ without a word. Install scikit-learn=={trained_with} or train again with "
            f"`npm run {command}`."
        )


def check_inputs(
    inputs: Iterable[str], available: Collection[str], *, what: str, command: str
) -> None:
    """Raise ModelIncompatible if a model needs inputs that are not among the available ones.

    `what` names the model; `command` is the npm script that makes such models.
    """
    unknown = [name for name in inputs if name not in available]
    if unknown:
        named = ", ".join(repr(name[:60]) for name in unknown[:5])  # whoever wrote the file did
        raise ModelIncompatible(
            f"{what} needs inputs that this version does not compute: {named}. "
            f"Train a new model with `npm run {command}`."
        )


def golden_outputs(score: Callable[[T], T], rows: T) -> T:
    """What a model makes of its golden rows. Raises ModelMalformed if it cannot take one."""
    try:
        return score(rows)
    except InvalidInput as error:
        raise ModelMalformed(f"a golden row cannot be scored: {error}") from error


def check_golden(worst: float, tolerance: float, *, what: str) -> None:
    """Raise ModelMalformed if the largest difference of a golden row is too large, or NaN."""
    if not worst <= tolerance:
        raise ModelMalformed(
            f"{what} does not reproduce its golden rows (largest difference {worst:g})"
        )
