"""Notifications with an id of their own, and retractions of those that a reorganisation undid."""

from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_COPIED = ("alert", "channel", "attempts", "due_at", "sent_at", "failure")


def upgrade() -> None:
    """Apply."""
    rows = _taken_out("ORDER BY alert, channel")
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        *_common_columns(),
        sa.Column("is_retraction", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("noted_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert"], ["alerts.id"], name=op.f("fk_notifications_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index(op.f("ix_notifications_alert"), "notifications", ["alert"])
    op.create_index(op.f("ix_notifications_due_at"), "notifications", ["due_at"])
    _put_back(
        [row | {"uuid": str(uuid4()), "is_retraction": False, "noted_at": 0.0} for row in rows]
    )


def downgrade() -> None:
    """Take back."""
    rows = {(row["alert"], row["channel"]): row for row in _taken_out("ORDER BY id")}
    op.create_table(
        "notifications",
        *_common_columns(),
        sa.ForeignKeyConstraint(
            ["alert"], ["alerts.id"], name=op.f("fk_notifications_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert", "channel", name=op.f("pk_notifications")),
    )
    op.create_index(op.f("ix_notifications_due_at"), "notifications", ["due_at"])
    _put_back(list(rows.values()))


def _common_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("alert", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
    ]


def _taken_out(order: str) -> list[dict[str, Any]]:
    columns = ", ".join(_COPIED)
    found = op.get_bind().execute(sa.text(f"SELECT {columns} FROM notifications {order}"))  # noqa: S608
    rows = [dict(row._mapping) for row in found]
    op.drop_table("notifications")
    return rows


def _put_back(rows: list[dict[str, Any]]) -> None:
    if rows:
        table = sa.Table("notifications", sa.MetaData(), autoload_with=op.get_bind())
        op.get_bind().execute(sa.insert(table), rows)
