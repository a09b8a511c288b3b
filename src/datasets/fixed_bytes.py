"""Between Arrow's columns of fixed-size bytes, such as addresses, and numbers or text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def words_of(array: pa.Array) -> NDArray[np.uint64]:
    """Values of 32 bytes as four words each, the most significant first."""
    return _bytes_of(array).view(">u8").astype(np.uint64)


def floats_of(amounts: pa.Array) -> NDArray[np.float64]:
    """Each uint256 as Python's `float(int)` rounds it."""
    words = words_of(amounts)
    floats = words[:, -1].astype(np.float64)
    large = np.flatnonzero(words[:, :-1].any(axis=1))
    floats[large] = [float(number) for number in integers(amounts.take(pa.array(large)))]
    return floats


def integers(amounts: pa.Array) -> list[int]:
    """Each uint256, exact."""
    return [int.from_bytes(amount) for amount in amounts.to_pylist()]


def hex_column(array: pa.Array) -> pa.Array:
    """The values as `0x` and lowercase hex digits."""
    content = _bytes_of(array)
    text = np.full((len(array), 2 * content.shape[1] + 2), ord("0"), np.uint8)
    text[:, 1] = ord("x")
    text[:, 2:] = np.frombuffer(content.tobytes().hex().encode(), np.uint8).reshape(
        text[:, 2:].shape
    )
    offsets = np.arange(len(array) + 1, dtype=np.int64) * text.shape[1]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    found = pa.Array.from_buffers(pa.large_string(), len(array), buffers)
    return pc.if_else(array.is_valid(), found, None) if array.null_count else found


def numbered(array: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    """The number of each value, by order of first appearance, and the values by number."""
    encoded = array.dictionary_encode()
    return np.array(encoded.indices, np.int32), encoded.dictionary


def distinct_rows(rows: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The number of each row, and the rows by number; equal are those with the same bits."""
    width = rows.dtype.itemsize * rows.shape[1]
    buffers = [None, pa.py_buffer(np.ascontiguousarray(rows))]
    number, distinct = numbered(
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), buffers)
    )
    return number, _bytes_of(distinct).view(np.float64)


def _bytes_of(array: pa.Array) -> NDArray[np.uint8]:
    """One row a value; what is null means nothing."""
    width = array.type.byte_width
    content = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    return content[array.offset * width :][: len(array) * width].reshape(len(array), width)
