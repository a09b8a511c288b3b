"""Arrow columns, as exports have them, to arrays of words; and back to text."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from src.backtest.errors import BacktestError
from src.backtest.kernels import arrow

Words = NDArray[np.uint64]

_NO_BYTES = np.zeros(1, np.uint8)

SECRET = np.frombuffer(os.urandom(32), np.uint64) | np.uint64(1)
"""For the hashes of the kernels, see `joins.find_rows`."""
_SEED = SECRET[0]


def parsed_bytes(
    column: pa.ChunkedArray, n_bytes: int, rows: NDArray[np.int64] | None = None
) -> tuple[Words, NDArray[np.bool_]]:
    """Addresses (20 bytes) or hashes and words (32), as hex text or binary.

    Args:
        column: the values.
        n_bytes: their length.
        rows: which of them, in rising order; None for all.

    Returns:
        Words, shape (n, ceil(n_bytes / 8)), and which values are well-formed (nulls are not).
    """
    count = len(column) if rows is None else len(rows)
    words = np.empty((count, -(-n_bytes // 8)), np.uint64)
    good = np.empty(count, np.bool_)
    start = done = 0
    dictionary = _Dictionary(n_bytes)
    for chunk in column.chunks:
        if rows is None:
            inside = np.arange(len(chunk))
        else:
            end = int(np.searchsorted(rows, start + len(chunk)))
            inside = rows[done:end] - start
        start += len(chunk)
        part = slice(done, done := done + len(inside))
        if pa.types.is_dictionary(chunk.type):
            values, well = dictionary.parsed(chunk.dictionary)
            index = chunk.indices
            if index.null_count:
                index = pc.fill_null(index.cast(pa.int64()), len(values) - 1)
            place = index.to_numpy()
            if rows is not None:
                place = place[inside]
            # mode="clip" never clips here, but avoids a temporary buffer in numpy.
            np.take(values, place, axis=0, out=words[part], mode="clip")
            np.take(well, place, out=good[part], mode="clip")
        else:
            _parse(chunk, inside, n_bytes, words[part], good[part])
    return words, good


class _Dictionary:
    """Parses the values that a column's chunks refer to: each has a copy of the same ones."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        self._last: pa.Array | None = None
        self._parsed = np.zeros((0, 0), np.uint64), np.zeros(0, np.bool_)

    def parsed(self, values: pa.Array) -> tuple[Words, NDArray[np.bool_]]:
        """Words, and which are well-formed, with one more entry for null."""
        if self._last is None or not values.equals(self._last):
            words, good = parsed_bytes(pa.chunked_array([values]), self._n_bytes)
            nothing = np.zeros((1, words.shape[1]), np.uint64)
            self._last = values
            self._parsed = np.concatenate([words, nothing]), np.append(good, False)
        return self._parsed


def _parse(
    chunk: pa.Array,
    rows: NDArray[np.int64],
    n_bytes: int,
    words: Words,
    good: NDArray[np.bool_],
) -> None:
    offsets, data, is_text = _text_or_bytes(chunk)
    good[:] = arrow.parse_bytes(offsets, data, rows, is_text, n_bytes, words)
    if chunk.null_count:  # what stands in the buffers there means nothing
        _blank(words, good, _missing(chunk)[rows])


def parsed_amounts(column: pa.ChunkedArray) -> tuple[Words, NDArray[np.bool_]]:
    """Unsigned 256-bit amounts: decimal text, integers, or 32 bytes, most significant first.

    Raises:
        BacktestError: the column's type cannot represent such amounts exactly.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.large_string())
    words = np.empty((len(column), 4), np.uint64)
    good = np.empty(len(column), np.bool_)
    start = 0
    for chunk in column.chunks:
        rows = slice(start, start + len(chunk))
        start += len(chunk)
        offsets, data, is_text = _text_or_bytes(chunk)
        if not is_text:
            _parse(chunk, np.arange(len(chunk)), arrow.WORD_BYTES, words[rows], good[rows])
            continue
        good[rows] = arrow.parse_decimals(offsets, data, words[rows])
        if chunk.null_count:
            _blank(words[rows], good[rows], _missing(chunk))
    return words, good


def numbers(column: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    """Whole numbers as int64; -1 for null.

    Raises:
        BacktestError: the column has another type.
    """
    try:
        column = column.cast(pa.int64())
    except pa.ArrowException as error:
        raise BacktestError(f"column {name} must contain whole numbers: {error}") from None
    if column.null_count:
        column = pc.fill_null(column, -1)
    return np.require(column.to_numpy(), np.int64, ["C", "W"])


def unix_seconds(column: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    """Times as Unix seconds, from numbers of seconds or timestamps; -1 for null."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s"), safe=False)
    return numbers(column, name)


def numbered(words: Words) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number of each row in order of first appearance, and the first row of each number."""
    return arrow.number_rows(np.ascontiguousarray(words), _SEED)


def hex_column(words: Words, n_bytes: int) -> pa.Array:
    """The values as a column of hex text."""
    text = arrow.hex_text(np.ascontiguousarray(words), n_bytes)
    offsets = np.arange(len(words) + 1, dtype=np.int64) * (2 * n_bytes + 2)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.large_string(), len(words), buffers)


def hex_texts(words: Words, n_bytes: int) -> list[str]:
    """The values as hex text."""
    text = arrow.hex_text(np.ascontiguousarray(words), n_bytes).tobytes().decode("ascii")
    length = 2 * n_bytes + 2
    return [text[i : i + length] for i in range(0, len(text), length)]


def integers(words: Words) -> list[int]:
    """The values as Python's integers, exact."""
    values = [high << 64 | low for high, low in zip(*words[:, -2:].T.tolist(), strict=True)]
    for row in np.flatnonzero(words[:, :-2].any(axis=1)).tolist():
        values[row] = int.from_bytes(words[row].astype(">u8").tobytes(), "big")
    return values


def _missing(chunk: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.is_null(chunk).to_numpy(zero_copy_only=False)
    return found


def _blank(words: Words, good: NDArray[np.bool_], missing: NDArray[np.bool_]) -> None:
    words[missing] = 0
    good[missing] = False


def _text_or_bytes(array: pa.Array) -> tuple[arrow.Offsets, NDArray[np.uint8], bool]:
    """Offsets and content of an array, and whether it is text.

    Raises:
        BacktestError: it is of another type.
    """
    kind = array.type
    if pa.types.is_null(kind):
        array = array.cast(pa.large_string())
    elif pa.types.is_fixed_size_binary(kind):
        array = array.cast(pa.binary())
    kind = array.type
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not is_large and not pa.types.is_binary(kind):
        raise BacktestError(f"a column of {kind} contains neither text nor bytes")
    width = np.dtype(np.int64 if is_large else np.int32)
    _, offsets, data = array.buffers()
    if len(array) == 0:
        return np.zeros(1, width), _NO_BYTES, is_text
    positions = np.frombuffer(offsets, width, len(array) + 1, width.itemsize * array.offset)
    content = _NO_BYTES if data is None or not data.size else np.frombuffer(data, np.uint8)
    return positions, content, is_text
