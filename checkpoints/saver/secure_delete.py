"""Deleting so that the deleted bytes are not found in SQLite's files either."""

from collections.abc import Generator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError


@contextmanager
def secure_delete(connection: Connection) -> Generator[None]:
    """Let SQLite overwrite with zeros what the block deletes. On PostgreSQL the next VACUUM removes it."""
    if connection.dialect.name != "sqlite":
        yield
        return
    before = connection.exec_driver_sql("PRAGMA secure_delete").scalar()
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA secure_delete={before}")


def truncate_wal(connection: Connection) -> None:
    """Move SQLite's log into the database and cut it, because the log has what was deleted, too.

    The transaction must have done nothing yet. If another transaction is open, the log stays until it is used up.
    """
    if connection.dialect.name == "sqlite":
        with suppress(OperationalError):  # somebody's transaction is open
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
