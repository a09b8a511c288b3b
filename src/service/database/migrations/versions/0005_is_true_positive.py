"""One name each: `is_true_positive` for feedback, `scheduled_tasks` for the periodic tasks."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply."""
    # SQLite and PostgreSQL share this statement; Alembic's own would copy the table on SQLite.
    op.execute("ALTER TABLE feedback RENAME COLUMN is_true_alarm TO is_true_positive")
    op.rename_table("chores", "scheduled_tasks")


def downgrade() -> None:
    """Take back."""
    op.rename_table("scheduled_tasks", "chores")
    op.execute("ALTER TABLE feedback RENAME COLUMN is_true_positive TO is_true_alarm")
