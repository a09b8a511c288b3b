"""Turns a fuzzer's bytes into hostile values.

One decoder for both engines: coverage-guided fuzzing changes the bytes, and a byte decides one
thing, so that a small change of the bytes is a small change of the value.
"""

import copy
import json
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

UINT256 = 2**256 - 1

NUMBERS: tuple[int, ...] = (
    0, 1, 2, 6, 18, 77, 78, 79, 255, 256, 2**31, 2**53 + 1, 2**63, 2**64, 10**18, 10**76,
    2**128, 2**255, UINT256 - 1, UINT256, 2**256, 10**400, -1, -(2**63),
)  # fmt: skip

TEXTS: tuple[str, ...] = (
    "", "0", "1", "-1", "+1", " 1", "1_000", "0x", "0x0", "0X1F", "0xg", "1e5", "1.5", "NaN",
    "Infinity", "null", "None", "٣", "１２", "²", "①", "\u0130",
    "9" * 21, "9" * 81, "0x" + "f" * 64,
    "0x" + "f" * 65, "USDC", "usdc", "ＵＳＤＣ", "USD\u200bC", "\u202eCDSU", "UЅDС", "U\u0301" * 9,
    "!*forta_finding*!:", "-!*forta_finding*!-:", "!*initialize*!", "!*health_check*!",
    "!*forta_fi!*initialize*!nding*!:", "！＊forta_finding＊！", "!*forta_\u200bfinding*!:",
    "%s%n%x", "{0.__class__}", "{sender}", "<script>alert(1)</script>", '"><img src=x onerror=1>',
    "=cmd|' /C calc'!A1", "@SUM(1)", "${jndi:ldap://x}", "../../etc/passwd", "a\x00b", "\x1b[31m",
    "\r\n", "\u2028", "\ud800", "\U0010ffff", "\ufdfa" * 40, "\u0f73" * 80, "transfer_counts",
    "from", "transfer", "token_types", "model_version", "x_transfers", "reason", "🏴‍☠️", "N" * 4096,
    "No transactions found", "Max rate limit reached", "execution reverted",
)  # fmt: skip

BODIES = (
    b"", b"<html>502</html>", b"null", b"[]", b"{}", b'"', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
    b"1" * 5000, b"-", b'{"a":1,"a":2}',
)  # fmt: skip

HEX_DIGITS = "0123456789abcdefABCDEFx_ g"


class Data:
    """Reads decisions from the fuzzer's bytes; when they run out, every decision is the first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> int:
        """The number of unused bytes."""
        return len(self._content) - self._at

    def byte(self) -> int:
        """0 to 255."""
        if self._at >= len(self._content):
            return 0
        self._at += 1
        return self._content[self._at - 1]

    def take(self, length: int) -> bytes:
        """At most this many bytes."""
        start = self._at
        self._at = min(len(self._content), start + length)
        return self._content[start : self._at]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left)

    def below(self, bound: int) -> int:
        """0 to bound - 1, for bounds up to 65536."""
        if bound <= 256:
            return self.byte() % bound
        return int.from_bytes(self.take(2)) % bound

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def one_in(self, chances: int) -> bool:
        """True for one byte value in `chances`; never when the bytes have run out."""
        return self.byte() % chances == chances - 1

    def uint(self) -> int:
        """A known hostile number, or any of up to 32 bytes."""
        if self.one_in(2):
            return abs(self.pick(NUMBERS))
        return int.from_bytes(self.take(1 + self.byte() % 32))

    def integer(self) -> int:
        """As `uint`, or negative."""
        return -self.uint() if self.one_in(4) else self.uint()

    def text(self) -> str:
        """Known hostile text, a combination of such pieces, or any text."""
        kind = self.byte() % 4
        if kind == 0:
            return self.pick(TEXTS)
        if kind == 1:
            return "".join(self.pick(TEXTS) for _ in range(1 + self.byte() % 3))
        if kind == 2:
            return self.take(self.byte() % 64).decode("utf-8", "replace")
        return "".join(chr(int.from_bytes(self.take(2))) for _ in range(self.byte() % 32))

    def hex_text(self, digits: int) -> str:
        """`0x` and as many digits as asked for, now and then another number or no hex."""
        kind = self.byte()
        if kind < 200:
            return "0x" + self.take(digits // 2).hex().rjust(digits, "0")
        if kind < 215:
            return "0X" + self.take(digits // 2).hex().upper().rjust(digits, "F")
        if kind < 235:
            length = max(0, digits - 2 + self.byte() % 5)
            return "0x" + "".join(self.pick(HEX_DIGITS) for _ in range(length))[:length]
        return self.text()

    def json_value(self, depth: int = 3) -> Any:
        """Any JSON value, NaN and the infinities included."""
        kind = self.byte() % (9 if depth else 7)
        match kind:
            case 0:
                return None
            case 1:
                return self.one_in(2)
            case 2:
                return self.integer()
            case 3:
                return self.pick((0.0, -0.0, 0.5, 1e308, 5e-324, float("nan"), float("inf"), -1.5))
            case 4 | 5:
                return self.text()
            case 6:
                return str(self.integer())
            case 7:
                return [self.json_value(depth - 1) for _ in range(self.byte() % 4)]
        return {self.text(): self.json_value(depth - 1) for _ in range(self.byte() % 4)}

    def altered(self, value: Any) -> Any:
        """A copy of a JSON value in which some nodes are replaced, left out or doubled."""
        changed = copy.deepcopy(value)
        for _ in range(self.byte() % 4):
            changed = self._altered_once(changed)
        return changed

    def _altered_once(self, value: Any) -> Any:
        parent: Any = None
        key: Any = None
        node = value
        while isinstance(node, dict | list) and node and not self.one_in(6):
            parent = node
            key = self.pick(list(node) if isinstance(node, dict) else range(len(node)))
            node = node[key]
        if parent is None:
            return self.json_value()
        match self.byte() % 4:
            case 0:
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.insert(key, node)
            case _:
                parent[key] = self.json_value()
        return value

    def damaged(self, original: bytes) -> bytes:
        """A file's bytes with a few places overwritten, cut out, doubled, or cut off."""
        content = bytearray(original)
        for _ in range(1 + self.byte() % 4):
            at = int.from_bytes(self.take(3)) % (len(content) + 1)
            length = self.byte() % 9
            match self.byte() % 6:
                case 0:
                    content[at : at + length] = self.take(length)
                case 1:
                    del content[at : at + length]
                case 2:
                    content[at:at] = content[at : at + length * 8]
                case 3:
                    del content[at:]
                case 4:
                    content[at:at] = self.pick(TEXTS).encode("utf-8", "replace")
                case 5:
                    if at < len(content):
                        content[at] ^= 1 << (length % 8)
        return bytes(content)

    def json_bytes(self, template: Any) -> bytes:
        """An answer's body: a template altered, any JSON, broken JSON, deep nesting, or no JSON."""
        match self.byte() % 12:
            case 0:
                return self.rest()
            case 1:
                return self.damaged(json.dumps(template).encode())
            case 2:
                bracket = self.pick((b"[", b'{"a":', b"[{}", b'[{"result":'))
                return bracket * self.pick((60, 64, 65, 70, 100, 1000, 1000, 40_000))
            case 3:
                return json.dumps(self.json_value()).encode("utf-8", "surrogatepass")
            case 4:
                return self.pick(BODIES)
        return json.dumps(self.altered(template)).encode("utf-8", "surrogatepass")
