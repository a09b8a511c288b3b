"""The history of triage; what is known of it so far is its present state."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "triage_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=66), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_true_positive", sa.Boolean()),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id", "tx_hash"],
            ["transactions.chain_id", "transactions.tx_hash"],
            name=op.f("fk_triage_changes_chain_id_tx_hash"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_triage_changes")),
    )
    op.create_index(
        op.f("ix_triage_changes_chain_id_tx_hash"), "triage_changes", ["chain_id", "tx_hash"]
    )
    op.execute(
        "INSERT INTO triage_changes (chain_id, tx_hash, state, author, note, changed_at) "
        "SELECT chain_id, tx_hash, state, author, note, changed_at FROM triage"
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("triage_changes")
