"""Indexes by account."""

from alembic import op

revision = "0012"
down_revision = "0011"

_INDEXES = (("transfers", "sender"), ("transfers", "recipient"))


def upgrade() -> None:
    """Apply."""
    for table, column in _INDEXES:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def downgrade() -> None:
    """Take back."""
    for table, column in _INDEXES:
        op.drop_index(op.f(f"ix_{table}_{column}"), table)
