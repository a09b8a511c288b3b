"""The history of the backtest's tests, as ethereum-etl's tables and as a store."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.backtest.conftest import etl, history, model
from tests.history.imports import Tables, imported, rows_of

__all__ = ["etl", "history", "model"]


@pytest.fixture(scope="package")
def expected(etl: Path) -> list[dict[str, Any]]:
    return rows_of(imported(etl))


@pytest.fixture(scope="package")
def tables(etl: Path) -> Tables:
    """ethereum-etl's transactions and transfers."""
    transactions, transfers = (
        pq.read_table(etl / f"{name}.parquet") for name in ("transactions", "token_transfers")
    )
    return transactions, transfers
