"""A list of addresses with labels, from a file or a URL, kept fresh in the background.

The list may be a JSON array of addresses, a JSON array of objects with `address` and `label` (or
`comment`), a JSON object of address to label, or, as a file, lines of `address,label`. A file is
read again as soon as it changes; a URL is read again periodically. While the source fails, the last
list stays in use.
"""

import csv
import io
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from src.chain.clients.http import HttpClient
from src.chain.clients.json_text import is_nested_deeper
from src.chain.clients.urls import is_http_url
from src.chain.errors import SourceError
from src.chain.text import sanitise_text
from src.chain.transfers import ZERO_ADDRESS, normalise_address
from src.files import read_file, reason

SOURCE = "address list"
MAX_BYTES = 64 * 1024 * 1024
MAX_ADDRESSES = 1_000_000

_FILE_CHECK_SECONDS = 2.0
_RETRY_SECONDS = 60.0
_TIMEOUT_SECONDS = 20.0
_STALE_REFRESHES = 3
_MAX_LABEL = 80
_MAX_DEPTH = 8
# A line of its own within a label: a quote without its partner has taken it.
_SWALLOWED = re.compile(r"[\r\n]\s*0x[0-9a-f]{40}", re.IGNORECASE)

logger = logging.getLogger(__name__)


class AddressListError(ValueError):
    """The list is invalid. The message names the first invalid entry."""


class LabelledAddresses:
    """The list with its background refresh. Thread-safe; `close` ends the refresh.

    Args:
        location: a file's path or an http(s) URL. It may contain a key: it appears in no message.
        refresh_seconds: interval between reads of a URL.
        clock: for the list's age; monotonic, in seconds.

    Raises:
        AddressListError: the file is missing or invalid, so that a mistake is noticed at start. A
            URL that fails is retried in the background instead.
    """

    WHAT: ClassVar[str] = "the address book"
    """The list in messages."""

    def __init__(
        self,
        location: str,
        *,
        refresh_seconds: float = 3_600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._labels: Mapping[str, str] | None = None
        self._read_at = 0.0
        self._stamp: tuple[int, int] | None = None
        self._refusal: str | None = None  # why the content of the file of that stamp is not in use
        self._broken: str | None = None  # why the present file is not in use
        self._stop = threading.Event()
        self._client: HttpClient | None = None
        self._path: Path | None = None
        if is_http_url(location):
            self._client = HttpClient(
                SOURCE, location, timeout=_TIMEOUT_SECONDS, max_bytes=MAX_BYTES, connections=1
            )
        else:
            self._path = Path(location).expanduser()
            self._read_file(self._path)
        self._thread = threading.Thread(target=self._keep_fresh, name="addresses", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._labels or ())

    @property
    def labels(self) -> Mapping[str, str] | None:
        """Label by lower-case address; None while there is no list yet."""
        return self._labels

    @property
    def age_seconds(self) -> float:
        """The time since the list was read or found to be unchanged."""
        return self._clock() - self._read_at

    def problem(self) -> str | None:
        """A message about a problem with the list, or None."""
        if self._labels is None:
            return f"{self.WHAT} could not be read so far"
        if self._broken is not None:
            return f"{self.WHAT} stays as it was: {self._broken}"
        age = self.age_seconds
        if age > _STALE_REFRESHES * self._refresh_seconds:
            return f"{self.WHAT} is {age / 3600:.1f} hours old"
        return None

    def close(self) -> None:
        """Stop the background refresh."""
        self._stop.set()
        if self._client is not None:
            self._client.close()

    def _keep_fresh(self) -> None:
        wait = 0.0 if self._client is not None else _FILE_CHECK_SECONDS
        while not self._stop.wait(wait):
            try:
                if self._client is not None:
                    self._use(parse_addresses(self._client.get()))
                elif self._path is not None:
                    self._read_file(self._path)
                wait = self._refresh_seconds
                self._broken = None
            except (AddressListError, SourceError) as error:
                is_known = str(error) == self._broken
                self._broken = str(error) if self._path is not None else None
                if not (is_known or self._stop.is_set()):
                    logger.warning("%s stays as it was: %s", self.WHAT, error)
                wait = min(_RETRY_SECONDS, self._refresh_seconds)
            except Exception as error:  # unforeseen input must not end the reading for good
                self._broken = type(error).__name__
                logger.exception("%s stays as it was", self.WHAT)
                wait = min(_RETRY_SECONDS, self._refresh_seconds)
            if self._path is not None:
                wait = min(wait, _FILE_CHECK_SECONDS)

    def _read_file(self, path: Path) -> None:
        """Use the file if it has changed. Raises AddressListError for one that is not usable."""
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                text = read_file(path, MAX_BYTES).decode("utf-8-sig", errors="replace")
                self._refusal = None
                try:
                    self._use(parse_text(text))
                except AddressListError as error:  # as long as the file stays the same
                    self._refusal = str(error)
                self._stamp = stamp
        except OSError as error:
            raise AddressListError(f"{path.name}: {reason(error)}") from None
        if self._refusal is not None:
            raise AddressListError(self._refusal)
        self._read_at = self._clock()

    def _use(self, labels: Mapping[str, str]) -> None:
        changed = labels != self._labels
        self._labels = labels  # one assignment: readers see the old list or the new one
        self._read_at = self._clock()
        if changed:
            logger.info("%s has %d entries", self.WHAT, len(labels))


def parse_text(text: str) -> dict[str, str]:
    """Addresses and labels of a file: JSON, or lines of `address,label`.

    Raises:
        AddressListError: it is neither, or contains something other than addresses.
    """
    if text.lstrip()[:1] in ("[", "{"):
        try:
            if is_nested_deeper(text, _MAX_DEPTH):
                raise ValueError
            document = json.loads(text)
        except ValueError:  # also a number of 5,000 digits
            raise AddressListError("the list starts like JSON but is not") from None
        return parse_addresses(document)
    rows = [row for row in _rows(text) if row and row[0].strip()]
    rows = [row for row in rows if not row[0].lstrip().startswith("#")]
    if rows and rows[0][0].strip().lower() == "address":  # a header
        rows = rows[1:]
    return _labels((row[0].strip(), row[1] if len(row) > 1 else "") for row in rows)


def _rows(text: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for row in reader:
            if reader.line_num > start and any(map(_SWALLOWED.search, row)):
                raise csv.Error("a quoted label takes in another row")
            yield row
            start = reader.line_num + 1
    except csv.Error as error:
        raise AddressListError(f"line {start} of the list is not CSV: {error}") from None


def parse_addresses(document: Any) -> dict[str, str]:
    """Addresses and labels of a decoded JSON document.

    Raises:
        AddressListError: it has another form, or holds something else than addresses.
    """
    if isinstance(document, dict):
        return _labels(document.items())
    if not isinstance(document, list):
        raise AddressListError("the list must be a JSON array or object")
    return _labels(
        (entry.get("address"), entry.get("label") or entry.get("comment"))
        if isinstance(entry, dict)
        else (entry, "")
        for entry in document
    )


def _labels(entries: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for value, label in entries:
        address = normalise_address(value)
        if address is None:
            raise AddressListError(f"{sanitise_text(str(value), 50)!r} is not an address")
        if address != ZERO_ADDRESS:  # in every mint: listing it would flag half of the chain
            labels[address] = sanitise_text(label, _MAX_LABEL)
        if len(labels) > MAX_ADDRESSES:
            raise AddressListError(f"more than {MAX_ADDRESSES} addresses")
    return labels
