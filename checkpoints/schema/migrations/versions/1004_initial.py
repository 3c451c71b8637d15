"""Every table of Bursar, as the first release will have them.

Until then this file is edited in place of a second migration. Give it a new number whenever you edit it, higher than
the one before, so that a database which was made before the edit is refused and not misread. Numbers below 1000 were
those of the eight migrations that this one replaces.
"""

import sqlalchemy as sa
from alembic import op

revision = "1004"
down_revision = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    _create_accounts()
    _create_calls()
    _create_actions()
    _create_approvals()
    _create_breakers_and_pauses()
    _create_checkpoints()
    _create_leases()


def _create_accounts() -> None:
    op.create_table(
        "bursar_sessions",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("opened_at", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("incident", sa.Text),
    )
    op.create_table(
        "bursar_requests",
        sa.Column("request_id", sa.String(200), primary_key=True),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("text_hash", sa.String(64), nullable=False),
        sa.Column("opened_at", sa.String(32), nullable=False),
        sa.Column("closed_at", sa.String(32)),
        sa.Column("outcome", sa.Text),
        sa.Column("parent", sa.String(200)),
    )
    op.create_index("bursar_requests_parent", "bursar_requests", ["parent"])
    op.create_index("bursar_requests_session", "bursar_requests", ["session_id"])
    op.create_table(
        "bursar_accounts",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("cap", sa.BigInteger),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("granted", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("spent >= 0 AND held >= 0", name="bursar_accounts_not_negative"),
    )
    op.create_table(
        "bursar_events",
        sa.Column("session_id", sa.String(200), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("run_of", sa.Text),
        sa.Column("run_cost", sa.BigInteger),
    )
    _create_partial_index("bursar_events_run", ["run_of", "at", "run_cost"], "run_of IS NOT NULL")


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
        sa.Column("cache_saved", sa.BigInteger),
        sa.Column("whole", sa.Boolean),
        sa.Column("held_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("reason", sa.Text),
        sa.Column("response", sa.LargeBinary),
        sa.CheckConstraint("amount >= 0 AND cost >= 0", name="bursar_calls_not_negative"),
    )
    op.create_index("bursar_calls_journal", "bursar_calls", ["session_id", "request_hash", "occurrence"])
    op.create_index("bursar_calls_request", "bursar_calls", ["request_id", "agent"])
    _create_partial_index("bursar_calls_open", ["session_id"], "state IN ('held', 'sent', 'unknown')")
    columns = ["agent", "model", "ended_at", "output_tokens", "whole"]
    _create_partial_index("bursar_calls_answers", columns, "whole IS TRUE")


def _create_actions() -> None:
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
    _create_partial_index("bursar_actions_open", ["session_id"], "state IN ('intended', 'in_doubt', 'undoing')")


def _create_approvals() -> None:
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
    _create_partial_index("bursar_approvals_waiting", ["session_id"], "state = 'waiting'")


def _create_breakers_and_pauses() -> None:
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


def _create_checkpoints() -> None:
    op.create_table(
        "bursar_checkpoints",
        sa.Column("thread_id", KEY, primary_key=True),
        sa.Column("checkpoint_ns", KEY, primary_key=True),
        sa.Column("checkpoint_id", KEY, primary_key=True),
        sa.Column("parent_id", KEY),
        sa.Column("run_id", KEY),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("coding", sa.Text),
    )
    _create_partial_index("bursar_checkpoints_run", ["run_id"], "run_id IS NOT NULL")
    op.create_table(
        "bursar_channel_values",
        sa.Column("thread_id", KEY, primary_key=True),
        sa.Column("checkpoint_ns", KEY, primary_key=True),
        sa.Column("version", KEY, primary_key=True),
        sa.Column("channel", KEY, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("coding", sa.Text),
        sa.Column("base", KEY),
    )
    op.create_table(
        "bursar_task_writes",
        sa.Column("thread_id", KEY, primary_key=True),
        sa.Column("checkpoint_ns", KEY, primary_key=True),
        sa.Column("checkpoint_id", KEY, primary_key=True),
        sa.Column("task_id", KEY, primary_key=True),
        sa.Column("idx", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("task_path", KEY, nullable=False),
        sa.Column("channel", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("coding", sa.Text),
    )


def _create_leases() -> None:
    op.create_table(
        "bursar_leases",
        sa.Column("session_id", KEY, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
    )


def _create_partial_index(name: str, columns: list[str], condition: str) -> None:
    """An index of the rows for which the condition is true; its name begins with that of its table."""
    where = sa.text(condition)
    op.create_index(name, name.rpartition("_")[0], columns, sqlite_where=where, postgresql_where=where)
