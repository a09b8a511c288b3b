"""Thirty-two hex digits that a compiled kernel reads at once.

Addresses and hashes are most of what an export holds, and reading their digits eight at a time, in
ordinary registers, was a tenth of a backtest's work. numba has no type for the processor's vector
registers, so the instructions are given to LLVM directly, which turns them into what the machine
has.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

DIGITS = 32

_BYTE = ir.IntType(8)
_TEXT = ir.VectorType(_BYTE, DIGITS)
_ALL_BITS = ir.IntType(8 * DIGITS)
_LONG = ir.IntType(64)
_WORDS = ir.VectorType(_LONG, 2)
_INDEX = ir.IntType(32)


def _each(value: int) -> Any:
    return ir.Constant(_TEXT, [value] * DIGITS)


def _code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    place = context.cast(builder, arguments[1], signature.args[1], types.uintp)
    text = builder.load(
        builder.bitcast(builder.gep(array.data, [place]), _TEXT.as_pointer()), align=1
    )
    # A letter has bit 6 set and is worth 9 more than its low half. Spelling the values out again in
    # lowercase shows whether they were digits.
    letter = builder.and_(builder.lshr(text, _each(6)), _each(1))
    nine = builder.and_(builder.neg(letter), _each(9))
    value = builder.add(builder.and_(text, _each(15)), nine)
    above_nine = builder.and_(builder.lshr(builder.add(value, _each(6)), _each(4)), _each(1))
    spelt = builder.add(
        builder.add(value, _each(ord("0"))),
        builder.and_(builder.neg(above_nine), _each(ord("a") - ord("0") - 10)),
    )
    lowercase = builder.or_(text, builder.shl(letter, _each(5)))
    wrong = builder.or_(builder.xor(spelt, lowercase), builder.and_(value, _each(0xF0)))
    is_wrong = builder.icmp_unsigned(
        "!=", builder.bitcast(wrong, _ALL_BITS), ir.Constant(_ALL_BITS, 0)
    )

    def every_second(first: int) -> Any:
        """Backwards, since the least significant byte of a word comes first in memory."""
        backwards = list(range(DIGITS - 2 + first, -1, -2))
        mask = ir.Constant(ir.VectorType(_INDEX, DIGITS // 2), backwards)
        return builder.shuffle_vector(value, value, mask)

    upper_halves = builder.shl(
        every_second(0), ir.Constant(ir.VectorType(_BYTE, DIGITS // 2), [4] * (DIGITS // 2))
    )
    words = builder.bitcast(builder.or_(upper_halves, every_second(1)), _WORDS)
    found = [
        builder.extract_element(words, ir.Constant(_INDEX, 1)),
        builder.extract_element(words, ir.Constant(_INDEX, 0)),
        builder.zext(is_wrong, _LONG),
    ]
    return context.make_tuple(builder, signature.return_type, found)


def _two_words(_typing_context: Any, data: Any, at: Any) -> Any:
    three = types.UniTuple(types.uint64, 3)  # type: ignore[no-untyped-call]
    return three(data, at), _code


two_words: Any = intrinsic(_two_words)
"""`two_words(data, at)`: what the digits data[at:at + DIGITS] spell, as two words of 64 bits, the
more significant one first, and 0, or 1 if one of them is no digit. Nothing is checked."""
