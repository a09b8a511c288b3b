"""What people do about transactions with alerts; those with feedback are done."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_OF_FEEDBACK = """
INSERT INTO triage (chain_id, tx_hash, state, author, note, changed_at)
SELECT chain_id, tx_hash, 'done', author, note, given_at
FROM (
    SELECT
        alerts.chain_id, alerts.tx_hash, feedback.author, feedback.note, feedback.given_at,
        ROW_NUMBER() OVER (
            PARTITION BY alerts.chain_id, alerts.tx_hash
            ORDER BY feedback.given_at DESC, feedback.author
        ) AS newest
    FROM feedback JOIN alerts ON alerts.id = feedback.alert
) AS ranked
WHERE newest = 1
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "triage",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=66), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id", "tx_hash"],
            ["transactions.chain_id", "transactions.tx_hash"],
            name=op.f("fk_triage_chain_id_tx_hash"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("chain_id", "tx_hash", name=op.f("pk_triage")),
    )
    op.execute(_OF_FEEDBACK)


def downgrade() -> None:
    """Take back."""
    op.drop_table("triage")
