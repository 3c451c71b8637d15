"""The books: sessions, requests, accounts, calls and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

OPEN_STATES = "state IN ('held', 'unknown')"


def upgrade() -> None:
    """Create the tables of the books."""
    op.create_table(
        "bursar_sessions",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("opened_at", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
    )
    op.create_table(
        "bursar_requests",
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("text_hash", sa.String(64), nullable=False),
        sa.Column("opened_at", sa.String(32), nullable=False),
        sa.Column("closed_at", sa.String(32)),
        sa.Column("outcome", sa.Text),
    )
    op.create_index("bursar_requests_session", "bursar_requests", ["session_id"])
    op.create_table(
        "bursar_accounts",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("cap", sa.BigInteger),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.CheckConstraint("spent >= 0 AND held >= 0", name="bursar_accounts_not_negative"),
    )
    _create_calls()
    op.create_table(
        "bursar_events",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )


def _create_calls() -> None:
    op.create_table(
        "bursar_calls",
        sa.Column("call_id", sa.String(200), primary_key=True),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("checkpoint_ns", sa.Text, nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("occurrence", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("price_version", sa.Text, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("held_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("reason", sa.Text),
        sa.Column("response", sa.LargeBinary),
        sa.CheckConstraint("amount >= 0 AND cost >= 0", name="bursar_calls_not_negative"),
    )
    op.create_index("bursar_calls_journal", "bursar_calls", ["session_id", "request_hash", "occurrence"])
    op.create_index(
        "bursar_calls_open",
        "bursar_calls",
        ["session_id"],
        sqlite_where=sa.text(OPEN_STATES),
        postgresql_where=sa.text(OPEN_STATES),
    )


def downgrade() -> None:
    """Drop the tables of the books, and all that they hold."""
    for table in ("events", "calls", "accounts", "requests", "sessions"):
        op.drop_table(f"bursar_{table}")
