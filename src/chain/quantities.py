"""Parsing of integers from untrusted input: numbers, decimal or hex strings."""

from typing import Any, Final

SECONDS_PER_MINUTE: Final = 60

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_MAX_DIGITS = 80  # a uint256 has 78 decimal and 66 hex digits


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
