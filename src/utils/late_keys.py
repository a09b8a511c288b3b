"""API keys that could not be had at start: asked for again until the owner's store answers."""

import threading
from collections.abc import Callable

from src.chain.lookups import Lookups
from src.settings import Settings, SettingsError, load_settings
from src.utils.logger import get_logger

LOGGER = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 1_800.0


def fetch_keys_later(lookups: Lookups, load: Callable[[], Settings] = load_settings) -> None:
    """Try again in the background, after growing pauses, until the store answers.

    Args:
        lookups: asks the explorers as soon as their keys are there. Closing it ends the trying.
        load: reads the settings again.
    """

    def fetch() -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not lookups.closed.wait(pause):
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            try:
                settings = load()
            except SettingsError as error:  # a file has become one that cannot be read
                LOGGER.warning("settings could not be read again: %s", error)
                continue
            if not settings.owner_store_failed:
                lookups.add_explorers(settings.etherscan_api_key, settings.ethplorer_api_key)
                LOGGER.info("the owner store has answered")
                return

    threading.Thread(target=fetch, name="late-keys", daemon=True).start()
