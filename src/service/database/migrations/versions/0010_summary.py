"""One sentence on each transaction; its method and status; whether the contract called is new."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply."""
    op.add_column("decisions", sa.Column("summary", sa.Text(), nullable=True))
    op.add_column("decisions", sa.Column("called_is_new", sa.Boolean(), nullable=True))
    op.add_column("transactions", sa.Column("selector", sa.String(10), nullable=True))
    op.add_column("transactions", sa.Column("status", sa.SmallInteger(), nullable=True))
    op.create_index("ix_transactions_to_address", "transactions", ["to_address"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_transactions_to_address", "transactions")
    op.drop_column("transactions", "status")
    op.drop_column("transactions", "selector")
    op.drop_column("decisions", "called_is_new")
    op.drop_column("decisions", "summary")
