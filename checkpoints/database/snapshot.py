"""Helpers to read the database as it is at one moment, while others write, and even if a row is damaged."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, text


def one_snapshot(connection: Connection) -> None:
    """Let every statement of this transaction see the database as it is now. Call this before its first statement."""
    if connection.dialect.name == "postgresql":  # SQLite does so anyway
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


@contextmanager
def lenient_text(connection: Connection) -> Generator[None]:
    """Inside the block, read text that is not valid UTF-8 with replacement characters; SQLite's driver would raise."""
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
