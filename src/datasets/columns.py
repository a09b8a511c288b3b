"""The columns that a table of transactions, and one of transfers, must have; labelled tables."""

from dataclasses import dataclass

TRANSACTION_COLUMNS = ("tx_hash", "from_address")
TRANSFER_COLUMNS = (
    "tx_hash",
    "log_index",
    "token_address",
    "from_address",
    "to_address",
    "value_raw",
)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a labelled table mean."""

    label: str  # the column to predict: 0/1, true/false, or any two values with `positive`
    ignore: tuple[str, ...] = ()  # columns to exclude from the inputs
    # Column whose equal values stay on one side of every split; not an input.
    group: str | None = None
    positive: str | None = None  # the label's value that means fraud
