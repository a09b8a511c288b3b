"""Typed settings: each is declared once, as a field with its variable and its kind.

`port: int = setting("SERVICE_PORT", whole_number(0, 65_535), 8080)` in a dataclass declares one,
and `read_fields` reads them all.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from src.chain.clients.urls import is_http_url
from src.downloads import FORMS, DownloadError, is_url, local_model

_MAX_SHOWN_CHARACTERS = 12  # a longer value may be a key or a URL in the wrong place
_QUOTES = "'\""  # `docker run --env-file` takes them for a part of the value
_MIN_LIKENESS = 0.9
_MAX_DIGITS = 19
_UNBOUNDED = 10**18
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

_DECLARED: set[str] = set()

logger = logging.getLogger(__name__)

T = TypeVar("T")
D = TypeVar("D")


class SettingsError(ValueError):
    """A setting has an invalid value. The message names the setting and the allowed values.

    `name` is its variable, or a file; `given` is its value, unless that is secret, and shown if it
    is short.
    """

    exit_code: ClassVar[int] = 2
    """Of a command: wrong usage (`cli.WRONG_USAGE`)."""

    def __init__(self, name: str, allowed: str, given: str | None = None) -> None:
        shown = "" if given is None else f" (it is {given!r})"
        if given is not None and len(given) > _MAX_SHOWN_CHARACTERS:
            shown = f" (it has {len(given)} characters)"
        super().__init__(f"{name} must be {allowed}{shown}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Secret:
    """A key that no repr, log line or message shows; only `value` does."""

    value: str = field(repr=False)


def reveal(secret: Secret | None) -> str | None:
    """The text of a secret that may be unset."""
    return secret.value if secret else None


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """The type of a setting."""

    allowed: str  # description for the error "VARIABLE must be ..."
    parse: Callable[[str], T]  # parses a text; raises ValueError if it is invalid

    def read(self, name: str, text: str, *, secret: bool = False) -> T:
        """The value of the setting `name`. Raises SettingsError, without the text of a secret."""
        try:
            return self.parse(text)
        except DownloadError as error:
            raise SettingsError(name, f"what can be had: {error}") from None
        except ValueError:  # raised outside `except`: the original error may contain a secret
            pass
        raise SettingsError(name, self.allowed, None if secret else text)


def setting(name: str, kind: Kind[T], default: D, *, secret: bool = False) -> T | D:
    """A field of a dataclass that `read_fields` reads.

    Args:
        name: the variable that holds it.
        kind: its type.
        default: used if the variable is unset or blank.
        secret: it is, or may contain, a key, which no repr and no error shows.
    """
    _DECLARED.add(name)
    metadata = {"variable": name, "kind": kind, "secret": secret}
    declared: Any = field(default=default, repr=not secret, metadata=metadata)
    return declared  # type: ignore[no-any-return]


def variables(settings: type) -> tuple[str, ...]:
    """The variables behind the fields of a dataclass of settings."""
    return tuple(entry.metadata["variable"] for entry in fields(settings) if entry.metadata)


def read_fields(settings: type, values: Mapping[str, str]) -> dict[str, Any]:
    """The validated fields of a dataclass of settings whose variables are set.

    Raises:
        SettingsError: a setting is invalid.
    """
    given = {}
    for entry in fields(settings):
        name = entry.metadata.get("variable", "")
        if text := values.get(name, "").strip():
            if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
                raise SettingsError(name, "given without the quotes around it")
            secret = entry.metadata["secret"]
            given[entry.name] = entry.metadata["kind"].read(name, text, secret=secret)
    return given


def warn_of_misspelt(values: Mapping[str, str]) -> None:
    """Log variables that nothing reads and whose names are nearly those of unset settings."""
    unset = [name for name in _DECLARED if not values.get(name, "").strip()]
    others = [name for name, text in values.items() if name not in _DECLARED and text.strip()]
    likely = [
        f"{name} (is {meant} meant?)"
        for name in others
        for meant in get_close_matches(name, unset, 1, _MIN_LIKENESS)
    ]
    if likely:
        logger.warning("variables that nothing reads: %s", ", ".join(likely))


def whole_number(low: int, high: int | None = None) -> Kind[int]:
    """Decimal digits, from `low` to `high`."""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        is_whole = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
        if not is_whole or not low <= int(text) <= (_UNBOUNDED if high is None else high):
            raise ValueError
        return int(text)

    return Kind(f"a whole number from {low} {'up' if high is None else f'to {high}'}", parse)


def number(low: float, high: float = math.inf, *, above: bool = False) -> Kind[float]:
    """A decimal number from `low` to `high`; with `above`, `low` itself is not one."""
    end = f"{' and at most' if above else ' to'} {high:g}" if high < math.inf else ""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high or math.isinf(value) or (above and value == low):
            raise ValueError  # NaN is in no range
        return value

    return Kind(f"a number {'above' if above else 'from'} {low:g}{end}", parse)


def one_of(values: Mapping[str, T]) -> Kind[T]:
    """One of several words, case-insensitive."""
    by_word = {word.lower(): value for word, value in values.items()}

    def parse(text: str) -> T:
        if text.lower() not in by_word:
            raise ValueError
        return by_word[text.lower()]

    return Kind(f"one of {', '.join(values)}", parse)


def _url(text: str) -> str:
    if not is_http_url(text):
        raise ValueError
    return text


def _key(text: str) -> Secret:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return Secret(text)


def _path(text: str) -> Path:
    if "://" in text:  # it would name a folder `s3:` here
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError from None


def _model(text: str) -> Path:
    return local_model(text) if is_url(text) else _path(text)


TEXT = Kind("text", str)
WORDS = Kind("words separated by commas or blanks", lambda t: tuple(t.replace(",", " ").split()))
PORT = whole_number(0, 65_535)
URL = Kind("an http:// or https:// URL", _url)
PATH = Kind("a path, not a URL, and without ~ for a user who has no home folder", _path)
MODEL = Kind(f"a model: {FORMS}", _model)
KEY = Kind("a key of printable ASCII characters", _key)
FILE_OR_URL = Kind(
    "an http:// or https:// URL, or a file",
    lambda text: _url(text) if "://" in text else str(_path(text)),
)
SWITCH = Kind("true or false", one_of(_SWITCH).parse)
