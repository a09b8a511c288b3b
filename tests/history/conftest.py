"""The history of the backtest's tests."""

from tests.backtest.conftest import etl, history, model

__all__ = ["etl", "history", "model"]
