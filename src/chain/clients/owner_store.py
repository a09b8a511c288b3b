"""Reads the owner's secrets from Forta's owner store, in production, with the bot's token.

The scan node runs a token provider for the bot; the store returns the owner's document for a token
of one of the owner's bots.
"""

import threading
from concurrent.futures import Future
from contextlib import closing
from typing import Any

from src.chain.clients.http import HttpClient
from src.chain.errors import MalformedAnswer, SourceError, SourceUnavailable

SOURCE = "owner store"
TOKEN_PROVIDER_PORT = 8515

_MAX_BYTES = 256 * 1024


def fetch_owner_secrets(
    token_provider_url: str, store_url: str, *, timeout: float
) -> dict[str, Any]:
    """The owner's secrets document.

    Args:
        token_provider_url: the scan node's token provider, e.g. "http://forta-jwt-provider:8515".
        store_url: the document's address.
        timeout: seconds in total, including name resolution.

    Raises:
        SourceError: no usable response in time.
    """
    outcome: Future[dict[str, Any]] = Future()

    def fetch() -> None:
        try:
            outcome.set_result(_fetch(token_provider_url, store_url, timeout))
        except SourceError as error:
            outcome.set_exception(error)
        except Exception as error:  # noqa: BLE001  its text may hold a key
            problem = f"could not be read ({type(error).__name__})"
            outcome.set_exception(MalformedAnswer(SOURCE, problem))

    # Name resolution has no timeout, so it runs in another thread.
    threading.Thread(target=fetch, name="owner-store", daemon=True).start()
    try:
        return outcome.result(timeout)
    except TimeoutError:
        raise SourceUnavailable(SOURCE, "timed out") from None


def _fetch(token_provider_url: str, store_url: str, timeout: float) -> dict[str, Any]:
    provider = HttpClient(SOURCE, token_provider_url, timeout=timeout, max_bytes=_MAX_BYTES)
    with closing(provider):
        answer = provider.post({"claims": {}}, "/create")
    token = answer.get("token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise MalformedAnswer(SOURCE, "the token provider returned no token")
    with closing(HttpClient(SOURCE, store_url, timeout=timeout, max_bytes=_MAX_BYTES)) as store:
        secrets = store.get(headers={"Authorization": f"Bearer {token}"})
    if not isinstance(secrets, dict):
        raise MalformedAnswer(SOURCE, "the document is not a JSON object")
    return secrets
