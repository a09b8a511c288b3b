"""Pickles that should be equal byte for byte."""

import pickletools
from itertools import zip_longest


def first_difference(one: bytes, other: bytes) -> str:
    """The first operations that differ, with what stands before them; "" for equal pickles."""
    before: list[str] = []
    for left, right in zip_longest(_operations(one), _operations(other)):
        if left != right:
            return f"{left} is {right} in the other, after {before[-12:]}"
        before.append(str(left)[:80])
    return ""


def _operations(content: bytes) -> list[tuple[str, object]]:
    return [(code.name, argument) for code, argument, _ in pickletools.genops(content)]
