"""Each layer's lock file holds what its commands import."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.project.setup.project import LAYERS, ROOT

INPUTS = sorted((ROOT / "requirements").glob("*.in"))


@cache
def locked(layer: str) -> set[str]:
    text = (ROOT / LAYERS[layer]).read_text()
    return {normalised(name) for name in re.findall(r"^([\w.-]+)(?:\[.*\])?==", text, re.M)}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def source_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


@cache
def imports_of(source: Path) -> tuple[str, ...]:
    """The full names of what a file of ours imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def third_parties(module: str) -> dict[str, str]:
    """Packages that are imported anywhere below a module of ours, and by which module of ours."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    left = [module]
    while left:
        parts = left.pop().split(".")
        for name in (".".join(parts[: n + 1]) for n in range(len(parts))):
            source = source_of(name)
            if name in seen or source is None:
                continue
            seen.add(name)
            for imported in imports_of(source):
                top = imported.partition(".")[0]
                if (ROOT / top).is_dir():
                    left.append(imported)
                elif top not in sys.stdlib_module_names:
                    found.setdefault(top, name)
    return found


@cache
def providers() -> dict[str, set[str]]:
    """The distributions that are installed here, by the package that they bring."""
    found = packages_distributions().items()
    return {package: {normalised(one) for one in names} for package, names in found}


def commands_of_layers() -> list[tuple[str, str, str]]:
    """(npm script, layer, Python module) of every script that runs one of src."""
    found = [("forta-agent", "runtime", "src.agent")]
    for name, script in json.loads((ROOT / "package.json").read_text())["scripts"].items():
        match = re.match(r"node scripts/run.mjs (?:--needs (\w+) )?.*python -m (src\.\S+)", script)
        if match is not None:
            module = match[2]
            if source_of(f"{module}.__main__") is not None:
                module += ".__main__"
            found.append((name, match[1] or "runtime", module))
    return found


@pytest.mark.parametrize(("name", "layer", "module"), commands_of_layers())
def test_a_command_imports_what_its_layer_installs(name: str, layer: str, module: str) -> None:
    available = locked(layer)
    # Where these are missing, the command says how to install them.
    on_demand = {("pyspark", "src.history.spark"), ("s3fs", "src.downloads")}
    imported = third_parties(module).items() - on_demand
    missing = {
        package: by for package, by in imported if not providers().get(package, set()) & available
    }
    assert not missing, f"npm run {name}"


def test_each_layer_contains_the_one_before() -> None:
    assert locked("runtime") < locked("service") < locked("dev")


def test_the_audit_reads_every_lock_and_nothing_else(tmp_path: Path) -> None:
    """pip-audit refuses a file without hashes, so one such file would fail every audit."""
    audited = tmp_path / "audited"
    for name, script in {"pip-audit": f'echo "${{@: -1}}" >> {audited}', "npm": "true"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", ROOT / "scripts/audit.sh"], env={"PATH": path}, check=True)
    locks = {"requirements.txt", *(f"requirements/{file.stem}.txt" for file in INPUTS)}
    assert set(audited.read_text().split()) == locks - {"requirements/runtime.txt"}
