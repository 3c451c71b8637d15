"""Stored checkpoints may be deflated and sealed, and a channel's value may be stored as a difference."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """What is stored is whole, and neither deflated nor sealed."""
    for table in ("checkpoints", "channel_values", "task_writes"):
        op.add_column(f"bursar_{table}", sa.Column("coding", sa.Text))
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("bursar_channel_values", sa.Column("base", key))


def downgrade() -> None:
    """Drop the columns. Raises `RuntimeError` if a row is deflated, sealed or a difference: it could not be read."""
    for table in ("checkpoints", "channel_values", "task_writes"):
        condition = "coding IS NOT NULL" + (" OR base IS NOT NULL" if table == "channel_values" else "")
        found = op.get_bind().execute(sa.text(f"SELECT 1 FROM bursar_{table} WHERE {condition} LIMIT 1")).first()  # noqa: S608
        if found:
            raise RuntimeError(f"bursar_{table} has rows that an older Bursar cannot read; delete those sessions first")
    op.drop_column("bursar_channel_values", "base")
    for table in ("checkpoints", "channel_values", "task_writes"):
        op.drop_column(f"bursar_{table}", "coding")
