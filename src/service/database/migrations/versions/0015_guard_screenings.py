"""The guard's decisions beside the screenings of pending transactions, one row each."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_KEPT = (
    "uuid, chain_id, tx_hash, from_address, to_address, screened_at, block_number, status, action,"
    " reasons, summary, problem, state, told, mined_block, mined_action, mined_at"
)


def upgrade() -> None:
    """Apply. The table gets another primary key, which SQLite cannot change."""
    op.execute("CREATE TABLE screenings_before AS SELECT * FROM screenings")
    op.drop_table("screenings")
    op.create_table(
        "screenings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(66)),
        *_shared(),
        sa.Column("outcome", sa.String(16)),
        sa.Column("is_enforced", sa.Boolean()),
        sa.Column("client", sa.Text()),
        sa.Column("method", sa.Text()),
        sa.Column("seconds", sa.Double()),
        sa.Column("answer", sa.Text()),
        sa.Column("is_reverted", sa.Boolean()),
        sa.PrimaryKeyConstraint("id", name="pk_screenings"),
        sa.UniqueConstraint("uuid", name="uq_screenings_uuid"),
    )
    op.create_index("ix_screenings_chain_id_tx_hash", "screenings", ["chain_id", "tx_hash"])
    op.create_index("ix_screenings_state_screened_at", "screenings", ["state", "screened_at"])
    op.create_index("ix_screenings_screened_at", "screenings", ["screened_at"])
    op.create_index("ix_screenings_mined_block", "screenings", ["mined_block"])
    op.execute(
        f"INSERT INTO screenings (source, {_KEPT}) SELECT 'pending', {_KEPT}"  # noqa: S608
        " FROM screenings_before ORDER BY screened_at"
    )
    op.drop_table("screenings_before")


def downgrade() -> None:
    """Take back; the screenings of pending transactions are kept."""
    op.execute("CREATE TABLE screenings_after AS SELECT * FROM screenings")
    op.drop_table("screenings")
    op.create_table(
        "screenings",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(66), nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        *_shared(),
        sa.PrimaryKeyConstraint("chain_id", "tx_hash", name="pk_screenings"),
    )
    op.create_index("ix_screenings_screened_at", "screenings", ["screened_at"])
    op.create_index("ix_screenings_mined_block", "screenings", ["mined_block"])
    op.execute(
        f"INSERT INTO screenings ({_KEPT}) SELECT {_KEPT}"  # noqa: S608
        " FROM screenings_after WHERE source = 'pending'"
    )
    op.drop_table("screenings_after")


def _shared() -> list[sa.Column[object]]:
    return [
        sa.Column("from_address", sa.String(42)),
        sa.Column("to_address", sa.String(42)),
        sa.Column("screened_at", sa.Double(), nullable=False),
        sa.Column("block_number", sa.BigInteger()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("told", sa.JSON(), nullable=False),
        sa.Column("mined_block", sa.BigInteger()),
        sa.Column("mined_action", sa.SmallInteger()),
        sa.Column("mined_at", sa.Double()),
    ]
