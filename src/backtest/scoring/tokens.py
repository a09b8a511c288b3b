"""Token metadata for the detectors: symbols, and impersonators of well-known tokens."""

from pathlib import Path

from src.chain.facts import MAX_SYMBOL_LENGTH
from src.chain.text import sanitise_text
from src.chain.well_known import load_well_known_tokens
from src.detection.evidence import TokenFact
from src.history.tokens import symbols


def token_facts(folder: Path, chain_id: int) -> dict[str, TokenFact]:
    """Token metadata by address, from the symbols in a folder.

    Raises:
        HistoryError: the file cannot be read.
    """
    well_known = load_well_known_tokens(chain_id)
    facts = {}
    for address, text in symbols(folder):
        symbol = sanitise_text(text, MAX_SYMBOL_LENGTH)
        known = well_known.get(address)
        facts[address] = TokenFact(
            symbol if known is None else known.symbol,
            impersonates=well_known.is_impersonated(symbol, address),
        )
    return facts
