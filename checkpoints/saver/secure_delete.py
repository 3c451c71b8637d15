"""Deleting so that what was deleted is not found in the file either."""

from collections.abc import Generator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError


@contextmanager
def secure_delete(connection: Connection) -> Generator[None]:
    """What this block deletes is overwritten with zeros on SQLite. On PostgreSQL it goes with the next VACUUM."""
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
    """Move SQLite's log into the database and cut it, unless somebody reads from it: it has what was deleted, too.

    For a transaction that has done nothing yet. Where it is not possible, the log is cut when it is used up.
    """
    if connection.dialect.name == "sqlite":
        with suppress(OperationalError):  # somebody's transaction is open
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
