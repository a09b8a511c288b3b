"""Arrow columns, as exports have them, to arrays of words; and back to text."""

import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.backtest import kernels
from src.backtest.errors import BacktestError

Words = NDArray[np.uint64]

_SEED = np.uint64(int.from_bytes(os.urandom(8), "little"))


def parsed_bytes(column: pa.ChunkedArray, n_bytes: int) -> tuple[Words, NDArray[np.bool_]]:
    """Addresses (20 bytes) or hashes and words (32), as hex text or binary.

    Returns:
        Words, shape (n, ceil(n_bytes / 8)), and which values were well-formed: a null is not.
    """
    array, is_text = _flat(column)
    offsets, data = _buffers(array)
    words = np.empty((len(array), -(-n_bytes // 8)), np.uint64)
    return words, kernels.parse_bytes(offsets, data, is_text, n_bytes, words)


def parsed_amounts(column: pa.ChunkedArray) -> tuple[Words, NDArray[np.bool_]]:
    """Unsigned 256-bit amounts: decimal text, integers, or 32 bytes, most significant first.

    Raises:
        BacktestError: the column is of a type that cannot hold such an amount exactly.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.large_string())
    array, is_text = _flat(column)
    if not is_text:
        return parsed_bytes(column, kernels.WORD_BYTES)
    offsets, data = _buffers(array)
    words = np.empty((len(array), 4), np.uint64)
    return words, kernels.parse_decimals(offsets, data, words)


def numbers(column: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    """Whole numbers as int64; -1 for null.

    Raises:
        BacktestError: the column holds something else.
    """
    try:
        filled = pc.fill_null(column.cast(pa.int64()), -1)
    except pa.ArrowException as error:
        raise BacktestError(f"column {name} is not of whole numbers: {error}") from None
    return np.ascontiguousarray(filled.to_numpy())


def unix_seconds(column: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    """Times as Unix seconds, from numbers of seconds or timestamps; -1 for null."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s"), safe=False)
    return numbers(column, name)


def numbered(words: Words) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number of each row in order of first appearance, and the first row of each number."""
    return kernels.number_rows(np.ascontiguousarray(words), _SEED)


def hex_column(words: Words, n_bytes: int) -> pa.Array:
    """The values as a column of hex text."""
    text = kernels.hex_text(np.ascontiguousarray(words), n_bytes)
    offsets = np.arange(len(words) + 1, dtype=np.int64) * (2 * n_bytes + 2)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.large_string(), len(words), buffers)


def integers(words: Words) -> list[int]:
    """The values as Python's integers, exact."""
    content = words.astype(">u8").tobytes()
    width = 8 * words.shape[1]
    from_bytes: Callable[[bytes], int] = lambda part: int.from_bytes(part, "big")  # noqa: E731
    return [from_bytes(content[i : i + width]) for i in range(0, len(content), width)]


def _flat(column: pa.ChunkedArray) -> tuple[pa.Array, bool]:
    """One large_binary array, and whether it was text."""
    kind = column.type
    if pa.types.is_null(kind):
        kind = pa.large_string()
        column = column.cast(kind)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_binary = any(
        test(kind)
        for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    )
    if not is_text and not is_binary:
        raise BacktestError(f"a column of {kind} holds neither text nor bytes")
    if pa.types.is_fixed_size_binary(kind):
        column = column.cast(pa.binary())
    array = column.cast(pa.large_binary()).combine_chunks()
    if array.null_count:
        array = pc.fill_null(array, b"")
    return array, is_text


def _buffers(array: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    _, offsets, data = array.buffers()
    if len(array) == 0:
        return np.zeros(1, np.int64), np.zeros(1, np.uint8)
    positions = np.frombuffer(offsets, np.int64, len(array) + 1, 8 * array.offset)
    if data is None or data.size == 0:
        return positions, np.zeros(1, np.uint8)
    return positions, np.frombuffer(data, np.uint8)
