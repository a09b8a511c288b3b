"""Four doubles that a compiled kernel computes with at once.

numba has no type for the processor's vector registers, and its compiler does not find them by
itself where the numbers are few and their places scattered: the explanation of a score, a few
multiplications at each of thousands of nodes, took twice the time in plain loops. Here four
doubles are one value of a kernel: loaded from and stored to a row of an array of shape (n, LANES),
added, subtracted, multiplied and divided. LLVM turns each operation into what the machine has: one
instruction with AVX, two with SSE2. The results are those of the same operations
one by one, to the last bit, on every machine.

    @numba.njit
    def scale(rows, factor):
        for row in range(rows.shape[0]):
            store(rows, row, load(rows, row) * spread(factor))
"""

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

LANES = 4

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INT = ir.IntType(32)
_ALIGNMENT = 8  # bytes: that of one double, as numpy's arrays guarantee no more
_CACHE_LINE = 64  # bytes, on every processor that the bot runs on; two rows fill one


class _LanesType(types.Type):
    """What numba calls four doubles."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


_lanes: Any = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    """How LLVM holds them."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _DOUBLES)  # type: ignore[no-untyped-call]


def _row(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """A pointer to a row of a C-contiguous array of doubles, shape (n, LANES)."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    row = context.cast(builder, arguments[1], signature.args[1], types.uintp)
    first = builder.gep(array.data, [builder.mul(row, ir.Constant(row.type, LANES))])
    return builder.bitcast(first, _DOUBLES.as_pointer())


def _load(_typing_context: Any, rows: Any, row: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_row(context, builder, signature, arguments))
        loaded.align = _ALIGNMENT
        return loaded

    return _lanes(rows, row), code


def _store(_typing_context: Any, rows: Any, row: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = builder.store(arguments[2], _row(context, builder, signature, arguments))
        stored.align = _ALIGNMENT
        return context.get_dummy_value()

    return types.none(rows, row, value), code


def _spread(_typing_context: Any, _value: Any) -> Any:
    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        unset = ir.Constant(_DOUBLES, ir.Undefined)
        first = builder.insert_element(unset, arguments[0], ir.Constant(_INT, 0))
        nowhere_else = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
        return builder.shuffle_vector(first, first, nowhere_else)

    return _lanes(types.float64), code


load: Any = intrinsic(_load)
"""`load(rows, row)`: the four doubles of a row. Neither shape nor row is checked."""

store: Any = intrinsic(_store)
"""`store(rows, row, value)`: write a row. Neither shape nor row is checked."""

spread: Any = intrinsic(_spread)
"""`spread(value)`: the same double in all lanes."""


@numba.njit(nogil=True)
def aligned_rows(n: int) -> NDArray[np.float64]:
    """An array of shape (n, LANES), not filled, whose rows begin where cache lines do.

    A row that straddles two lines costs two accesses: explaining a score took a quarter longer.
    """
    doubles = _CACHE_LINE // 8
    content = np.empty(n * LANES + doubles)
    behind = content.ctypes.data % _CACHE_LINE // 8
    start = (doubles - behind) % doubles
    return content[start : start + n * LANES].reshape(n, LANES)


def _give_operator(sign: Callable[[Any, Any], Any], instruction: str) -> None:
    @type_callable(sign)
    def typing(_context: Any) -> Any:
        return lambda left, right: _lanes if left is _lanes and right is _lanes else None

    @lower_builtin(sign, _LanesType, _LanesType)  # type: ignore[no-untyped-call]
    def lowering(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _sign, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _give_operator(_sign, _instruction)
