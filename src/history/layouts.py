"""The tables that tools export, as declarations: the columns by our names, and how files are told.

A declaration says `ours=theirs|or_theirs`, and `ours` alone where both are the same. The names of
columns are compared in lower case with underscores, so `blockNumber` and `BLOCK_NUMBER` are
`block_number`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

TRANSACTIONS: Final = "transactions"
TRANSFERS: Final = "transfers"
LOGS: Final = "logs"
BLOCKS: Final = "blocks"

RECORDING: Final = "recording"
CUSTOM: Final = "--columns"

JOINED: Final = ("tx_from", "tx_to", "nonce", "tx_index", "block_timestamp")
"""Columns of transfers that say what a table of transactions would; `tx_from` is the sender."""


CHAIN: Final = ("chain_id", "blockchain", "chain")
"""Columns that say of which chain a row is."""


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of table in one layout."""

    layout: str  # the tool or data set that writes it
    kind: str  # `TRANSACTIONS`, `TRANSFERS`, `LOGS` or `BLOCKS`
    called: str  # the tool's own name of it, which tells its files
    required: Mapping[str, tuple[str, ...]]  # the names that a column may have, by our name for it
    # The same of columns that may be missing: what they hold is then unknown. All have `chain`, and
    # transactions `block_hash`, to refuse rows of several chains or forks.
    optional: Mapping[str, tuple[str, ...]]


def _columns(text: str) -> dict[str, tuple[str, ...]]:
    pairs = (item.partition("=") for item in text.split())
    return {ours: tuple((theirs or ours).split("|")) for ours, _, theirs in pairs}


def _table(layout: str, kind: str, called: str, required: str, optional: str = "") -> Table:
    optional += f" chain={'|'.join(CHAIN)}"
    if kind == TRANSACTIONS:
        optional += " block_hash"
    return Table(layout, kind, called, _columns(required), _columns(optional))


_TOPICS = "topic0 topic1 topic2 topic3"
_JOINED = " ".join(JOINED)

TABLES: Final = (
    _table(
        RECORDING, TRANSACTIONS, "transactions",
        "tx_hash block_number block_timestamp from_address",
        "to_address nonce tx_index",
    ),
    _table(
        RECORDING, LOGS, "logs",
        f"tx_hash block_number log_index token_address=address data {_TOPICS}",
    ),
    _table(
        "data set", TRANSACTIONS, "transactions",
        "tx_hash block_number block_timestamp from_address",
        "to_address nonce tx_index",
    ),
    _table(
        "data set", TRANSFERS, "transfers",
        "tx_hash log_index token_address from_address to_address amount=value_raw",
        f"block_number token_std {_JOINED}",
    ),
    # Also BigQuery's `crypto_ethereum` and the public data on AWS, which have the same columns.
    _table(
        "ethereum-etl", TRANSACTIONS, "transactions", "tx_hash=hash block_number from_address",
        "block_timestamp to_address nonce tx_index=transaction_index",
    ),
    _table(
        "ethereum-etl", TRANSFERS, "token_transfers",
        "tx_hash=transaction_hash block_number log_index token_address from_address to_address "
        "amount=value",
    ),
    _table(
        "ethereum-etl", LOGS, "logs",
        "tx_hash=transaction_hash block_number log_index token_address=address data topics",
    ),
    _table(
        "ethereum-etl", BLOCKS, "blocks", "block_number=number block_timestamp=timestamp"
    ),
    _table(
        "cryo", TRANSACTIONS, "transactions", "tx_hash=transaction_hash block_number from_address",
        "block_timestamp=timestamp to_address nonce tx_index=transaction_index",
    ),
    _table(
        "cryo", TRANSFERS, "erc20_transfers",
        "tx_hash=transaction_hash block_number log_index token_address=erc20 from_address "
        "to_address amount=value_binary|value_string|value",
    ),
    _table(
        "cryo", LOGS, "logs",
        f"tx_hash=transaction_hash block_number log_index token_address=address data {_TOPICS}",
    ),
    _table(
        "cryo", BLOCKS, "blocks", "block_number block_timestamp=timestamp block_hash"
    ),
    _table(
        "Dune", TRANSACTIONS, "transactions",
        "tx_hash=hash block_number block_timestamp=block_time from_address=from",
        "to_address=to nonce tx_index=index",
    ),
    _table(
        "Dune", TRANSFERS, "evt_transfer",
        "tx_hash=evt_tx_hash|tx_hash block_number=evt_block_number|block_number "
        "log_index=evt_index token_address=contract_address from_address=from to_address=to "
        "amount=value|amount_raw",
        "token_std=token_standard tx_from=evt_tx_from|tx_from tx_to=evt_tx_to|tx_to "
        "tx_index=evt_tx_index|tx_index block_timestamp=evt_block_time|block_time nonce",
    ),
    _table(
        "Flipside", TRANSACTIONS, "fact_transactions",
        "tx_hash block_number block_timestamp from_address",
        "to_address nonce tx_index=tx_position|position",
    ),
    _table(
        "Flipside", TRANSFERS, "ez_token_transfers",
        "tx_hash block_number log_index=event_index token_address=contract_address from_address "
        "to_address amount=raw_amount_precise",
        "token_std=token_standard tx_from=origin_from_address tx_to=origin_to_address "
        "tx_index=tx_position block_timestamp nonce",
    ),
)  # fmt: skip

_DESCRIBED: Final = (
    _table(
        CUSTOM, TRANSACTIONS, "transactions", "tx_hash block_number from_address",
        "block_timestamp to_address nonce tx_index",
    ),
    _table(
        CUSTOM, TRANSFERS, "transfers",
        "tx_hash log_index token_address from_address to_address amount",
        f"block_number token_std {_JOINED}",
    ),
    _table(
        CUSTOM, LOGS, "logs", f"tx_hash block_number log_index token_address data {_TOPICS}"
    ),
    _table(CUSTOM, BLOCKS, "blocks", "block_number block_timestamp"),
)  # fmt: skip
"""With --columns: names by ours where none is given."""

CUSTOM_NAMES: Final = tuple(
    dict.fromkeys(
        name
        for table in _DESCRIBED
        for ours in (*table.required, *table.optional)
        for name in (ours, f"{table.kind}.{ours}")
    )
)
"""What --columns may name."""

EXPLORER: Final = "blockno"
"""The column by which a CSV file of Etherscan and its like is told."""

OTHERS: Final = (
    "approvals", "balance_diffs", "balance_reads", "balances", "code_diffs", "code_reads",
    "contracts", "erc20_approvals", "erc20_balances", "erc20_metadata", "erc20_supplies",
    "erc721_metadata", "erc721_transfers", "exploit_transactions", "exploit_transfers",
    "four_byte_counts", "geth_calls", "internal_transactions", "native_transfers", "nft_transfers",
    "nonce_diffs", "receipts", "state_diffs", "storage_diffs", "storage_reads", "tokens", "traces",
    "withdrawals",
)  # fmt: skip
"""Tables that are exported beside ours, some with the very columns of ours."""

_CALLED = sorted({*(table.called for table in TABLES), *OTHERS}, key=len, reverse=True)
# Not the tokens of Dune's `tokens.transfers`.
_NAME = re.compile(rf"(?:^|[^a-z0-9_]|__)({'|'.join(_CALLED)})(?![a-z0-9]|[._]transfers)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def column_name(name: str) -> str:
    """A column's name in lower case with underscores."""
    return _CAMEL.sub("_", name.strip()).lower().replace(" ", "_")


def table_name(path: str) -> str | None:
    """The table that a file or one of its folders is named after; None where none is."""
    for piece in reversed(path.split("/")):
        found = _NAME.search(_CAMEL.sub("_", piece).lower())
        if found:
            return found[1]
    return None


def custom_tables(columns: Mapping[str, str]) -> tuple[Table, ...]:
    """The tables of a layout that the user describes.

    Args:
        columns: the file's name by ours, or by table and ours (`transfers.tx_hash`).
    """

    def named(kind: str, names: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        given = {o: columns.get(f"{kind}.{o}", columns.get(o)) for o in names}
        return {o: (column_name(name),) if (name := given[o]) else names[o] for o in names}

    return tuple(
        replace(
            table,
            required=named(table.kind, table.required),
            optional=named(table.kind, table.optional),
        )
        for table in _DESCRIBED
    )
