"""The page of one transaction."""

import re
from typing import Any, Final

from src.service.api.common import HASH_PATTERN
from src.service.context import Service
from src.service.http.problems import Problem
from src.service.web.transaction_view import view_transaction

_HASH: Final = re.compile(HASH_PATTERN.strip("^$"))


def checked_hash(text: str) -> str:
    """A transaction's hash as the database has it. Raises Problem 422 for anything else."""
    if not _HASH.fullmatch(text.strip()):
        raise Problem(422, "A transaction's hash is 0x and 64 hex digits.")
    return text.strip().lower()


def read(service: Service, tx_hash: str) -> dict[str, Any]:
    """What `transaction.html` shows; decides about the transaction if nobody has yet.

    Raises:
        Problem: 404 for an unknown transaction, 502 to 504 when the node fails.
    """
    problem = None
    try:
        service.decision(tx_hash)
    except Problem as failed:  # what is stored can be shown all the same
        problem = failed
    with service.database.reading() as connection:
        view = view_transaction(connection, service.chain_id, tx_hash, service.decider.model)
    if view is None:
        raise problem or Problem(404, f"The chain has no transaction {tx_hash} in any block.")
    return {"view": view, "trouble": problem.detail if problem else None}
