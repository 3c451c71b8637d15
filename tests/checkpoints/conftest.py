"""Databases to test on that a test may break, and a ledger with a key and a clock that stands still."""

import shutil
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.ledger import Ledger
from tests.support.databases import BOTH
from tests.support.notes import with_notes

KEY = b"a key of the tests"
NOW = datetime(2026, 11, 23, 9, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> Iterator[str]:
    """URL of a migrated database whose tables are empty, once on SQLite and once on PostgreSQL."""
    found = f"sqlite:///{shutil.copy(migrated_file, tmp_path)}"
    if request.param == "postgresql":
        found = str(request.getfixturevalue("postgres"))
    yield found
    Database.at(found).close()


@pytest.fixture(params=BOTH)
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without any table, once on SQLite and once on PostgreSQL (a schema of its own)."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/fresh.db"
        return
    with _schema(str(request.getfixturevalue("shared_postgres"))) as found:
        yield found


@pytest.fixture
def another_url(fresh_url: str, tmp_path: Path) -> Iterator[str]:
    """URL of a second database without any table, of the same kind as `fresh_url`."""
    if fresh_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path}/another.db"
        return
    with _schema(fresh_url.partition("?")[0]) as found:
        yield found


@contextmanager
def _schema(base: str) -> Generator[str]:
    schema = f"fresh_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(base.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        yield f"{base}?options=-csearch_path%3D{schema}"
        connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())


@pytest.fixture
def ledger(url: str) -> Ledger:
    """A keyed ledger whose clock stands still."""
    return Ledger(url, key=KEY, clock=lambda: NOW)


@pytest.fixture
def execute(ledger: Ledger) -> Callable[..., int]:
    """Change the database behind the ledger's back: `execute(sql, name=value, …)`; the number of rows changed."""

    def run(sql: str, **values: object) -> int:
        return ledger.database.run(lambda connection: connection.execute(text(sql), values).rowcount)

    return run


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Database]:
    """An SQLite database with one table of notes."""
    with with_notes(f"sqlite:///{tmp_path}/notes.db") as made:
        yield made
