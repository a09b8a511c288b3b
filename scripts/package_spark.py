"""The code of a Spark job as two archives: `npm run package:spark -- --out DIR`."""

import ast
import subprocess
import sys
import tarfile
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

from src import cli

ROOT = Path(__file__).resolve().parents[1]
_JOB = ("src.backtest.spark", "src.history.spark")
_FILES = """\
import sys, {job}
print(*(m.__file__ for name, m in sys.modules.items() if name.startswith("src.")), sep="\\n")
"""
_ON_WORKERS = {"pyspark"}
_VERSION_ONLY = {"scikit-learn"}
"""A model's is compared with it; the code is not run."""
_LEFT_OUT = {"__pycache__", "tests", "include"}
_GZIP_LEVEL = 1
_KERNELS = {".nbi", ".nbc"}
"""Compiled, which takes each worker half a minute where its processor is another one."""
_DESCRIPTION = """\
Write project.tar.gz and dependencies.tar.gz: what `--engine spark --archives DIR` sends to machines
that have Spark and the same version of Python, and nothing of this project.
"""
_EPILOG = """\
example:
  npm run package:spark -- --out archives
  npm run backtest -- --data s3://bucket/eth --out /mnt/runs/all --engine spark \\
    --master spark://head:7077 --archives archives

exit codes: 0 written, 1 failed, 2 wrong usage.
"""


@cli.command("package:spark")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = cli.parser("package:spark", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "--out", type=cli.output_folder, required=True, metavar="DIR", help="their folder"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    from src.history.spark import DEPENDENCIES_ARCHIVE, PROJECT_ARCHIVE  # noqa: PLC0415

    _write(options.out / PROJECT_ARCHIVE, {ROOT / name: name for name in _code()})
    _write(options.out / DEPENDENCIES_ARCHIVE, _dependencies())
    for name in (PROJECT_ARCHIVE, DEPENDENCIES_ARCHIVE):
        path = options.out / name
        sys.stdout.write(f"{path}: {path.stat().st_size / 1e6:.0f} MB\n")
    return 0


def _code() -> list[Path]:
    names = [path.relative_to(ROOT) for path in (ROOT / "src").rglob("*") if path.is_file()]
    return [name for name in names if name.suffix in _KERNELS or _LEFT_OUT.isdisjoint(name.parts)]


def _imported() -> set[str]:
    """The modules that the code of the job imports, whether or not it is ours."""
    text = _FILES.format(job=", ".join(_JOB))
    paths = subprocess.run(  # noqa: S603  this interpreter
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = set()
    for node in (node for path in paths for node in ast.walk(ast.parse(Path(path).read_text()))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _dependencies() -> dict[Path, Path]:
    """The files of the packages that the job imports, and of all that they need."""
    of_module = packages_distributions()
    pending = {name for module in _imported() for name in of_module.get(module, ())}
    pending = pending - _ON_WORKERS | _VERSION_ONLY
    files: dict[Path, Path] = {}
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # not needed on this system
            continue
        is_code = name not in _VERSION_ONLY
        for file in found.files or ():
            if not is_code and file.name != "METADATA":
                continue
            path = Path(str(file.locate()))
            if ".." not in file.parts and _LEFT_OUT.isdisjoint(file.parts) and path.is_file():
                files[path] = Path(*file.parts)
        for text in (found.requires or ()) if is_code else ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                pending.add(needed.name)
        pending -= seen
    return files


def _write(path: Path, files: dict[Path, Path]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=_GZIP_LEVEL) as archive:
        for file, name in sorted(files.items(), key=lambda item: item[1]):
            archive.add(file, name)


if __name__ == "__main__":
    sys.exit(main())
