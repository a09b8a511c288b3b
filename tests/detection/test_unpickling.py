"""Model files that carry code, each with a manifest forged to match: nothing in them is run.

Every file is loaded in a process that watches: Python's audit events tell of each import, opened
file, started process and compiled text, whoever caused it, so that a gadget which nobody thought of
here is noticed as well.
"""

import builtins
import codecs
import copyreg
import functools
import hashlib
import importlib
import json
import operator
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from src.detection.bundle_files import manifest_path
from src.detection.errors import ModelMalformed
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.forest_file import read_forest
from src.detection.forest.model import load_model
from tests.support.forests import fitted, training_rows

ROOT = Path(__file__).resolve().parents[2]
Witness = Callable[[Path], Any]


class Reduced:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self._parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self._parts

    def __call__(self) -> None:
        """For pickle, which wants functions to be callable: what a call returns may be one."""


def touching(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def object_array(path: Path) -> np.ndarray:
    held = np.empty(1, dtype=object)
    held[0] = Reduced(os.system, f"touch {path}")
    return held


def in_an_honest_forest(path: Path, place: str) -> IsolationForest:
    model = fitted(training_rows(n=300), n_estimators=2, max_samples=16)
    bomb = Reduced(os.system, f"touch {path}")
    if place == "attribute":
        model.n_features_in_ = bomb
    elif place == "key":
        model.__dict__[bomb] = 1
    elif place == "tree":
        model.estimators_[0].tree_ = bomb
    else:
        model.estimators_features_[0] = object_array(path)
    return model


def closure(path: Path) -> Callable[[], None]:
    def run() -> None:
        path.write_text("ran")

    return run


class Imported:
    """A class of this test's own, which dill writes out with its code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: Any) -> None:
        Path(state["path"]).write_text("ran")


GADGETS: dict[str, Witness] = {
    "os.system": lambda path: Reduced(os.system, f"touch {path}"),
    "os.popen": lambda path: Reduced(os.popen, f"touch {path}"),
    "subprocess": lambda path: Reduced(subprocess.check_call, ["touch", str(path)]),
    "exec": lambda path: Reduced(exec, touching(path)),
    "eval": lambda path: Reduced(eval, touching(path)),
    "compile": lambda path: Reduced(compile, touching(path), "x", "exec"),
    "getattr chain": lambda path: Reduced(
        Reduced(getattr, Reduced(importlib.import_module, "os"), "system"), f"touch {path}"
    ),
    "attrgetter": lambda path: Reduced(
        Reduced(Reduced(operator.attrgetter, "system"), os), f"touch {path}"
    ),
    "methodcaller": lambda path: Reduced(
        Reduced(operator.methodcaller, "system", f"touch {path}"), os
    ),
    "partial": lambda path: Reduced(functools.partial(os.system, f"touch {path}")),
    "__import__": lambda path: Reduced(getattr, Reduced(builtins.__import__, "os"), "system"),
    "open": lambda path: Reduced(open, str(path), "w"),
    "numpy object array": object_array,
    "numpy load": lambda path: Reduced(np.load, str(path.with_suffix(".npy"))),
    "numpy memmap": lambda path: Reduced(np.memmap, str(path), "u1", "w+", 0, (1,)),
    "numpy fromfile": lambda path: Reduced(np.fromfile, "/etc/hostname"),
    "numpy save": lambda path: Reduced(np.save, str(path), 1),
    "codecs": lambda path: Reduced(codecs.open, str(path), "w"),
    "reconstructor": lambda path: Reduced(copyreg._reconstructor, Imported, object, None),
    "dill function": lambda path: dill_bytes(closure(path)),
    "dill lambda": lambda path: dill_bytes(lambda: path.write_text("ran")),
    "dill class": lambda path: dill_bytes(Imported(path), byref=False, recurse=True),
    "dill eval": lambda path: Reduced(dill._dill._eval_repr, touching(path)),
    "dill import": lambda path: Reduced(dill._dill._import_module, "antigravity"),
    "dill attribute": lambda path: Reduced(
        Reduced(dill._dill._getattribute, os, "system"), f"touch {path}"
    ),
    "dill file handle": lambda path: Reduced(
        dill._dill._create_filehandle, str(path), "w", 0, False, open, False, 0, b""
    ),
    "dill type": lambda path: Reduced(dill._dill._create_type, type, "T", (object,), {}),
    "in a forest's attribute": lambda path: in_an_honest_forest(path, "attribute"),
    "in a forest's key": lambda path: in_an_honest_forest(path, "key"),
    "in a forest's tree": lambda path: in_an_honest_forest(path, "tree"),
    "in a forest's array": lambda path: in_an_honest_forest(path, "array"),
}


class Raw(bytes):
    """A pickle's own bytes."""


def dill_bytes(value: Any, **options: Any) -> Raw:
    return Raw(dill.dumps(value, **options))


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


# Programs that no pickler writes: `path` stands for the file that a gadget would make.
PROGRAMS: dict[str, Callable[[str], bytes]] = {
    "GLOBAL": lambda path: b"cos\nsystem\n(Vtouch " + path.encode() + b"\ntR.",
    "INST": lambda path: b"(Vtouch " + path.encode() + b"\nios\nsystem\n.",
    "OBJ": lambda path: b"(cos\nsystem\nVtouch " + path.encode() + b"\no.",
    "STACK_GLOBAL": lambda path: (
        b"\x80\x04" + text("os") + text("system") + b"\x93(" + text(f"touch {path}") + b"tR."
    ),
    "dotted name in an allowed module": lambda path: (
        b"\x80\x04" + text("numpy") + text("ndarray.__class__.__base__") + b"\x93."
    ),
    "dotted way out of dill": lambda path: (
        b"\x80\x04" + text("dill._dill") + text("_create_array.__globals__") + b"\x93."
    ),
    "persistent id": lambda path: b"Pos.system\n.",
    "extension": lambda path: b"\x82\x01.",
    "NEWOBJ": lambda path: b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)\x81.",
    "BUILD of an allowed function": lambda path: (
        b"\x80\x04" + text("dill._dill") + text("_create_array") + b"\x93N}" + text("__defaults__")
        + b"(K\x07tsb\x86."
    ),
    "slots of an allowed function": lambda path: (
        b"\x80\x04" + text("dill._dill") + text("_create_array") + b"\x93N}" + text("__defaults__")
        + b"K\x07\x85s\x86b."
    ),
    "attributes of an allowed function": lambda path: (
        b"\x80\x04" + text("numpy._core.multiarray") + text("scalar") + b"\x93}" + text("x")
        + b"K\x07sb."
    ),
    "slots of an allowed class": lambda path: (
        b"\x80\x04" + text("numpy") + text("dtype") + b"\x93N}" + text("resolve") + b"K\x07s\x86b."
    ),
}  # fmt: skip

_LOADER = """
import encodings.raw_unicode_escape, functools, importlib.metadata, json, sys
from pathlib import Path
from src.detection.errors import ModelError
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model

# Looks for scikit-learn's version in files: once, before anything is watched.
importlib.metadata.version = functools.cache(importlib.metadata.version)
model = Path(sys.argv[1])
seen = []
watched = ("os.", "subprocess.", "socket.", "shutil.", "exec", "compile", "import", "open",
           "pickle.find_class", "ctypes.", "marshal.")
def watch(event, arguments):
    if watching and event.startswith(watched):
        seen.append(f"{event} {arguments!r}"[:300])
watching = False
try:
    load_model(model, FEATURE_NAMES)  # the honest one: lazy imports are over
except ModelError as error:
    sys.exit(f"the honest model was refused: {error}")
sys.addaudithook(watch)
outcomes = {}
for path in sorted(model.parent.glob("bad-*/isolation_forest.pkl")):
    seen.clear()
    watching = True
    try:
        load_model(path, FEATURE_NAMES)
        said = "LOADED"
    except ModelError as error:
        said = f"{type(error).__name__}: {error}"
    except BaseException as error:
        said = f"ESCAPED {type(error).__name__}: {error}"
    watching = False
    own = (str(path), str(path.with_suffix(".manifest.json")))
    outcomes[path.parent.name] = said, [
        event for event in seen
        if not (event.startswith("open ") and any(name in event for name in own))
    ]
load_model(model, FEATURE_NAMES)  # and nothing that was refused changed the reader
print(json.dumps(outcomes))
"""


def content_of(made: Any) -> bytes:
    if isinstance(made, Raw):
        return bytes(made)
    return dill.dumps(made, protocol=4)


def forge(bundle: Path, folder: Path, content: bytes) -> None:
    """Put a file where a model is expected, with a manifest that vouches for it."""
    folder.mkdir()
    (folder / bundle.name).write_bytes(content)
    manifest = json.loads(manifest_path(bundle).read_text())
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    manifest_path(folder / bundle.name).write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def outcomes(
    bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, list[str], bool]]:
    """What loading each forged file said, what it caused, and whether it made its file."""
    folder = tmp_path_factory.mktemp("gadgets")
    model = folder / bundle_path.name
    shutil.copy(bundle_path, model)
    shutil.copy(manifest_path(bundle_path), manifest_path(model))
    names: dict[str, str] = {}
    made: dict[str, Path] = {}
    contents: dict[str, Callable[[Path], bytes]] = {
        **{name: (lambda p, g=gadget: content_of(g(p))) for name, gadget in GADGETS.items()},
        **{name: (lambda p, g=program: g(str(p))) for name, program in PROGRAMS.items()},
    }
    for number, (name, content) in enumerate(contents.items()):
        place = f"bad-{number:03d}"
        names[place], made[name] = name, folder / f"witness-{number}"
        forge(model, folder / place, content(made[name]))
    child = subprocess.run(
        [sys.executable, "-c", _LOADER, str(model)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    said = json.loads(child.stdout)
    return {
        name: (*said[place], bool(list(folder.glob(f"{made[name].name}*"))))
        for place, name in names.items()
    }


@pytest.mark.parametrize("name", [*GADGETS, *PROGRAMS])
def test_nothing_in_a_forged_model_is_run(
    outcomes: dict[str, tuple[str, list[str], bool]], name: str
) -> None:
    said, caused, made = outcomes[name]
    assert not made
    assert [event for event in caused if not event.startswith("pickle.find_class")] == []
    assert said.startswith("ModelMalformed: ")
    assert len(said) < 300


def test_the_gadgets_would_run_where_anything_is_unpickled(tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    worked = 0
    for number, name in enumerate(("os.system", "exec", "getattr chain", "numpy object array")):
        path = tmp_path / str(number)
        dill.loads(content_of(GADGETS[name](path)))
        worked += path.exists()
    path = tmp_path / "program"
    pickle.loads(PROGRAMS["INST"](str(path)))
    assert worked == 4
    assert path.exists()


def test_an_honest_file_names_nothing_but_what_is_known(bundle_path: Path) -> None:
    """The list of names is no longer than a forest needs."""
    from src.detection.forest.forest_file import _ALLOWED

    strings: list[str] = []
    names = set()
    for opcode, argument, _ in pickletools.genops(bundle_path.read_bytes()):
        if isinstance(argument, str):
            strings.append(argument)
        if opcode.name == "STACK_GLOBAL":
            names.add(strings[-1])
    assert {name for _, name in _ALLOWED} >= names
    assert len(_ALLOWED) == 8


def test_a_refused_file_leaves_the_reader_as_it_was(bundle_path: Path) -> None:
    """A function of the reader's own that a file could change would stay changed."""
    for name in ("slots of an allowed function", "attributes of an allowed function"):
        with pytest.raises(ModelMalformed, match="changes a function"):
            read_forest(PROGRAMS[name]("x"))
    assert load_model(bundle_path, FEATURE_NAMES).version == "1650000000"
