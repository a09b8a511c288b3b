"""API keys that were unavailable at start: retries until the owner store answers."""

import logging
import threading
from collections.abc import Callable

from src.chain.lookups.lookups import Lookups

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 30.0
_MAX_PAUSE_SECONDS = 1_800.0


def fetch_keys_later(lookups: Lookups, add: Callable[[], bool]) -> None:
    """Retry in the background, with exponential backoff, until there is an answer.

    Args:
        lookups: closing it ends retries.
        add: adds the explorers; returns whether the store answers. A ValueError is logged and is
            no answer.
    """

    def fetch() -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not lookups.closed.wait(pause):
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            try:
                has_answered = add()
            except ValueError as error:  # a file has become one that cannot be read
                logger.warning("settings could not be read again: %s", error)
                continue
            except Exception:  # whatever it is, the next attempt may succeed
                logger.exception("settings could not be read again")
                continue
            if has_answered:
                logger.info("the owner store has answered")
                return

    threading.Thread(target=fetch, name="late-keys", daemon=True).start()
