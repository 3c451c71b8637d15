"""A table of notes: what is in it was committed."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from bursar.checkpoints.database import Database, Work

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
