"""The tables, the same on SQLite and PostgreSQL.

Conventions: addresses and hashes are lowercase `0x` text. Amounts are decimal text, since no column
type holds a uint256 in both databases. Times are Unix seconds: whole for the chain's, with
fractions for the service's (`*_at`). External text has passed `sanitise_text`. The natural key of
each row is a primary or unique key, so that writing it twice stores it once.

A change of the tables also takes a migration in `migrations/versions`, which `Database.migrate`
applies to new databases and to those of earlier versions.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    false,
    tuple_,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite assigns row numbers only in a column of type INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")
# In a block. SQLite's INTEGER has 64 bits as well.
Position = BigInteger().with_variant(Integer, "sqlite")
Address = String(42)
Hash = String(66)
Amount = String(78)

TransactionKey = tuple[int, str]
"""Chain id and hash of a transaction."""


def _of_transaction() -> ForeignKeyConstraint:
    columns = ("chain_id", "tx_hash")
    parents = [f"transactions.{name}" for name in columns]
    return ForeignKeyConstraint(columns, parents, ondelete="CASCADE")


def same_transaction(one: Any, other: Any) -> ColumnElement[bool]:
    """The condition that rows of two tables or subqueries are of the same transaction."""
    return and_(one.c.chain_id == other.c.chain_id, one.c.tx_hash == other.c.tx_hash)


def of_transaction(table: Any, chain_id: int, tx_hash: str) -> ColumnElement[bool]:
    """The condition that rows are of this transaction."""
    return and_(table.c.chain_id == chain_id, table.c.tx_hash == tx_hash)


def is_one_of(table: Any, keys: Collection[TransactionKey]) -> ColumnElement[bool]:
    """The condition that rows are of one of these transactions."""
    return tuple_(table.c.chain_id, table.c.tx_hash).in_(list(keys))


transactions = Table(
    "transactions",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Hash, primary_key=True),
    Column("block_number", BigInteger),
    Column("block_hash", Hash),
    Column("block_timestamp", BigInteger),
    Column("tx_index", Position),
    Column("from_address", Address),
    Column("to_address", Address),
    Column("nonce", BigInteger),
    Column("gas_used", BigInteger),
    Column("gas_price", Amount),  # wei
    Column("value_wei", Amount),
    Column("selector", String(10)),  # of the method called; 0x: no data
    Column("status", SmallInteger),  # 1: succeeded, 0: reverted
    # No longer in the chain: its block was replaced, and no newer block contains the transaction.
    Column("orphaned", Boolean, nullable=False, server_default=false()),
    Column("stored_at", Double, nullable=False),
    Index(None, "chain_id", "block_number"),
    Index(None, "from_address"),
    Index(None, "to_address"),
)

transfers = Table(
    "transfers",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Hash, primary_key=True),
    Column("log_index", Position, primary_key=True, autoincrement=False),
    Column("token", Address, nullable=False),
    Column("sender", Address, nullable=False),
    Column("recipient", Address, nullable=False),
    Column("amount", Amount, nullable=False),  # raw token units
    _of_transaction(),
    Index(None, "token"),
    Index(None, "sender"),
    Index(None, "recipient"),
)

# Of the chain's native currency, where it logs them (EIP-7708).
native_transfers = Table(
    "native_transfers",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Hash, primary_key=True),
    Column("log_index", Position, primary_key=True, autoincrement=False),
    Column("sender", Address, nullable=False),
    Column("recipient", Address, nullable=False),
    Column("amount", Amount, nullable=False),  # wei
    _of_transaction(),
)

tokens = Table(
    "tokens",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("address", Address, primary_key=True),
    Column("name", String(128), nullable=False),
    Column("symbol", String(64), nullable=False),
    Column("decimals", Integer),  # null: the contract states none
    # The symbol looks like a well-known token's, but the contract is another one.
    Column("impersonates", Boolean, nullable=False, server_default=false()),
)

features = Table(
    "features",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Hash, primary_key=True),
    Column("model_version", String(32), primary_key=True),
    Column("features", JSON, nullable=False),  # name -> value; null: unavailable
    _of_transaction(),
)

decisions = Table(
    "decisions",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Hash, primary_key=True),
    # Fingerprint of the model, the policy and everything else that affects decisions.
    Column("decider", String(64), primary_key=True),
    Column("model_version", String(32), nullable=False),
    Column("action", SmallInteger, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("shadow", JSON, nullable=False),
    Column("score", Double),  # null: could not be scored
    Column("percentile", Double),
    Column("threshold", Double),
    Column("prediction", String(8)),  # NORMAL, ANOMALY or null
    Column("explanation", JSON),
    Column("attack_score", Double),  # null: there is none
    Column("attack_model_version", String(32)),
    Column("attack_explanation", JSON),
    Column("invalid_reason", Text),
    Column("money", JSON),  # see `decision.money.Money.as_json`; null where nothing is reported
    Column("summary", Text),  # see `decision.sentence`; null without transfers
    Column("called_is_new", Boolean),  # the contract called was younger than a day; null: unknown
    Column("decided_at", Double, nullable=False),
    # Grows with each decision of a chain that is stored; times do not where a clock is set back.
    Column("number", BigInteger, nullable=False, server_default="0"),
    _of_transaction(),
    Index(None, "chain_id", "number"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("tx_hash", Hash, nullable=False),
    Column("alert_id", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("severity", String(16), nullable=False),
    Column("action", SmallInteger, nullable=False),
    Column("score", Double),
    Column("attack_score", Double),
    Column("gained_usd", Double),  # of the sender's side; null: unknown
    Column("lost_usd", Double),  # of the account that lost most; null: unknown
    Column("model_version", String(32), nullable=False),
    Column("from_address", Address),
    Column("block_number", BigInteger),
    Column("block_timestamp", BigInteger),
    Column("orphaned", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    _of_transaction(),
    UniqueConstraint("chain_id", "tx_hash", "alert_id"),
    Index(None, "block_timestamp"),
    Index(None, "from_address"),
    Index(None, "alert_id"),
    # Cases are groups of alerts: grouped and sorted within this index, without the rows.
    Index(None, "chain_id", "tx_hash", "block_timestamp", "action", "orphaned"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("alert", ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    Column("author", String(64), primary_key=True),
    Column("is_true_positive", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("given_at", Double, nullable=False),
)

# What a person has done about a transaction with alerts; no row: nothing yet.
triage = Table(
    "triage",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Hash, primary_key=True),
    Column("state", String(16), nullable=False),  # new, in_work or done
    Column("author", String(64), nullable=False),
    Column("note", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    _of_transaction(),
)

# Everything that was ever set in `triage`, with the feedback given along with it.
triage_changes = Table(
    "triage_changes",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("tx_hash", Hash, nullable=False),
    Column("state", String(16), nullable=False),
    Column("is_true_positive", Boolean),  # null: without feedback
    Column("author", String(64), nullable=False),
    Column("note", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    _of_transaction(),
    Index(None, "chain_id", "tx_hash"),
)

# What the batch analysis has trained, serialised; the same training gives the same content.
forests = Table(
    "forests",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the content
    Column("content", LargeBinary, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("sha256", ForeignKey("forests.sha256"), nullable=False),
    Column("inputs", JSON, nullable=False),  # names of the columns
    Column("offset", Double, nullable=False),  # scikit-learn's offset_: scores below are anomalies
    Column("training", JSON, nullable=False),  # its training data and parameters
)

analyses = Table(
    "analyses",
    metadata,
    Column("number", RowId, primary_key=True),  # in the order in which they were stored
    # SHA-256 of everything that determines the result, so that equal analyses are stored once.
    Column("id", String(64), unique=True, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("start_block", BigInteger, nullable=False),
    Column("end_block", BigInteger, nullable=False),
    Column("end_block_hash", Hash, nullable=False),
    Column("model", ForeignKey("models.id"), nullable=False),
    Column("n_transactions", Integer, nullable=False),
    Column("n_anomalies", Integer, nullable=False),
    Column("analysed_at", Double, nullable=False),
)

analysis_rows = Table(
    "analysis_rows",
    metadata,
    # Of an analysis, which is stored after its rows: no foreign key.
    Column("analysis", String(64), primary_key=True),
    # Rank of the transaction, 0 = most anomalous; shared by its tokens.
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("token", Address, primary_key=True),
    Column("tx_hash", Hash, nullable=False),
    Column("label", String(128), nullable=False),
    Column("value", Double, nullable=False),  # in token units
    Column("gas_cost", Double, nullable=False),  # ETH
    Column("score", Double, nullable=False),  # of this transaction and token
    Column("tx_score", Double, nullable=False),  # of the transaction: the highest of its rows
    Column("is_anomaly", Boolean, nullable=False),  # this row, by its own score
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", RowId, primary_key=True),  # in the order in which they were added
    Column("id", String(32), unique=True, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("request", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("done", Integer, nullable=False),  # blocks
    Column("total", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("problem", JSON),  # RFC 9457, if it failed
    Column("analysis", ForeignKey("analyses.id")),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    # Heartbeat of the worker that runs it: if the worker dies, another one takes the job over.
    Column("worker", String(64)),
    Column("alive_at", Double),
    Column("attempts", Integer, nullable=False),
    Index(None, "status", "number"),
)

watched_blocks = Table(
    "watched_blocks",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("block_number", BigInteger, primary_key=True, autoincrement=False),
    Column("block_hash", Hash, nullable=False),
    Column("parent_hash", Hash, nullable=False),
)

# At most one row of a kind is due for an alert and a channel; the last one says where it stands.
notifications = Table(
    "notifications",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("uuid", String(36), nullable=False),  # what receivers know it by
    Column("alert", ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(64), nullable=False),  # fingerprint: the URL holds a secret
    # A reorganisation undid what an earlier, sent row told.
    Column("is_retraction", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("noted_at", Double, nullable=False),  # when it was queued or last tried
    Column("sent_at", Double),
    Column("failure", Text),
    Index(None, "alert"),
    Index(None, "due_at"),
)

# Of transactions that are not mined yet, by watch mode and the guard; the transaction itself is
# stored once it is mined.
screenings = Table(
    "screenings",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("uuid", String(36), nullable=False),  # what clients and receivers know it by
    Column("source", String(16), nullable=False),  # pending (watch mode) or guard
    Column("chain_id", BigInteger, nullable=False),
    Column("tx_hash", Hash),  # null: of a bundle, or unreadable
    Column("from_address", Address),
    Column("to_address", Address),
    Column("screened_at", Double, nullable=False),
    Column("block_number", BigInteger),  # of the simulation; null: unknown
    Column("status", String(16), nullable=False),  # success, reverts or unknown
    Column("action", SmallInteger, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("summary", Text, nullable=False),
    Column("problem", Text, nullable=False),
    # Of the guard: what it did or would have done, for whom, and the node's answer to what was held
    Column("outcome", String(16)),
    Column("is_enforced", Boolean),
    Column("client", Text),
    Column("method", Text),
    Column("seconds", Double),
    Column("answer", Text),
    Column("state", String(16), nullable=False),  # pending, mined or dropped
    Column("told", JSON, nullable=False),  # receiver -> when it was told
    Column("mined_block", BigInteger),
    Column("mined_action", SmallInteger),
    Column("mined_at", Double),  # when its block was read
    Column("is_reverted", Boolean),  # in its block
    UniqueConstraint("uuid"),
    Index(None, "chain_id", "tx_hash"),
    Index(None, "state", "screened_at"),
    Index(None, "screened_at"),
    Index(None, "mined_block"),
)

# Periodic tasks that one worker at a time runs for all, such as the drift check.
scheduled_tasks = Table(
    "scheduled_tasks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("due_at", Double, nullable=False),  # not started before; a claim moves it forward
    Column("finished_at", Double),
    Column("outcome", JSON),  # of the last run
)
