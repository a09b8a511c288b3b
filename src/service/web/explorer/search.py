"""The search: a hash, an address, a number of a block, a token's symbol, or a name."""

import re
from typing import Any, Final

from src.chain.errors import NotFound, SourceError
from src.chain.text import sanitise_text
from src.service.context import Service
from src.service.database.chain import find_transaction
from src.service.web.explorer import queries

_MAX_LENGTH: Final = 200
_MAX_TOKENS: Final = 25
_MAX_NAMES: Final = 25
_MAX_TRANSACTIONS: Final = 100
_HASH: Final = re.compile(r"(?:0x)?([0-9a-f]{64})", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"(?:0x)?([0-9a-f]{40})", re.IGNORECASE)
_IN_LINK: Final = re.compile(r"0x(?:[0-9a-f]{64}|[0-9a-f]{40})(?![0-9a-f])", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]{1,16}")


def find(service: Service, text: str) -> str | dict[str, Any]:
    """The page that a text leads to, or what `search.html` shows.

    Args:
        service: whose database and chain are searched.
        text: as typed; a link to a block explorer is one too.
    """
    wanted = sanitise_text(text, _MAX_LENGTH)
    if "/" in wanted and (link := _IN_LINK.search(wanted)) is not None:
        wanted = link[0]
    if (found := _HASH.fullmatch(wanted)) is not None:
        hashed = f"0x{found[1].lower()}"
        number = _block_of(service, hashed)
        if number is None:
            return f"/ui/transactions/{hashed}"
        wanted = str(number)
    if (found := _ADDRESS.fullmatch(wanted)) is not None:
        return _page_of(service, f"0x{found[1].lower()}")
    plain = wanted.replace(",", "").removeprefix("#")
    block = int(plain) if _NUMBER.fullmatch(plain) and plain.isascii() else None
    with service.database.reading() as connection:
        tokens = (
            queries.find_by_symbol(connection, service.chain_id, wanted, _MAX_TOKENS)
            if wanted
            else []
        )
        listed = (
            []
            if block is None
            else queries.list_transactions(
                connection, queries.in_block(service.chain_id, block), limit=_MAX_TRANSACTIONS
            )
        )
    return {
        "q": wanted,
        "own_chain": service.chain_id,
        "block": block,
        "transactions": listed,
        "tokens": tokens,
        "named": service.names.find(wanted, _MAX_NAMES) if wanted else [],
        "is_half_hex": wanted.lower().startswith("0x"),
    }


def _block_of(service: Service, hashed: str) -> int | None:
    """The number of the block with this hash; None if it is a transaction's or nobody knows it."""
    with service.database.reading() as connection:
        if find_transaction(connection, service.chain_id, hashed) is not None:
            return None
    try:
        return service.node.block_number(hashed)
    except (SourceError, NotFound):  # the transaction's page says what is wrong with the node
        return None


def _page_of(service: Service, address: str) -> str:
    with service.database.reading() as connection:
        is_token = queries.is_token(connection, service.chain_id, address)
    return f"/ui/{'tokens' if is_token else 'addresses'}/{address}"
