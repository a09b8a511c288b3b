"""Between Arrow's columns, words and text."""

import os

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from src.backtest.kernels import words as loops

Words = NDArray[np.uint64]

SECRET = np.frombuffer(os.urandom(32), np.uint64) | np.uint64(1)
"""For the hashes of the kernels, see `accounts.number_accounts`."""
_SEED = SECRET[0]
_WORD = 8  # bytes


def words_of(array: pa.Array) -> Words:
    """Values of a fixed number of bytes, right-aligned; what is null means nothing."""
    n_bytes = array.type.byte_width
    width = -(-n_bytes // _WORD)
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros((len(array), width), np.uint64)
    content = np.frombuffer(buffer, np.uint8)[array.offset * n_bytes :][: len(array) * n_bytes]
    content = content.reshape(len(array), n_bytes)
    if n_bytes % _WORD:
        padded = np.zeros((len(array), width * _WORD), np.uint8)
        padded[:, width * _WORD - n_bytes :] = content
        content = padded
    return content.view(">u8").astype(np.uint64)


def numbered(words: Words) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number of each row in order of first appearance, and the first row of each number."""
    return loops.number_rows(np.ascontiguousarray(words), _SEED)


def hex_column(words: Words, n_bytes: int) -> pa.Array:
    """The values as a column of hex text."""
    text = loops.hex_text(np.ascontiguousarray(words), n_bytes)
    offsets = np.arange(len(words) + 1, dtype=np.int64) * (2 * n_bytes + 2)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.large_string(), len(words), buffers)


def hex_texts(words: Words, n_bytes: int) -> list[str]:
    """The values as hex text."""
    text = loops.hex_text(np.ascontiguousarray(words), n_bytes).tobytes().decode("ascii")
    length = 2 * n_bytes + 2
    return [text[i : i + length] for i in range(0, len(text), length)]


def integers(words: Words) -> list[int]:
    """The values as Python's integers, exact."""
    values = [high << 64 | low for high, low in zip(*words[:, -2:].T.tolist(), strict=True)]
    for row in np.flatnonzero(words[:, :-2].any(axis=1)).tolist():
        values[row] = int.from_bytes(words[row].astype(">u8").tobytes(), "big")
    return values
