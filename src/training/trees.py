"""scikit-learn's trees as plain arrays, and arrays as the bytes of an .npz file."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def tree_columns(trees: Sequence[Any]) -> Arrays:
    """The structure of fitted trees (`estimator.tree_`), as `detection.trees` reads it."""
    sizes = [tree.node_count for tree in trees]
    return {
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "left": np.concatenate([tree.children_left for tree in trees]).astype(np.int64),
        "right": np.concatenate([tree.children_right for tree in trees]).astype(np.int64),
        "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
    }


def npz_bytes(arrays: Arrays) -> bytes:
    """The bytes of an .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()  # numpy stamps no time into the archive
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
