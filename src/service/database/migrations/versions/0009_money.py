"""What was gained and lost, in USD."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply."""
    op.add_column("decisions", sa.Column("money", sa.JSON(), nullable=True))
    op.add_column("alerts", sa.Column("gained_usd", sa.Double(), nullable=True))
    op.add_column("alerts", sa.Column("lost_usd", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("alerts", "lost_usd")
    op.drop_column("alerts", "gained_usd")
    op.drop_column("decisions", "money")
