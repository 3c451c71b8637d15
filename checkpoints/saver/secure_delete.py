"""Helpers that delete bytes from SQLite's files as well, so that nobody finds them there."""

from collections.abc import Generator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError


@contextmanager
def secure_delete(connection: Connection) -> Generator[None]:
    """Inside the block, let SQLite overwrite deleted rows with zeros. PostgreSQL's next VACUUM removes deleted rows."""
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
    """Move SQLite's write-ahead log into the database file and empty the log, which may still have deleted rows.

    The connection's transaction must have run no statement. If another transaction is open, the log is not emptied.
    """
    if connection.dialect.name == "sqlite":
        with suppress(OperationalError):  # somebody's transaction is open
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
