"""A table of notes, by which a test sees what was committed, and a block that keeps SQLite's connection busy."""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Self

from sqlalchemy import Connection, text

from bursar.checkpoints.database.database import Database, Work

ADD = text("INSERT INTO notes (note) VALUES (:note)")


@contextmanager
def with_notes(url: str) -> Generator[Database]:
    """Open a database with the table of notes as its only table; close it at the end of the block."""
    made = Database(url)
    made.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY)")))
    yield made
    made.close()


def add(note: str, connection: Connection) -> str:
    """Add a note and return it."""
    connection.execute(ADD, {"note": note})
    return note


def noting(*names: str) -> Work[str]:
    """Return work for `Database.run` that adds a note for each name, and returns the names joined."""
    return lambda connection: "".join(add(name, connection) for name in names)


def notes(database: Database) -> list[str]:
    """Return the committed notes, in alphabetical order."""
    query = text("SELECT note FROM notes ORDER BY note")
    return database.run(lambda connection: list(connection.execute(query).scalars()))


class Busy:
    """A block in which SQLite's one connection is busy, so that other work waits until `go_on`.

    By default the connection reads, so that no other work joins its transaction. `statements` has what the connection
    ran after `go_on`.
    """

    def __init__(self, database: Database, *, readonly: bool = True, durable: bool = True) -> None:
        self.statements: list[str] = []
        self._begun, self._go_on = threading.Event(), threading.Event()
        work = partial(database.run, self._work, readonly=readonly, durable=durable)
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(60)
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_on()

    def go_on(self) -> None:
        self._go_on.set()
        self._thread.join()

    def _work(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._begun.set()
        assert self._go_on.wait(60)
        driver.set_trace_callback(self.statements.append)
