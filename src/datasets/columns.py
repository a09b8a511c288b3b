"""The columns that a table of transactions, and one of transfers, must have."""

TRANSACTION_COLUMNS = ("tx_hash", "from_address")
TRANSFER_COLUMNS = (
    "tx_hash",
    "log_index",
    "token_address",
    "from_address",
    "to_address",
    "value_raw",
)
