"""API keys that were unavailable at start: retries until the owner store answers."""

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from src.chain.lookups.lookups import Lookups

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 30.0
_MAX_PAUSE_SECONDS = 1_800.0


class ExplorerKeys(NamedTuple):
    """API keys of the explorers; None for no key."""

    etherscan: str | None
    ethplorer: str | None


def fetch_keys_later(lookups: Lookups, load: Callable[[], ExplorerKeys | None]) -> None:
    """Retry in the background, with exponential backoff, until there is an answer.

    Args:
        lookups: uses the explorers as soon as their keys are available. Closing it ends retries.
        load: returns the keys, or None if the store still does not answer. A ValueError is logged
            and counts as no answer.
    """

    def fetch() -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not lookups.closed.wait(pause):
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            try:
                keys = load()
            except ValueError as error:  # a file has become one that cannot be read
                logger.warning("settings could not be read again: %s", error)
                continue
            except Exception:  # whatever it is, the next attempt may succeed
                logger.exception("settings could not be read again")
                continue
            if keys is not None:
                lookups.add_explorers(keys.etherscan, keys.ethplorer)
                logger.info("the owner store has answered")
                return

    threading.Thread(target=fetch, name="late-keys", daemon=True).start()
