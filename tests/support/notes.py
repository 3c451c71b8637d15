"""A table of notes: what is in it was committed; and a connection that is kept at work meanwhile."""

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
    """A database with that one table, closed afterwards."""
    made = Database(url)
    made.run(lambda connection: connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY)")))
    yield made
    made.close()


def add(note: str, connection: Connection) -> str:
    """Add a note, which is returned."""
    connection.execute(ADD, {"note": note})
    return note


def noting(*names: str) -> Work[str]:
    """Work that adds the notes."""
    return lambda connection: "".join(add(name, connection) for name in names)


def notes(database: Database) -> list[str]:
    """What is there, in order."""
    query = text("SELECT note FROM notes ORDER BY note")
    return database.run(lambda connection: list(connection.execute(query).scalars()))


class Busy:
    """Keeps SQLite's one connection at work, so that whatever is asked for meanwhile waits; hears its statements.

    By default it reads, so that nothing joins it.
    """

    def __init__(self, database: Database, *, readonly: bool = True, durable: bool = True) -> None:
        self.statements: list[str] = []
        self._begun, self._go_on = threading.Event(), threading.Event()
        work = partial(database.run, self._work, readonly=readonly, durable=durable)
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(10)
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
        assert self._go_on.wait(10)
        driver.set_trace_callback(self.statements.append)
