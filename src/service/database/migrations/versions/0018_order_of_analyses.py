"""Numbers of analyses and jobs in the order in which they were stored, forests stored once.

What the batch analysis has stored is dropped with its tables: it can be run again. Positions in a
block get 64 bits, which SQLite's integers have.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_big, _int = sa.BigInteger(), sa.Integer()
_double: sa.Double[float] = sa.Double()
_json, _address, _hash, _digest = sa.JSON(), sa.String(42), sa.String(66), sa.String(64)
_POSITIONS = {"transactions": "tx_index", "transfers": "log_index", "native_transfers": "log_index"}


def upgrade() -> None:
    """Apply."""
    _set_positions(_int, _big)
    _drop("jobs", "analysis_rows", "analyses", "models")
    new = sa.MetaData(naming_convention=_CONVENTION)
    # fmt: off
    sa.Table(
        "forests", new,
        _key("sha256", _digest), _some("content", sa.LargeBinary()),
    )
    sa.Table(
        "models", new,
        *_of_model(sa.Column("sha256", sa.ForeignKey("forests.sha256"), nullable=False)),
    )
    sa.Table(
        "analyses", new,
        _key("number", _id), sa.Column("id", _digest, unique=True, nullable=False),
        *_of_analysis(),
    )
    sa.Table("analysis_rows", new, _key("analysis", _digest), *_of_row())
    sa.Table(
        "jobs", new,
        _key("number", _id), sa.Column("id", sa.String(32), unique=True, nullable=False),
        _some("chain_id", _big), *_of_job(), sa.Index(None, "status", "number"),
    )
    # fmt: on
    new.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Take back."""
    _drop("jobs", "analysis_rows", "analyses", "models", "forests")
    old = sa.MetaData(naming_convention=_CONVENTION)
    # fmt: off
    sa.Table(
        "models", old,
        *_of_model(_some("sha256", _digest)), _some("content", sa.LargeBinary()),
        sa.Index(None, "created_at"),
    )
    sa.Table("analyses", old, _key("id", _digest), *_of_analysis())
    sa.Table(
        "analysis_rows", old,
        _key("analysis", sa.ForeignKey("analyses.id", ondelete="CASCADE")), *_of_row(),
    )
    sa.Table(
        "jobs", old,
        _key("id", sa.String(32)), *_of_job(), sa.Column("chain_id", _big),
        sa.Index(None, "status", "created_at"),
    )
    # fmt: on
    old.create_all(op.get_bind(), checkfirst=False)
    _set_positions(_big, _int)


def _set_positions(before: sa.Integer, after: sa.Integer) -> None:
    # On SQLite the table would be copied, and what refers to its rows would go.
    if op.get_bind().dialect.name != "sqlite":
        for table, column in _POSITIONS.items():
            op.alter_column(table, column, existing_type=before, type_=after)


def _drop(*tables: str) -> None:
    for table in tables:
        op.drop_table(table)


def _key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True)


def _some(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


# fmt: off
def _of_model(sha256: sa.Column[Any]) -> list[sa.Column[Any]]:
    return [
        _key("id", _id), _some("created_at", _double), sha256, _some("inputs", _json),
        _some("offset", _double), _some("training", _json),
    ]


def _of_analysis() -> list[sa.Column[Any]]:
    return [
        _some("chain_id", _big), _some("start_block", _big), _some("end_block", _big),
        _some("end_block_hash", _hash),
        sa.Column("model", sa.ForeignKey("models.id"), nullable=False),
        _some("n_transactions", _int), _some("n_anomalies", _int), _some("analysed_at", _double),
    ]


def _of_row() -> list[sa.Column[Any]]:
    return [
        sa.Column("rank", _int, primary_key=True, autoincrement=False), _key("token", _address),
        _some("tx_hash", _hash), _some("label", sa.String(128)), _some("value", _double),
        _some("gas_cost", _double), _some("score", _double), _some("tx_score", _double),
        _some("is_anomaly", sa.Boolean()),
    ]


def _of_job() -> list[sa.Column[Any]]:
    return [
        _some("request", _json), _some("status", sa.String(16)), _some("done", _int),
        _some("total", _int),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("problem", _json), sa.Column("analysis", sa.ForeignKey("analyses.id")),
        _some("created_at", _double), sa.Column("started_at", _double),
        sa.Column("finished_at", _double), sa.Column("worker", sa.String(64)),
        sa.Column("alive_at", _double), _some("attempts", _int),
    ]
# fmt: on
