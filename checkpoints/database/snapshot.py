"""Reading the books as they stand at one moment, however busy they are and whatever a damaged row holds."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, text


def one_snapshot(connection: Connection) -> None:
    """Let every statement of this transaction see the same moment. The transaction has run no statement yet."""
    if connection.dialect.name == "postgresql":  # SQLite does so anyway
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


@contextmanager
def lenient_text(connection: Connection) -> Generator[None]:
    """Inside the block, read damaged text too: SQLite returns any bytes, and its driver would stop at bad UTF-8."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    usual = driver.text_factory
    driver.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        yield
    finally:
        driver.text_factory = usual
