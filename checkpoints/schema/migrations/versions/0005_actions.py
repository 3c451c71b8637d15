"""Actions and the approvals of people."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Nothing was acted or approved before."""
    op.create_table(
        "bursar_actions",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("checkpoint_ns", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("irreversible", sa.Boolean, nullable=False),
        sa.Column("arguments_hash", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempt", sa.Text, nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.BigInteger, nullable=False),
        sa.Column("intended_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("reason", sa.Text),
        sa.Column("arguments", sa.LargeBinary),
        sa.Column("result", sa.LargeBinary),
    )
    op.create_index("bursar_actions_run", "bursar_actions", ["session_id", "checkpoint_ns"])
    where = sa.text("state IN ('intended', 'in_doubt', 'undoing')")
    _narrow("bursar_actions_open", "bursar_actions", where)
    op.create_table(
        "bursar_approvals",
        sa.Column("approval_id", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("checkpoint_ns", sa.Text, nullable=False),
        sa.Column("specialist", sa.Text, nullable=False),
        sa.Column("action", sa.Text),
        sa.Column("subject_hash", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("asked_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("answered_at", sa.String(32)),
        sa.Column("answered_by", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("shown", sa.Text),
    )
    op.create_index("bursar_approvals_run", "bursar_approvals", ["session_id", "checkpoint_ns"])
    _narrow("bursar_approvals_waiting", "bursar_approvals", sa.text("state = 'waiting'"))


def _narrow(name: str, table: str, where: sa.TextClause) -> None:
    op.create_index(name, table, ["session_id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("bursar_approvals")
    op.drop_table("bursar_actions")
