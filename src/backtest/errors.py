"""What can go wrong with a backtest in ways that its user can mend."""


class BacktestError(ValueError):
    """The data, the options or the output folder cannot be used; the message says what to do."""
