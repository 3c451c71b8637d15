"""The bound: sessions that an incident closes, accounts that are topped up, calls by request and agent."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Every session is open and no account is topped up."""
    op.add_column("bursar_sessions", sa.Column("incident", sa.Text))
    op.add_column("bursar_accounts", sa.Column("granted", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("bursar_calls_request", "bursar_calls", ["request_id", "agent"])


def downgrade() -> None:
    """Forget incidents and top-ups; caps stay as they are."""
    op.drop_index("bursar_calls_request", "bursar_calls")
    op.drop_column("bursar_accounts", "granted")
    op.drop_column("bursar_sessions", "incident")
