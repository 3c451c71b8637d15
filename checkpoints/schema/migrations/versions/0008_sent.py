"""A call may be sent: the index of open calls holds those too."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

INDEX = ("bursar_calls_open", "bursar_calls", ["session_id"])


def upgrade() -> None:
    """No call is sent yet: those in flight are held."""
    _index("state IN ('held', 'sent', 'unknown')")


def downgrade() -> None:
    """A call that was sent is held again, which it also was."""
    op.execute("UPDATE bursar_calls SET state = 'held' WHERE state = 'sent'")
    _index("state IN ('held', 'unknown')")


def _index(where: str) -> None:
    op.drop_index("bursar_calls_open", "bursar_calls")
    op.create_index(*INDEX, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
