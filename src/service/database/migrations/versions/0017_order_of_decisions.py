"""The order in which decisions were stored: a clock may go back. So far their times have it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "decisions", sa.Column("number", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute(
        "UPDATE decisions SET number = ordered.place FROM (SELECT chain_id, tx_hash, decider,"
        " row_number() OVER (PARTITION BY chain_id ORDER BY decided_at) AS place FROM decisions)"
        " AS ordered WHERE decisions.chain_id = ordered.chain_id"
        " AND decisions.tx_hash = ordered.tx_hash AND decisions.decider = ordered.decider"
    )
    op.drop_index(op.f("ix_decisions_decided_at"), "decisions")
    op.create_index(op.f("ix_decisions_chain_id_number"), "decisions", ["chain_id", "number"])


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("ix_decisions_chain_id_number"), "decisions")
    op.create_index(op.f("ix_decisions_decided_at"), "decisions", ["decided_at"])
    op.drop_column("decisions", "number")
