"""Sanitising of untrusted text.

Anyone can deploy a token with any name. A name reaches findings, logs and consumers, and the
bridge between the Forta CLI and Python searches a line of text for markers: a token named like a
marker breaks that line and ends the process. So every external string passes `sanitise_text`
before it is stored, logged or emitted.
"""

import re
import unicodedata

BRIDGE_MARKERS = (
    "!*forta_finding*!",
    "-!*forta_finding*!-",
    "!*initialize*!",
    "!*health_check*!",
)
"""Markers that the bridge searches its lines for (each may be followed by a colon)."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_HEX = re.compile(r"0x[0-9a-fA-F]{40,}")

_MARKER = re.compile(r"-?!\*(?:forta_finding|initialize|health_check)\*!-?:?", re.IGNORECASE)

# Normalisation can turn one character into 18: read at most this many characters per output one.
_INPUT_FACTOR = 4

# Control, format (zero-width, bidirectional), surrogate, private use, unassigned, line and
# paragraph separators. Combining marks stay, but see _MAX_COMBINING_MARKS.
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5\u2800\ufffc").union(
    # Variation selectors: marks without a shape of their own.
    "\u180b\u180c\u180d\u180f",
    map(chr, range(0xFE00, 0xFE10)),
    map(chr, range(0xE0100, 0xE01F0)),
)
_MAX_COMBINING_MARKS = 2
_MARK_CATEGORIES = frozenset({"Mn", "Me"})  # on a letter, or around it, without room of their own


def sanitise_text(value: object, max_length: int = 64) -> str:
    """Return `value` as one short printable line that holds no bridge marker.

    NFKC-normalised, without control, format, surrogate, private-use, unassigned and invisible
    characters and without stacks of combining marks; runs of blanks become one space; at most
    `max_length` characters. Anything but a string becomes "". Idempotent. The cost is
    bounded by `max_length`, not by the input.
    """
    if not isinstance(value, str):
        return ""
    if len(value) <= max_length and value.isascii() and value.isalnum():
        return value  # hashes and most symbols
    text = value[: max_length * _INPUT_FACTOR]
    if text.isascii() and text.isprintable() and "!" not in text:
        return " ".join(text.split())[:max_length].strip()
    # Once normalised, each pass shortens the text or leaves it unchanged, so a fixed point is near.
    while (cleaned := _clean(text, max_length)) != text:
        text = cleaned
    return text


def in_short(value: object, max_length: int = 200) -> str:
    """A sentence from outside, sanitised; one that is too long ends after a word."""
    shown = sanitise_text(value, max_length + 2)  # the last of these may be a blank that is dropped
    if len(shown) <= max_length:
        return shown
    words, blank, _ = shown[: max_length - 1].rpartition(" ")
    return f"{words} …" if blank else f"{shown[: max_length - 1]}…"


def short(text: str) -> str:
    """An address or a hash as its beginning and end; any other text as it is."""
    return f"{text[:8]}…{text[-4:]}" if text.startswith("0x") and len(text) >= 42 else text


def shortened(text: str) -> str:
    """A text with each address and hash in it as its beginning and end."""
    return _HEX.sub(lambda found: short(found[0]), text)


def plain_cell(text: str) -> str:
    """Text for a cell of a CSV file: no program that opens the file takes it for a formula.

    Text that begins like a formula gets an apostrophe in front, as OWASP advises.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def _clean(text: str, max_length: int) -> str:
    text = _drop_invisible(unicodedata.normalize("NFKC", text))
    # Replaced by a blank, so that its neighbours cannot form a new marker.
    text = _MARKER.sub(" ", text)
    text = " ".join(text.split())
    return text[:max_length].strip()


def _drop_invisible(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in _MARK_CATEGORIES:
            marks += 1
            if marks > _MAX_COMBINING_MARKS:
                continue
        else:
            marks = 0
        if character in "\t\n\r\x0b\x0c\x85\u2028\u2029":
            kept.append(" ")
        elif category not in _DROPPED_CATEGORIES and character not in _INVISIBLE:
            kept.append(character)
    return "".join(kept)
