"""The storage of models and data sets: a local folder or an S3 bucket, chosen by `STORE_URL`.

It has one write operation: `create` atomically writes a new object or reports that its name is
taken, also with concurrent writers. Nothing is ever overwritten or deleted.
"""

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from src.files import only_hosts, read_file, reason

STORE_VARIABLE = "STORE_URL"
NO_STORE = f"no store: set {STORE_VARIABLE} to a folder or s3://bucket/prefix"
CONTENTS = ("models", "fraud", "data")
"""The folders at the top of a store."""

_MISTYPED = re.compile(r"[a-zA-Z][\w.+-]*:(?!//)|s3//")
"""`s3:/bucket` would be a folder of this machine."""

_PROTOCOLS = (None, "file", "local", "s3")
_TAKEN_CODES = frozenset({"PreconditionFailed", "412"})
_CONFLICT_CODES = frozenset({"ConditionalRequestConflict", "409"})
"""Another upload of the name is under way, and may yet fail."""

_ATTEMPTS = 5
_CONFLICT_SECONDS = 0.1  # longer with every attempt


class StoreError(RuntimeError):
    """The store is unusable. The message names the store without credentials."""


class ObjectTooLarge(StoreError):
    """An object is larger than any that belongs there."""


class StoreUrlError(StoreError):
    """No store is configured, or its URL cannot be one."""

    exit_code: ClassVar[int] = 2
    """Of a command: wrong usage (`cli.WRONG_USAGE`)."""


class Store:
    """Objects by name below one URL.

    Args:
        url: a folder (`/srv/models`, `file:///srv/models`) or a bucket (`s3://bucket/prefix`).
            Credentials, region and endpoint of S3 come from the environment (`AWS_ACCESS_KEY_ID`,
            `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, ...) or the machine's role.

    Raises:
        StoreUrlError: the URL is not a usable store.
    """

    def __init__(self, url: str) -> None:
        if not url.strip():
            raise StoreUrlError(NO_STORE)
        if _MISTYPED.match(url):
            raise StoreUrlError(
                f"{STORE_VARIABLE} must be a folder or s3://bucket/prefix; is a slash missing?"
            )
        host = urlsplit(url).netloc
        if "@" in host:
            raise StoreUrlError(
                "the store's URL contains credentials: pass them in AWS_... variables"
            )
        try:
            protocol = fsspec.core.split_protocol(url)[0]
            if protocol not in _PROTOCOLS:
                raise StoreUrlError(
                    f"{STORE_VARIABLE} must be a folder or s3://bucket/prefix, not {protocol}://"
                )
            # fsspec takes file://host/folder for a folder below the present one, s3:// for the list
            # of all buckets, and "::" for one file system upon another.
            if bool(host) != (protocol == "s3") or "::" in url:
                raise StoreUrlError(
                    f"{STORE_VARIABLE} must be file:///folder or s3://bucket/prefix"
                )
            # A listing cached by fsspec would hide new objects of other processes.
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError, OSError) as error:
            raise StoreUrlError(f"the store's URL cannot be used: {_words(error)}") from None
        self._is_local = isinstance(self._files, LocalFileSystem)
        self.name = f"{self._protocol()}{self._root}"

    def holds_anything(self) -> bool:
        """Whether there are models or data sets: an empty place is rather a mistyped URL.

        Raises:
            StoreError: this is unknown.
        """
        return any(self.children(folder) for folder in CONTENTS)

    def create(self, name: str, content: bytes) -> bool:
        """Write a new object atomically; False if the name is taken.

        Raises:
            StoreError: the store cannot be written.
        """
        path = self._path(name)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if self._is_local:
                    return _create_file(Path(path), content)
                self._files.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            except Exception as error:  # noqa: BLE001  every layer below S3 raises its own
                if _is_answer(error, _TAKEN_CODES):
                    return False
                if attempt == _ATTEMPTS or not _is_answer(error, _CONFLICT_CODES):
                    problem = f"{self.name}/{name} cannot be written: {_words(error)}"
                    raise StoreError(problem) from None
                time.sleep(attempt * _CONFLICT_SECONDS)
            else:
                return True
        raise AssertionError("the last attempt returns or raises")

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of an object of at most `max_bytes`: a larger one would fill the memory.

        Raises:
            FileNotFoundError: it does not exist.
            ObjectTooLarge: it is larger.
            StoreError: the store cannot be read.
        """
        path = self._path(name)
        try:
            if self._files.size(path) > max_bytes:
                raise ObjectTooLarge(f"{self.name}/{name} is larger than {max_bytes:,} bytes")
            if self._is_local:
                return read_file(Path(path), max_bytes)
            content: bytes = self._files.cat_file(path)
        except ObjectTooLarge:
            raise
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.name}/{name}") from None
        except Exception as error:  # noqa: BLE001  as in `create`
            raise StoreError(f"{self.name}/{name} cannot be read: {_words(error)}") from None
        return content

    def children(self, folder: str) -> list[str]:
        """Names directly below a folder, sorted; empty if the folder does not exist.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            found = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001  as in `create`
            raise StoreError(f"{self.name}/{folder} cannot be listed: {_words(error)}") from None
        names = {PurePosixPath(path).name for path in found}
        return sorted(name for name in names if not name.startswith("."))

    def _path(self, name: str) -> str:
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise StoreError(f"{name!r} is not a name within the store")
        return f"{self._root}/{name}"

    def _protocol(self) -> str:
        protocol = self._files.protocol
        first = protocol if isinstance(protocol, str) else protocol[0]
        return "" if self._is_local else f"{first}://"


def open_store(url: str, *, new: bool = False) -> Store:
    """The store at a URL, which may be empty only if it is `new`.

    Raises:
        StoreError: it is unusable, or there is nothing in it.
    """
    store = Store(url)
    if not new and not store.holds_anything():
        raise StoreError(
            f"there is no store at {store.name}: check the URL, or create one with "
            "`npm run models -- add . --promote`"
        )
    return store


def _create_file(path: Path, content: bytes) -> bool:
    """Write a file under a temporary name, then link it to its name unless that is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
    return True


def _is_answer(error: BaseException, codes: frozenset[str]) -> bool:
    """Whether an S3 error, or its cause, has one of these codes, or such a status."""
    seen: BaseException | None = error
    while seen is not None:
        response: Any = getattr(seen, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code", ""))
            status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            if not codes.isdisjoint((code, status)):
                return True
        seen = seen.__cause__ or seen.__context__
    return False


def _words(error: BaseException) -> str:
    """An error's message on one line, truncated; S3's quotes AWS_ENDPOINT_URL."""
    return only_hosts(reason(error))[:200]
