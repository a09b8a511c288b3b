"""Atomic file writes, bounded reads, and readable messages for file errors.

An output path may also be a special file, such as `/dev/stdout` or a named pipe. Renaming a file
over it would replace it, so it is written as a stream.
"""

import errno
import gzip
import json
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

UNFINISHED = ".unfinished-"
"""Prefix of the names of unfinished files, which a kill can leave behind."""

MAX_UNPACKED_BYTES = 256 * 2**20
"""Of a small table: four million tokens with their symbols."""

# Exported hashes, which are random, keep packed CSV and JSON below 30 times.
_MAX_GROWTH = 100
_MIN_BOMB_BYTES = 256 * 2**20
_MIN_ROW_BYTES = 20  # of an address

_STANDARD_STREAMS = (1, 2)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*")


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically; creates missing folders.

    A device, a pipe, or the target of standard output is written as a stream.

    Raises:
        OSError: writing failed; the error names `path`.
    """
    with _naming(path):
        stream = _open_stream(path)
        if stream is not None:
            with os.fdopen(stream, "wb") as file:
                file.write(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content)


def read_file(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`.

    Other kinds are refused before they are read: a named pipe blocks the reader for ever, and a
    device such as `/dev/zero` has no end.

    Raises:
        OSError: it cannot be read, is not a regular file, or is too large; the error names `path`.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Is not a regular file", str(path))
        content = file.read(max_bytes + 1) if status.st_size <= max_bytes else None
    if content is None or len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"Is larger than {max_bytes:,} bytes", str(path))
    return content


def bomb(packed: int, unpacked: int) -> str:
    """What is wrong with a file that unpacks to so many bytes, "" if nothing is."""
    if unpacked <= max(_MAX_GROWTH * packed, _MIN_BOMB_BYTES):
        return ""
    return (
        f"unpacks to more than {_MAX_GROWTH} times its {packed:,} bytes, which only a file does "
        "that is made to exhaust the reader"
    )


def parquet_bytes(metadata: Any) -> int:
    """The unpacked size of a parquet file, of which equal rows take next to nothing."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    unpacked: int = sum(group.total_byte_size for group in groups)
    return max(unpacked, _MIN_ROW_BYTES * int(metadata.num_rows))


def read_gzip(path: Path, max_bytes: int = MAX_UNPACKED_BYTES) -> bytes:
    """What a gzip file unpacks to, of at most `max_bytes`: a few bytes unpack to any number.

    Raises:
        OSError: it cannot be read, or is larger; the error names `path`.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(max_bytes + 1)
    except (EOFError, zlib.error) as error:
        raise OSError(errno.EIO, f"Is damaged ({error})", str(path)) from error
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"Unpacks to more than {max_bytes:,} bytes", str(path))
    return content


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path, which is renamed to the regular file `path` if the block succeeds.

    The content is synced to disk before the rename. The permissions of an existing file are kept;
    a symbolic link keeps its target.

    Raises:
        OSError: writing failed; no partial file is left behind, and the error names `path`.
    """
    with _naming(path):
        target = Path(os.path.realpath(path))
        if _status(target) is not None and not target.is_file():
            raise OSError(errno.EINVAL, "Is not a regular file", str(path))
        unfinished = target.with_name(f"{UNFINISHED}{uuid4().hex}")
        try:
            yield unfinished
            if (before := _status(target)) is not None:
                unfinished.chmod(stat.S_IMODE(before.st_mode))
            sync(unfinished)
            unfinished.replace(target)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        sync(target.parent)


def sync(path: Path) -> None:
    """Sync this file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_output_file(path: Path) -> None:
    """Raise the OSError that `write_file` would raise, as far as it can be detected in advance."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder, not a file", str(path))
    if path.exists() and not path.is_file():
        if not _may(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    check_output_folder(Path(os.path.realpath(path)).parent, named=path)


def check_output_folder(path: Path, *, named: Path | None = None) -> None:
    """Raise the OSError that writing into a folder would raise; creates a missing folder.

    Args:
        path: the folder.
        named: the path that the error names; None for the folder.
    """
    shown = str(named or path)
    existing = path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{existing} is not a folder", shown)
    if not _may(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), shown)


def only_hosts(text: str) -> str:
    """The text with each URL in it shortened to scheme and host: all else may be a key."""

    def shortened(found: re.Match[str]) -> str:
        try:
            parts = urlsplit(found[0])
            return f"{parts.scheme}://{parts.hostname or ''}"
        except ValueError:
            return "a URL"

    return _URL.sub(shortened, text)


def reason(error: BaseException) -> str:
    """An exception's message on one line, in plain words.

    Omits the path of an OSError: the caller states the path that the user gave.
    """
    if isinstance(error, OSError) and error.errno and error.strerror:
        # pyarrow's messages include internals and paths.
        return os.strerror(error.errno) if "Detail:" in error.strerror else error.strerror
    if isinstance(error, UnicodeError):
        return "not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON (line {error.lineno}, column {error.colno})"
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    if isinstance(error, TypeError | AttributeError):
        return "of an unexpected form"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split()) or type(error).__name__


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a pipe for reading waits for a writer otherwise."""
    return os.open(path, flags | os.O_NONBLOCK)


def _open_stream(path: Path) -> int | None:
    """A descriptor to write a stream to, or None where `path` is to be a regular file."""
    status = _status(path)
    if status is None:
        return None
    for number in _STANDARD_STREAMS:
        # Opening a redirected /dev/stdout again would overwrite what was printed.
        with suppress(OSError):
            if os.path.samestat(status, os.fstat(number)):
                sys.stdout.flush()
                return os.dup(number)
    if stat.S_ISREG(status.st_mode):
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a folder, not a file", str(path))
    return os.open(path, os.O_WRONLY)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name the given path instead of the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
