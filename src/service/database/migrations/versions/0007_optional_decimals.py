"""A token's decimals may be unknown although its symbol is known."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("tokens") as table:
        table.alter_column("decimals", existing_type=sa.Integer(), nullable=True)


def downgrade() -> None:
    """Take back."""
    op.execute("DELETE FROM tokens WHERE decimals IS NULL")
    with op.batch_alter_table("tokens") as table:
        table.alter_column("decimals", existing_type=sa.Integer(), nullable=False)
