"""The page of one transaction."""

import re
from typing import Any, Final

from src.service.api.common import HASH_PATTERN
from src.service.context import Service
from src.service.database.cases import triage_history
from src.service.http.problems import Problem
from src.service.web.transaction.view import view_transaction

_HASH: Final = re.compile(HASH_PATTERN.strip("^$"))


def checked_hash(text: str) -> str:
    """A transaction hash in lower case. Raises Problem 422 if it is invalid."""
    if not _HASH.fullmatch(text.strip()):
        raise Problem(422, "A transaction hash must be 0x and 64 hex digits.")
    return text.strip().lower()


def read(service: Service, tx_hash: str) -> dict[str, Any]:
    """Values of `transaction.html`; decides on the transaction unless a decision is stored.

    Raises:
        Problem: 404 for an unknown transaction, 502 to 504 when the node fails.
    """
    problem = None
    try:
        service.decision(tx_hash)
    except Problem as failed:  # stored values can still be shown
        problem = failed
    with service.database.reading() as connection:
        view = view_transaction(connection, service.decider.pipeline, tx_hash)
        history = triage_history(connection, service.chain_id, tx_hash)
    if view is None:
        raise problem or Problem(404, f"No block of the chain contains transaction {tx_hash}.")
    return {"view": view, "history": history, "trouble": problem.detail if problem else None}
