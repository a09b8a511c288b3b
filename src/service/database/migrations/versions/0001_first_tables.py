"""The first tables, as they were then: `tables.py` goes on from here."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_big, _int, _small = sa.BigInteger(), sa.Integer(), sa.SmallInteger()
_double: sa.Double[float] = sa.Double()
_text, _json, _address, _hash = sa.Text(), sa.JSON(), sa.String(42), sa.String(66)


def _key(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, **options)


def _some(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _maybe(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind)


def _of_transaction() -> sa.ForeignKeyConstraint:
    columns = ("chain_id", "tx_hash")
    parents = [f"transactions.{name}" for name in columns]
    return sa.ForeignKeyConstraint(columns, parents, ondelete="CASCADE")


def _of(parent: str) -> sa.ForeignKey:
    return sa.ForeignKey(parent, ondelete="CASCADE")


def _table(name: str, *parts: Any) -> None:
    sa.Table(name, _metadata, *parts)


# fmt: off
_table(
    "models",
    _key("id", _id), _some("created_at", _double), _some("sha256", sa.String(64)),
    _some("inputs", _json), _some("offset", _double), _some("training", _json),
    _some("content", sa.LargeBinary()), sa.Index(None, "created_at"),
)
_table(
    "tokens",
    _key("chain_id", _big), _key("address", _address), _some("name", sa.String(128)),
    _some("symbol", sa.String(64)), _some("decimals", _int), _flag("impersonates"),
)
_table(
    "transactions",
    _key("chain_id", _big), _key("tx_hash", _hash), _maybe("block_number", _big),
    _maybe("block_hash", _hash), _maybe("block_timestamp", _big), _maybe("tx_index", _int),
    _maybe("from_address", _address), _maybe("to_address", _address), _maybe("nonce", _big),
    _maybe("gas_used", _big), _maybe("gas_price", sa.String(78)), _flag("orphaned"),
    _some("stored_at", _double), sa.Index(None, "chain_id", "block_number"),
    sa.Index(None, "from_address"),
)
_table(
    "watched_blocks",
    _key("chain_id", _big), _key("block_number", _big, autoincrement=False),
    _some("block_hash", _hash), _some("parent_hash", _hash),
)
_table(
    "alerts",
    _key("id", _id), _some("chain_id", _big), _some("tx_hash", _hash),
    _some("alert_id", sa.String(64)), _some("name", sa.String(128)), _some("description", _text),
    _some("severity", sa.String(16)), _some("action", _small), _maybe("score", _double),
    _some("model_version", sa.String(32)), _maybe("from_address", _address),
    _maybe("block_number", _big), _maybe("block_timestamp", _big), _flag("orphaned"),
    _some("created_at", _double), _of_transaction(),
    sa.UniqueConstraint("chain_id", "tx_hash", "alert_id"), sa.Index(None, "alert_id"),
    sa.Index(None, "block_timestamp"), sa.Index(None, "from_address"),
)
_table(
    "analyses",
    _key("id", sa.String(64)), _some("chain_id", _big), _some("start_block", _big),
    _some("end_block", _big), _some("end_block_hash", _hash),
    sa.Column("model", sa.ForeignKey("models.id"), nullable=False), _some("n_transactions", _int),
    _some("n_anomalies", _int), _some("analysed_at", _double),
)
_table(
    "decisions",
    _key("chain_id", _big), _key("tx_hash", _hash), _key("decider", sa.String(64)),
    _some("model_version", sa.String(32)), _some("action", _small), _some("reasons", _json),
    _some("shadow", _json), _maybe("score", _double), _maybe("percentile", _double),
    _maybe("threshold", _double), _maybe("prediction", sa.String(8)), _maybe("explanation", _json),
    _maybe("invalid_reason", _text), _some("decided_at", _double), _of_transaction(),
    sa.Index(None, "decided_at"),
)
_table(
    "features",
    _key("chain_id", _big), _key("tx_hash", _hash), _key("model_version", sa.String(32)),
    _some("features", _json), _of_transaction(),
)
_table(
    "transfers",
    _key("chain_id", _big), _key("tx_hash", _hash), _key("log_index", _int, autoincrement=False),
    _some("token", _address), _some("sender", _address), _some("recipient", _address),
    _some("amount", sa.String(78)), _of_transaction(), sa.Index(None, "token"),
)
_table(
    "analysis_rows",
    _key("analysis", _of("analyses.id")), _key("rank", _int, autoincrement=False),
    _key("token", _address), _some("tx_hash", _hash), _some("label", sa.String(128)),
    _some("value", _double), _some("gas_cost", _double), _some("score", _double),
    _some("tx_score", _double), _some("is_anomaly", sa.Boolean()),
)
_table(
    "feedback",
    _key("alert", _of("alerts.id")), _key("author", sa.String(64)),
    _some("is_true_alarm", sa.Boolean()), _some("note", _text), _some("given_at", _double),
)
_table(
    "jobs",
    _key("id", sa.String(32)), _some("request", _json), _some("status", sa.String(16)),
    _some("done", _int), _some("total", _int), _flag("cancel_requested"), _maybe("problem", _json),
    sa.Column("analysis", sa.ForeignKey("analyses.id")), _some("created_at", _double),
    _maybe("started_at", _double), _maybe("finished_at", _double),
    _maybe("worker", sa.String(64)), _maybe("alive_at", _double), _some("attempts", _int),
    sa.Index(None, "status", "created_at"),
)
_table(
    "notifications",
    _key("alert", _of("alerts.id")), _key("channel", sa.String(64)), _some("attempts", _int),
    _some("due_at", _double), _maybe("sent_at", _double), _maybe("failure", _text),
    sa.Index(None, "due_at"),
)
# fmt: on


def upgrade() -> None:
    """Apply."""
    _metadata.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Take back."""
    _metadata.drop_all(op.get_bind(), checkfirst=False)
