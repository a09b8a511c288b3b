"""Plain numbers from an .npz file: read without unpickling, checked for type and shape."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.detection.errors import ModelMalformed

_MAX_UNPACKED_BYTES = 512 * 2**20

Arrays = Mapping[str, NDArray[Any]]


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in the bytes of an .npz file, by name. Nothing in them is ever run.

    Raises:
        ModelMalformed: not an .npz file of plain numbers.
    """
    try:
        # allow_pickle=False: an array of objects would be a pickle.
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > _MAX_UNPACKED_BYTES:
                raise ValueError  # a few bytes unpack to any number
            return {name: file[name] for name in file.files}
    # Bytes that are no .npz make numpy, zipfile and zlib raise nearly anything.
    except Exception as error:
        raise ModelMalformed(
            f"the model file is not an .npz file of plain numbers ({type(error).__name__})"
        ) from error


def floats(arrays: Arrays, name: str, dimensions: int = 1) -> NDArray[np.float64]:
    """An array of finite float64 numbers.

    Raises:
        ModelMalformed: it is missing, of another type or shape, or not finite.
    """
    values = _array(arrays, name, dimensions)
    if values.dtype != np.float64 or not np.isfinite(values).all():
        raise ModelMalformed(f"the array {name} is not of finite float64 numbers")
    return values


def ints(arrays: Arrays, name: str) -> NDArray[np.int64]:
    """A one-dimensional array of int64 numbers; raises as `floats` does."""
    values = _array(arrays, name, 1)
    if values.dtype != np.int64:
        raise ModelMalformed(f"the array {name} is not of int64 numbers")
    return values


def _array(arrays: Arrays, name: str, dimensions: int) -> NDArray[Any]:
    try:
        values = arrays[name]
    except KeyError:
        raise ModelMalformed(f"the array {name} is missing") from None
    if values.ndim != dimensions:
        raise ModelMalformed(f"the array {name} has {values.ndim} dimensions")
    return values
