"""Errors of a history that the user can fix."""


class HistoryError(ValueError):
    """The data or the folder is unusable; the message names it and says what to do."""
