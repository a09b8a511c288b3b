"""The dill-serialised scikit-learn IsolationForest: writes it, and reads it without running it.

A pickle is a program: unpickling a swapped file runs whatever its author wrote, and unpickling an
honest one imports scikit-learn (4 s of CPU and 160 MB on the machines that this was measured on)
to obtain a few arrays. This reader does neither. It knows the eight names that a serialised forest
refers to, builds inert records for the estimators and real arrays for numbers, and refuses every
other name, so a tampered file cannot reach a callable.

scikit-learn remains the trainer and the judge: `bundle` compares the scores with golden rows that
scikit-learn computed, and the tests compare them on a hundred thousand rows.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src.detection.errors import ModelMalformed
from src.detection.forest.forest import Forest
from src.detection.trees.trees import LEAF, Trees

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest


class _Record:
    """Stands in for an estimator: keeps its attributes, has no behaviour."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, Mapping):
            raise ModelMalformed("an estimator's state is not a mapping")
        self.state = state


class _ForestRecord(_Record):
    pass


class _TreeEstimatorRecord(_Record):
    pass


class _TreeRecord(_Record):
    pass


class _DtypeRecord(_Record):
    """Stands in for a dtype: numpy trusts a pickled dtype's offsets and flags, we do not."""

    def __setstate__(self, state: Any) -> None:
        self.fields = state

    def resolve(self) -> np.dtype[Any]:
        code = self.args[0]
        if not isinstance(code, str):
            raise ModelMalformed("an array of a type without a name")
        if code in _PLAIN_DTYPES:
            dtype: np.dtype[Any] = np.dtype(code)
        elif code == f"V{_NODE_DTYPE.itemsize}" and tuple(self.fields[3]) == _NODE_DTYPE.names:
            dtype = _NODE_DTYPE
        else:
            raise ModelMalformed(f"an array of unexpected type {code!r}")
        return dtype.newbyteorder(">") if self.fields[1] == ">" else dtype


class _Array(_Record):
    """The name `numpy.ndarray`, which the file mentions as an argument only."""


# scikit-learn's tree node, field by field (sklearn/tree/_tree.pxd, struct Node).
_NODE_DTYPE = np.dtype(
    {
        "names": [
            "left_child",
            "right_child",
            "feature",
            "threshold",
            "impurity",
            "n_node_samples",
            "weighted_n_node_samples",
            "missing_go_to_left",
        ],
        "formats": ["<i8", "<i8", "<i8", "<f8", "<f8", "<i8", "<f8", "u1"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_PLAIN_DTYPES = frozenset({"f8", "f4", "i8", "i4", "u4", "u8", "u1", "b1"})


class _Function:
    """A function that a file may call and cannot change, as it could a plain one's defaults."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise ModelMalformed("the file changes a function: refused")


def _never(*_: Any) -> None:
    raise ModelMalformed("the file calls what is a name only: refused")


# Files hand it to `_create_array`.
_RECONSTRUCT = _Function(_never)


def _create_array(function: Any, _: Any, state: Any, attributes: Any = None) -> NDArray[Any]:
    """dill's constructor of an array, from numpy's state (version, shape, dtype, order, bytes)."""
    _version, shape, dtype, is_fortran, content = state
    if function is not _RECONSTRUCT or attributes or not isinstance(content, bytes):
        raise ModelMalformed("an array with unexpected contents")
    # Copied: a view of the pickle's bytes is read-only and would keep all of them alive.
    flat = np.frombuffer(content, dtype=dtype.resolve()).copy()
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _scalar(dtype: _DtypeRecord, content: bytes) -> Any:
    return np.frombuffer(content, dtype=dtype.resolve())[0]


_ALLOWED: Mapping[tuple[str, str], Callable[..., Any] | type] = {
    ("sklearn.ensemble._iforest", "IsolationForest"): _ForestRecord,
    ("sklearn.tree._classes", "ExtraTreeRegressor"): _TreeEstimatorRecord,
    ("sklearn.tree._tree", "Tree"): _TreeRecord,
    ("dill._dill", "_create_array"): _Function(_create_array),
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DtypeRecord,
}


_MAX_UNBUILT_LENGTH = 100  # c(n) of any number of rows that fits into memory


# What dill writes. It writes MEMOIZE, not PUT: ten bytes of that make the unpickler fill gigabytes.
_CHANGES = frozenset({"APPEND", "APPENDS", "BUILD", "SETITEM", "SETITEMS"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE"})
_GETS = frozenset({"BINGET", "LONG_BINGET"})
_OPCODES = _CHANGES | _TEXTS | _GETS | {
    "BINBYTES", "BINBYTES8", "BINFLOAT", "BININT", "BININT1", "BININT2", "EMPTY_DICT", "EMPTY_LIST",
    "EMPTY_TUPLE", "FRAME", "LONG1", "MARK", "MEMOIZE", "NEWFALSE", "NEWOBJ", "NEWTRUE", "NONE",
    "PROTO", "REDUCE", "SHORT_BINBYTES", "STACK_GLOBAL", "STOP", "TUPLE", "TUPLE1", "TUPLE2",
    "TUPLE3",
}  # fmt: skip
# What an honest file has once for each use: the contents of arrays, and what can hold them.
_UNSHARED = frozenset(
    {"BINBYTES", "BINBYTES8", "EMPTY_LIST", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
)


def _check_program(content: bytes) -> None:
    """Refuse a pickle that costs far more time, memory or stack than its size.

    It follows the unpickler's stack by the opcodes that made its values. Keys must be texts: the
    hash of shared tuples takes exponential time, that of deep ones overflows the C stack. Bytes
    that are shared would be copied into any number of arrays.

    Raises:
        ModelMalformed: it does, or uses what a forest does not need.
    """
    stack: list[str] = []
    marks: list[int] = []  # heights of the stack
    memo: list[str] = []
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name not in _OPCODES:
            raise ModelMalformed(f"the file uses {name}, which a forest does not need: refused")
        if name == "MEMOIZE":
            memo.append(stack[-1])
            continue
        made = memo[argument] if name in _GETS else name  # type: ignore[index]
        if name in _GETS and made in _UNSHARED:
            raise ModelMalformed("the file uses the content of an array twice: refused")
        if name == "MARK":
            marks.append(len(stack))
            continue
        if pickletools.markobject in opcode.stack_before:
            first = marks.pop()
        else:
            first = len(stack) - len(opcode.stack_before) + (name in _CHANGES)
        taken = stack[first:]
        del stack[first:]
        if name in {"SETITEM", "SETITEMS"} and not _TEXTS.issuperset(taken[::2]):
            raise ModelMalformed("the file has a key that is not a text: refused")
        if opcode.stack_after and name not in _CHANGES:
            stack.append(made)


class _ForestUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ModelMalformed(
                f"the file refers to {module}.{name}, which a forest does not need: refused"
            ) from None


def forest_content(forest: "IsolationForest") -> bytes:
    """The bytes of `dill.dump(forest)`; equal forests give equal bytes."""
    import dill  # noqa: PLC0415 - the reader must not need it

    file = io.BytesIO()
    pickler = dill.Pickler(file, protocol=4)
    # Without references to what was written before: they depend on which equal objects happen to
    # be one object.
    pickler.fast = True
    pickler.dump(forest)
    return file.getvalue()


def read_forest(content: bytes) -> Forest:
    """Read the bytes of `dill.dump(IsolationForest)`.

    Raises:
        ModelMalformed: not such a file, or it refers to anything that a forest does not need.
    """
    try:
        _check_program(content)
        forest = _ForestUnpickler(io.BytesIO(content)).load()
    except ModelMalformed:
        raise
    # Unpickling bytes that are not a pickle can raise nearly anything.
    except Exception as error:
        raise ModelMalformed(f"not a serialised forest ({type(error).__name__})") from error
    if not isinstance(forest, _ForestRecord):
        raise ModelMalformed("the file holds something else than an IsolationForest")
    try:
        return _forest(forest.state, len(content))
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        raise ModelMalformed(
            f"the forest lacks or garbles an attribute ({type(error).__name__}: {error}); "
            "was it fitted?"
        ) from error


def _forest(state: Mapping[str, Any], size: int) -> Forest:
    version, n_features = state["_sklearn_version"], int(state["n_features_in_"])
    if not isinstance(version, str):
        raise TypeError("the version of scikit-learn is not a text")
    nodes = [estimator.state["tree_"].state["nodes"] for estimator in state["estimators_"]]
    if not nodes:
        raise ValueError("no trees")
    if sum(map(len, nodes)) * _NODE_DTYPE.itemsize > size:
        raise ValueError("the trees have more nodes than the file can hold")
    subsets, depths = state["estimators_features_"], state["_decision_path_lengths"]
    unbuilt = state["_average_path_length_per_tree"]
    trees = [_columns(*one) for one in zip(nodes, subsets, depths, unbuilt, strict=True)]
    columns = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    offsets = np.cumsum([0, *map(len, nodes)])
    return Forest(
        Trees.from_columns(n_features, offsets=offsets, **columns),
        denominator=len(trees) * average_path_length(int(state["_max_samples"])),
        sklearn_version=version,
    )


def _columns(
    nodes: NDArray[Any],
    subset: NDArray[np.int64],
    depth: NDArray[np.float64],
    unbuilt: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """One tree as `Trees.from_columns` takes it, which checks that it is one.

    `subset` has the inputs that the tree was fitted on. A leaf adds its depth to a row's path
    length, and the average path length of an unbuilt subtree of as many rows as it holds (Liu,
    Ting, Zhou 2008, equation 1).
    """
    arrays = (nodes, subset, depth, unbuilt)
    if not all(isinstance(one, np.ndarray) and one.ndim == 1 for one in arrays):
        raise TypeError("a tree is not made of arrays")
    if not len(nodes) == len(depth) == len(unbuilt):
        raise ValueError("a tree's arrays differ in length")
    is_leaf = nodes["left_child"] == LEAF
    feature = np.where(is_leaf, 0, nodes["feature"])
    if (feature < 0).any() or (feature >= len(subset)).any():
        raise ValueError("a tree splits on a feature that does not exist")
    threshold = np.where(is_leaf, 0.0, nodes["threshold"])
    if not (np.abs(threshold) <= np.finfo(np.float32).max).all():
        raise ValueError("a threshold is not a number that a float32 input can be compared with")
    # In this order, as scikit-learn adds them: floating-point sums depend on it.
    with np.errstate(all="ignore"):  # infinities of a broken file are refused just below
        path_length = np.asarray(depth, dtype=np.float64) + unbuilt - 1.0
    if not ((path_length >= 0) & (path_length <= len(nodes) + _MAX_UNBUILT_LENGTH)).all():
        raise ValueError("a path length is impossible")
    return {
        "left": nodes["left_child"],
        "right": nodes["right_child"],
        "feature": subset[feature],
        "threshold": threshold,
        "value": path_length,
        "cover": nodes["weighted_n_node_samples"],
    }


def average_path_length(n_rows: int) -> float:
    """c(n): average path length of an unsuccessful search in a binary tree of n rows.

    Liu, Ting, Zhou, "Isolation Forest", ICDM 2008, equation 1, with the harmonic number as
    ln(n - 1) + Euler's constant, as scikit-learn computes it.
    """
    if n_rows <= 1:
        return 0.0
    if n_rows == 2:
        return 1.0
    return float(2.0 * (np.log(n_rows - 1.0) + np.euler_gamma) - 2.0 * (n_rows - 1.0) / n_rows)
