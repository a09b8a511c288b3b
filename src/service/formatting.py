"""Human-readable numbers, times and names. Pure."""

import math
from datetime import UTC, datetime
from decimal import Decimal

from src.chain.quantities import token_units
from src.detection.detectors.base import shown_score

_SCIENTIFIC_FROM = Decimal(10) ** 15


def amount(raw: int, decimals: int) -> str:
    """A token amount in token units, with six significant digits."""
    value = token_units(raw, decimals)
    size = abs(value)
    if size >= _SCIENTIFIC_FROM:
        return f"{value:.2e}"
    if size >= 1_000:
        return f"{value:,.0f}"
    return _trimmed(f"{value:.6g}") if size else "0"


def exact_amount(raw: int, decimals: int) -> str:
    """A token amount in token units to the last digit."""
    value = token_units(raw, decimals)
    return _trimmed(f"{value:,f}")


def number(value: float | None) -> str:
    """A number with at most three decimals, more if it is tiny."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if size >= 1_000 else _trimmed(f"{value:.3f}")


def percent(share: float | None) -> str:
    """A share as a percentage with as many decimals as it needs."""
    if share is None:
        return "–"
    if 0 < share < 0.0005:
        return f"{share * 100:.3f} %"
    return f"{share * 100:.2f} %" if share < 0.1 else f"{share * 100:.1f} %"


def score(value: float | None, digits: int = 3) -> str:
    """See `shown_score`; a dash if there is none."""
    return "–" if value is None else shown_score(value, digits)


def signed(value: float) -> str:
    """A weight with its sign; uses the minus sign U+2212, which is as wide as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def moment(seconds: float | None) -> str:
    """Unix seconds as UTC."""
    return "–" if seconds is None else f"{_utc(seconds):%Y-%m-%d %H:%M} UTC"


def iso(seconds: float) -> str:
    """Unix seconds for a `datetime` attribute."""
    return f"{_utc(seconds):%Y-%m-%dT%H:%M:%SZ}"


def words(name: str) -> str:
    """A feature's or detector's name without its underscores."""
    return name.replace("_", " ")


def _utc(seconds: float) -> datetime:
    """Times beyond Python's range are clamped to its latest time."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), 253_402_300_799.0), UTC)


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
