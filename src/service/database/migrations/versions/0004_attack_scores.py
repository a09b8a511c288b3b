"""The attack score beside the anomaly score."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("decisions") as batch:
        batch.add_column(sa.Column("attack_score", sa.Double(), nullable=True))
        batch.add_column(sa.Column("attack_model_version", sa.String(length=32), nullable=True))
        batch.add_column(sa.Column("attack_explanation", sa.JSON(), nullable=True))
    with op.batch_alter_table("alerts") as batch:
        batch.add_column(sa.Column("attack_score", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("alerts") as batch:
        batch.drop_column("attack_score")
    with op.batch_alter_table("decisions") as batch:
        batch.drop_column("attack_explanation")
        batch.drop_column("attack_model_version")
        batch.drop_column("attack_score")
