"""Errors of a backtest that the user can fix."""


class BacktestError(ValueError):
    """The data, the options or the output folder is unusable; the message says what to do."""
