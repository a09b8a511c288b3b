"""An index that has what cases are grouped and sorted by, and the chain of a job.

Services of several chains may share a database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_COLUMNS = ["chain_id", "tx_hash", "block_timestamp", "action", "orphaned"]
_NAME = f"ix_alerts_{'_'.join(_COLUMNS)}"


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f(_NAME), "alerts", _COLUMNS)
    op.add_column("jobs", sa.Column("chain_id", sa.BigInteger()))


def downgrade() -> None:
    """Take back."""
    op.drop_column("jobs", "chain_id")
    op.drop_index(op.f(_NAME), "alerts")
