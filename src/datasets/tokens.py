"""Symbols of tokens that stand beside a history, and which of them impersonate others."""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from src.chain.facts import stated_symbol
from src.chain.quantities import as_bytes
from src.chain.recording.format import Recording, is_recording
from src.chain.transfers import normalise_address
from src.chain.well_known import load_well_known_tokens
from src.datasets.store import TOKENS_FILE
from src.datasets.tables import TableError
from src.detection.evidence import TokenFact
from src.files import read_gzip, reason, write_file


def symbols(folder: Path) -> Iterator[tuple[str, str]]:
    """Address and symbol of each token, from a recording or the file `tokens.csv.gz` in a folder.

    Raises:
        TableError: the file cannot be read.
    """
    if is_recording(folder):
        from src.chain.erc20 import decode_text  # noqa: PLC0415  its codec is slow to import

        for address, answers in Recording(folder).tokens().items():
            data = as_bytes(answers.symbol or "0x")
            if data is not None:
                yield address, decode_text(data)
        return
    path = folder / TOKENS_FILE
    if not path.is_file():
        return
    try:
        text = read_gzip(path).decode()
        for row in csv.DictReader(io.StringIO(text, newline="")):
            token = normalise_address(row.get("address"))
            if token is not None:
                yield token, row.get("symbol") or ""
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: cannot be read: {reason(error)}") from error


def write_symbols(folder: Path, found: Iterator[tuple[str, str]]) -> None:
    """Write `tokens.csv.gz` into a folder, where there is a token."""
    text = io.StringIO()
    rows = list(found)
    if rows:
        csv.writer(text, lineterminator="\n").writerows([("address", "symbol"), *rows])
        content = gzip.compress(text.getvalue().encode(), mtime=0)
        write_file(folder / TOKENS_FILE, content)


def token_facts(folder: Path, chain_id: int) -> dict[str, TokenFact]:
    """Token metadata by address, from the symbols in a folder.

    Raises:
        TableError: the file cannot be read.
    """
    well_known = load_well_known_tokens(chain_id)
    facts = {}
    for address, text in symbols(folder):
        symbol = stated_symbol(text)
        known = well_known.get(address)
        facts[address] = TokenFact(
            symbol if known is None else known.symbol,
            impersonates=well_known.is_impersonated(symbol, address),
        )
    return facts
