"""Logging of the bot: to stderr, because stdout is the bridge to the Forta CLI.

The scan node keeps 120 lines a minute, so a warning that repeats is logged once a minute.
"""

import logging
import sys
import time

_ROOT = "src"
_REPEAT_SECONDS = 60.0


class _OncePerMinute(logging.Filter):
    """Passes each message template once a minute and counts the suppressed messages."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.lineno, str(record.msg))
        now = time.monotonic()
        since, held_back = self._last.get(key, (-_REPEAT_SECONDS, 0))
        if now - since < _REPEAT_SECONDS:
            self._last[key] = (since, held_back + 1)
            return False
        self._last[key] = (now, 0)
        if held_back:
            record.msg = f"{record.msg} ({held_back} more in the last minute)"
        return True


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`. Message templates must be constants (use %s)."""
    return logging.getLogger(name)


def log_to_stderr() -> None:
    """Send the project's log to stderr; idempotent."""
    logger = logging.getLogger(_ROOT)
    logger.setLevel(logging.INFO)
    if any(getattr(handler, "is_ours", False) for handler in logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_OncePerMinute())
    handler.is_ours = True  # type: ignore[attr-defined]
    logger.addHandler(handler)
    logger.propagate = False
