"""Properties that must hold, implemented independently of the code under test."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from eth_abi.abi import decode
from eth_utils.crypto import keccak

from fuzz.target import Violation
from src.chain.facts import FirstTransaction, TokenInfo
from src.chain.text import BRIDGE_MARKERS

TRANSFER_TOPIC = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
_WORD = re.compile(r"0[xX][0-9a-fA-F]{64}", re.ASCII)
_FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def expect(holds: bool, kind: str, message: object) -> None:
    """Raise a `Violation` unless it holds."""
    if not holds:
        raise Violation(kind, str(message)[:500])


def decoded_transfer(address: Any, topics: Any, data: Any) -> tuple[str, str, str, int] | None:
    """(token, sender, recipient, amount) of a raw log by eth_abi, None for anything else."""
    if not isinstance(topics, list | tuple) or not 1 <= len(topics) <= 3:
        return None
    if not all(isinstance(topic, str) and _WORD.fullmatch(topic) for topic in topics):
        return None
    if topics[0].lower() != TRANSFER_TOPIC:
        return None
    if not isinstance(address, str) or not re.fullmatch(r"0[xX][0-9a-fA-F]{40}", address, re.ASCII):
        return None
    if not isinstance(data, str) or not re.fullmatch(r"0[xX][0-9a-fA-F]*", data, re.ASCII):
        return None
    words = "".join(topic[2:] for topic in topics[1:]) + data[2:]
    if len(words) != 3 * 64:
        return None
    if address.lower() in ("0x" + "f" * 39 + "e", "0x" + "e" * 40):  # native transfers
        return None
    parties = bytes.fromhex("00" * 12 + words[24:64] + "00" * 12 + words[88:128])
    sender, recipient = decode(["address", "address"], parties)
    (amount,) = decode(["uint256"], bytes.fromhex(words[128:]))
    return address.lower(), sender, recipient, amount


def check_text(text: object, longest: int) -> None:
    """A text that is fit for a finding."""
    expect(isinstance(text, str), "mismatch", f"{text!r} is no text")
    assert isinstance(text, str)
    expect(len(text) <= longest, "mismatch", f"{len(text)} characters, {longest} allowed")
    expect(not any(marker in text for marker in BRIDGE_MARKERS), "marker", text)
    bad = [c for c in text if unicodedata.category(c) in _FORBIDDEN]
    expect(not bad, "leak", f"control or format characters {bad!r}")
    expect(text == text.strip(), "mismatch", f"blanks around {text!r}")


def check_token_info(info: TokenInfo) -> None:
    """Metadata that may be kept and shown."""
    check_text(info.name, 64)
    check_text(info.symbol, 32)
    decimals = info.decimals
    good = decimals is None or (type(decimals) is int and 0 <= decimals <= 255)
    expect(good, "mismatch", f"decimals {info.decimals!r}")


def check_first_transaction(first: FirstTransaction, latest: float) -> None:
    """A time that may be kept."""
    good = type(first.timestamp) is int and 0 < first.timestamp <= latest + 901
    expect(good, "mismatch", f"timestamp {first.timestamp!r}")


def check_scaled(value: float | None, amount: int, decimals: int) -> None:
    """An amount in token units is the nearest float to the exact quotient."""
    expect(value is not None and math.isfinite(value), "non-finite", f"{amount}/10**{decimals}")
    exact = Fraction(amount, 10**decimals)
    expect(value == float(exact), "mismatch", f"{amount}/10**{decimals} is not {value}")


def check_bridge_line(line: str) -> None:
    """A finding as one line of the bridge: JSON without NaN, and no marker."""
    expect("\n" not in line and "\r" not in line, "marker", "a line break in a finding")
    expect(not any(marker in line for marker in BRIDGE_MARKERS), "marker", line)
    json.loads(line, parse_constant=_refuse_constant)
    # 4 MiB is refused by the node; a transaction's finding stays far below.
    expect(len(line) < 256 * 1024, "mismatch", f"a finding of {len(line)} characters")


def _refuse_constant(name: str) -> float:
    raise Violation("non-finite", f"{name} in a finding")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Only strings, and no number in them that is not finite."""
    for name, value in metadata.items():
        expect(type(value) is str, "mismatch", f"{name} is a {type(value).__name__}")
        if (name in _NUMBERS or name.endswith("_value")) and value != "unknown":
            expect(math.isfinite(float(value)), "non-finite", f"{name}={value}")


_NUMBERS: Sequence[str] = (
    "anomaly_score",
    "anomaly_threshold",
    "anomaly_percentile",
    "alert_rate",
    "transfer_counts",
    "tokens_type_counts",
    "max_single_token_transfers_count",
    "max_single_token_transfers_value",
    "account_active_period_in_minutes",
    "feature_generation_response_time",
)
