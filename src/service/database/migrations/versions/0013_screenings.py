"""Screenings of pending transactions."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "screenings",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(66), nullable=False),
        sa.Column("from_address", sa.String(42)),
        sa.Column("to_address", sa.String(42)),
        sa.Column("uuid", sa.String(36), nullable=False),
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
        sa.PrimaryKeyConstraint("chain_id", "tx_hash", name="pk_screenings"),
    )
    op.create_index("ix_screenings_screened_at", "screenings", ["screened_at"])
    op.create_index("ix_screenings_mined_block", "screenings", ["mined_block"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("screenings")
