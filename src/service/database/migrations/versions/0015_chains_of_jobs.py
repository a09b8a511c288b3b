"""The chain of a job, since services of several chains may share a database."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("chain_id", sa.BigInteger()))


def downgrade() -> None:
    """Take back."""
    op.drop_column("jobs", "chain_id")
