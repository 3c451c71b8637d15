"""The saver: checkpoints, the values of their channels, and the writes of their tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

HAS_RUN = "run_id IS NOT NULL"


def upgrade() -> None:
    """Create the tables of the saver."""
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "bursar_checkpoints",
        sa.Column("thread_id", key, primary_key=True),
        sa.Column("checkpoint_ns", key, primary_key=True),
        sa.Column("checkpoint_id", key, primary_key=True),
        sa.Column("parent_id", key),
        sa.Column("run_id", key),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "bursar_checkpoints_run",
        "bursar_checkpoints",
        ["run_id"],
        sqlite_where=sa.text(HAS_RUN),
        postgresql_where=sa.text(HAS_RUN),
    )
    op.create_table(
        "bursar_channel_values",
        sa.Column("thread_id", key, primary_key=True),
        sa.Column("checkpoint_ns", key, primary_key=True),
        sa.Column("version", key, primary_key=True),
        sa.Column("channel", key, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "bursar_task_writes",
        sa.Column("thread_id", key, primary_key=True),
        sa.Column("checkpoint_ns", key, primary_key=True),
        sa.Column("checkpoint_id", key, primary_key=True),
        sa.Column("task_id", key, primary_key=True),
        sa.Column("idx", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("task_path", key, nullable=False),
        sa.Column("channel", key, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables of the saver, and all that they hold."""
    for table in ("task_writes", "channel_values", "checkpoints"):
        op.drop_table(f"bursar_{table}")
