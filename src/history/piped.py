"""An export from a pipe: `--data -`."""

import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from src.datasets.tables import TableError, check_growth

PIPE: Final = "-"
_NAME = "standard input"
_ITEMS = ("transaction", "token_transfer", "log", "block", "trace", "contract", "token")
"""What a line of `ethereumetl stream` may be."""


@contextmanager
def unpiped(source: str, out: Path) -> Iterator[str]:
    """The source, or where it is `-` a folder in `out` with what standard input holds.

    An import reads its files several times, and parquet from its end, which no pipe can give. A
    tar archive becomes its files, and the lines of `ethereumetl stream` a file for each table.

    Raises:
        TableError: nothing is piped in.
        OSError: the disk failed.
    """
    if source != PIPE:
        yield source
        return
    if sys.stdin.isatty():
        raise TableError("--data -: nothing is piped in")
    folder = out / ".stdin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        path = folder / _NAME
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                archive.extractall(folder, _bounded(archive, path.stat().st_size), filter="data")
            path.unlink()
        elif _has_items(path):
            _split(path)
            path.unlink()
        yield str(folder)
    except TableError as error:
        raise TableError(str(error).replace(f"{folder}/", "").replace(str(folder), _NAME)) from None
    except tarfile.TarError as error:
        raise TableError(f"{_NAME}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bounded(archive: tarfile.TarFile, packed: int) -> Iterator[tarfile.TarInfo]:
    """The members of an archive of this size, before each is unpacked."""
    unpacked = 0
    for member in archive:
        unpacked += member.size + tarfile.BLOCKSIZE
        check_growth(_NAME, packed, unpacked)
        yield member


def _has_items(path: Path) -> bool:
    """Whether the first line is one of `ethereumetl stream`."""
    with path.open("rb") as lines:
        try:
            return json.loads(lines.readline(2**20))["type"] in _ITEMS
        except (ValueError, TypeError, KeyError):
            return False


def _split(path: Path) -> None:
    with path.open("rb") as lines, ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for number, line in enumerate(lines, 1):
            try:
                kind = json.loads(line)["type"]
                if kind not in _ITEMS:
                    raise ValueError(f"type {kind!r}")
            except (ValueError, TypeError, KeyError) as error:
                raise TableError(f"{path}: line {number} is no item of a stream: {error}") from None
            if kind not in files:
                files[kind] = stack.enter_context((path.parent / f"{kind}s.jsonl").open("wb"))
            files[kind].write(line)
