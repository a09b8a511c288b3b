"""Files by URL, wherever a path to a model or to data can be given.

`s3://bucket/key` takes credentials, region and endpoint from the environment (`AWS_...`), as the
store does. `https://host/file#sha256=<64 hex digits>` states the digest that the file must have,
since anybody may have put something else there; `s3://` may state one, too. What cannot be had, or
is something else, is an error: nothing falls back to another file.
"""

import functools
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urldefrag, urlsplit

from src.detection.bundle_files import (
    ATTACK_MODEL_FILE,
    DRIFT_FILE,
    REPORT_FILE,
    manifest_path,
)
from src.detection.signature import signature_path
from src.files import reason

FORMS: Final = "a file, s3://bucket/key, or https://host/file#sha256=<64 hex digits>"

_SCHEMES: Final = ("s3", "https", "http")
_DIGEST: Final = re.compile(r"sha256=([0-9a-f]{64})")
_TIMEOUT: Final = 600.0  # seconds of a whole answer
_PART_BYTES: Final = 1024 * 1024
_MAX_BYTES: Final = 8 * 1024**3
_MAX_REASON: Final = 200


class DownloadError(RuntimeError):
    """What a URL names cannot be had. The message names it without credentials and keys."""


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return "://" in text


def local_file(text: str) -> Path:
    """The path of a file, which is downloaded if a URL names it.

    Downloads last as long as the process; the same URL is downloaded once.

    Raises:
        DownloadError: it cannot be had, or has another digest.
    """
    return _downloaded(text) if is_url(text) else Path(text).expanduser()


def local_model(text: str) -> Path:
    """The path of a model file, beside it its manifest and what else belongs to it.

    That is the signature, the attack model, the drift reference, and a training's report.

    Raises:
        DownloadError: the model or its manifest cannot be had, or the model has another digest.
    """
    path = local_file(text)
    if not is_url(text):
        return path
    manifest = manifest_path(path)
    _beside(text, path.parent, manifest.name)
    attack = manifest_path(Path(ATTACK_MODEL_FILE))
    optional = [signature_path(manifest).name, DRIFT_FILE]
    if path.suffix == ".pkl":
        optional += [ATTACK_MODEL_FILE, attack.name, signature_path(attack).name]
    else:
        optional.append(REPORT_FILE)
    for name in optional:
        _beside(text, path.parent, name, required=False)
    return path


def local_folder(text: str, names: Sequence[str]) -> Path:
    """The path of a folder, of which the named files are downloaded if a URL names it.

    Raises:
        DownloadError: none of them can be had, or the URL has no place for their digests.
    """
    if not is_url(text):
        return Path(text).expanduser()
    if urlsplit(text).scheme != "s3":
        raise DownloadError(
            f"{_shown(text)}: a folder comes from s3://, or from this machine; https:// names one "
            "file with its digest"
        )
    folder = _new_folder()
    for name in names:
        _beside(f"{text.rstrip('/')}/", folder, name, required=False)
    if not any(folder.iterdir()):
        raise DownloadError(f"{_shown(text)}: holds none of {', '.join(names)}")
    return folder


@functools.cache
def _downloads() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="downloads-")


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(dir=_downloads().name))


@functools.cache
def _downloaded(text: str) -> Path:
    url, digest = urldefrag(text)
    name = PurePosixPath(urlsplit(url).path).name
    wanted = _DIGEST.fullmatch(digest.lower())
    if not name or (digest and not wanted) or urlsplit(url).scheme not in _SCHEMES:
        raise DownloadError(f"must be {FORMS}")
    if wanted is None and urlsplit(url).scheme != "s3":
        raise DownloadError(
            f"{_shown(text)}: state what you expect there: add #sha256=<64 hex digits> "
            "(`sha256sum FILE`)"
        )
    target = _new_folder() / name
    try:
        found = _download(url, target)
    except FileNotFoundError:
        raise DownloadError(f"{_shown(url)}: no such file") from None
    if wanted is not None and found != wanted[1]:
        target.unlink()
        raise DownloadError(f"{_shown(text)}: has SHA-256 {found}, not {wanted[1]}: not used")
    return target


def _beside(text: str, folder: Path, name: str, *, required: bool = True) -> None:
    """Download the file of this name that lies beside the one at a URL."""
    parts = urlsplit(urldefrag(text).url)
    url = parts._replace(path=str(PurePosixPath(parts.path + "x").with_name(name))).geturl()
    try:
        _download(url, folder / name)
    except FileNotFoundError:
        (folder / name).unlink(missing_ok=True)
        if required:
            raise DownloadError(f"{_shown(url)}: no such file") from None


def _download(url: str, target: Path) -> str:
    """Write what is at a URL to a file; returns its SHA-256.

    Raises:
        FileNotFoundError: there is nothing.
        DownloadError: it cannot be had.
    """
    from requests import RequestException  # noqa: PLC0415  slow, and few starts download

    digest, size = hashlib.sha256(), 0
    try:
        with target.open("wb") as file, _opened(url) as parts:
            for part in iter(lambda: parts.read(_PART_BYTES), b""):
                size += len(part)
                if size > _MAX_BYTES:
                    raise DownloadError(f"{_shown(url)}: larger than {_MAX_BYTES:,} bytes")
                digest.update(part)
                file.write(part)
    except (DownloadError, FileNotFoundError):
        raise
    except RequestException as error:  # its message quotes the URL, with what is secret
        raise DownloadError(f"{_shown(url)}: {type(error).__name__}") from None
    except Exception as error:  # noqa: BLE001  every layer below S3 raises its own
        raise DownloadError(f"{_shown(url)}: {reason(error)[:_MAX_REASON]}") from None
    return digest.hexdigest()


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise DownloadError(f"{_shown(url)}: contains credentials; pass them in AWS_... variables")
    if parts.scheme in ("http", "https"):
        from src.chain.clients import transport  # noqa: PLC0415  as above

        with (
            transport.session(1) as session,
            session.get(url, stream=True, timeout=_TIMEOUT, allow_redirects=False) as answer,
        ):
            if answer.status_code == HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(_shown(url))
            if answer.status_code != HTTPStatus.OK:
                raise DownloadError(f"{_shown(url)}: HTTP status {answer.status_code}")
            answer.raw.decode_content = True
            yield answer.raw
        return
    try:
        import s3fs  # type: ignore[import-untyped]  # noqa: PLC0415  not of the bot's packages
    except ImportError:
        raise DownloadError(
            "s3:// needs packages that the bot does not install: npm run setup -- --needs service"
        ) from None
    # A listing cached by fsspec would hide new objects of other processes.
    with s3fs.S3FileSystem(use_listings_cache=False).open(url, "rb") as file:
        yield file


def _shown(url: str) -> str:
    """What may be said of a URL: an object of a bucket, else the host, since paths hold keys."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return place + parts.path if parts.scheme == "s3" else place
