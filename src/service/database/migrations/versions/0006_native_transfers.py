"""Native transfers, and the value that a transaction sends."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.add_column("transactions", sa.Column("value_wei", sa.String(length=78), nullable=True))
    op.create_table(
        "native_transfers",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=66), nullable=False),
        sa.Column("log_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sender", sa.String(length=42), nullable=False),
        sa.Column("recipient", sa.String(length=42), nullable=False),
        sa.Column("amount", sa.String(length=78), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id", "tx_hash"],
            ["transactions.chain_id", "transactions.tx_hash"],
            name=op.f("fk_native_transfers_chain_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "chain_id", "tx_hash", "log_index", name=op.f("pk_native_transfers")
        ),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("native_transfers")
    # Not in a batch: on SQLite that copies the table, and what refers to its rows would go.
    op.drop_column("transactions", "value_wei")
