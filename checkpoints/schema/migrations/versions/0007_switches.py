"""Breakers and pauses."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """No breaker saw a fault, and nothing is paused."""
    op.create_table(
        "bursar_breakers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("until", sa.String(32), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "bursar_pauses",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Forget both."""
    op.drop_table("bursar_pauses")
    op.drop_table("bursar_breakers")
