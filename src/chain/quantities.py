"""Quantities: integers and bytes parsed from untrusted input, and amounts written for people."""

from decimal import Context, Decimal
from typing import Any, Final

SECONDS_PER_MINUTE: Final = 60

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_MAX_DIGITS = 80  # a uint256 has 78 decimal and 66 hex digits

_EXACT: Final = Context(prec=400)  # a uint256, shifted by up to 255 decimals
_UNITS: Final = ((10**12, " T"), (10**9, " B"), (10**6, " M"), (10**3, " k"))
_WORDS_FROM: Final = 10_000  # smaller amounts keep their digits: 3,279
_SCIENTIFIC_FROM: Final = Decimal(10) ** 15
_LEAST_SHOWN: Final = Decimal("0.000001")
_CENT: Final = Decimal("0.01")
_MINUTES_PER_HOUR: Final = 60
_MINUTES_PER_DAY: Final = 24 * 60


def as_int(value: Any) -> int | None:
    """A non-negative integer from an int, a decimal or a `0x` string; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if not isinstance(value, str) or len(value) > _MAX_DIGITS:
        return None
    # `int()` alone would accept signs, underscores, blanks, a second `0x`, digits of other scripts.
    if value[:2] in {"0x", "0X"}:
        return int(value, 16) if value[2:] and _HEX_DIGITS.issuperset(value[2:]) else None
    return int(value) if value.isascii() and value.isdigit() else None


def as_bytes(value: Any) -> bytes | None:
    """The bytes of `0x` and pairs of hex digits; None for anything else."""
    if not isinstance(value, str) or not value.startswith("0x"):
        return None
    try:
        content = bytes.fromhex(value[2:])
    except ValueError:
        return None
    return content if len(value) == 2 + 2 * len(content) else None  # `fromhex` skips blanks


def token_units(raw: int, decimals: int) -> Decimal:
    """An amount in token units, exact."""
    return _EXACT.scaleb(Decimal(raw), -decimals)


def compact(value: Decimal) -> str:
    """An amount in few characters: 0.0123, 3,279, 998 k, 4.32 M. Never 0 for what is not zero."""
    if value == 0:
        return "0"
    if abs(value) < _LEAST_SHOWN:
        return f"less than {_LEAST_SHOWN:f}"
    digits = 4 if 1 <= abs(value) < _WORDS_FROM else 3
    rounded = Context(prec=digits).plus(value)
    size = abs(rounded)
    if size >= _SCIENTIFIC_FROM:
        return f"{rounded:.2e}"
    if size < _WORDS_FROM:
        return _trimmed(f"{rounded:,f}")
    factor, unit = next(one for one in _UNITS if size >= one[0])
    return _trimmed(f"{rounded / factor:f}") + unit


def dollars(usd: float) -> str:
    """A positive sum in USD in few characters."""
    value = Decimal(usd)
    if 0 < value < _CENT:
        return "less than $0.01"
    return f"${compact(round(value, 2) if value < 1 else value)}"


def duration(minutes: float) -> str:
    """A time span in its largest whole unit: 12 minutes, 3 hours, 5 days; rounded down."""
    for size, unit in ((_MINUTES_PER_DAY, "day"), (_MINUTES_PER_HOUR, "hour"), (1, "minute")):
        if minutes >= size:
            number = int(minutes // size)
            return f"{number:,} {unit}{'' if number == 1 else 's'}"
    return "less than a minute"


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
