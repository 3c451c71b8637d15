"""Fixtures for databases and for ledgers on them. The root conftest makes them available to every test."""

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, inspect, text

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.schema.migrate import VERSION_TABLE, migrate

REQUIRE, SERVER = "BURSAR_REQUIRE_POSTGRES", "BURSAR_TEST_POSTGRES"
DEFAULT_SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
CONNECT_SECONDS = 3
BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def new_postgres() -> Callable[[], AbstractContextManager[str]]:
    """A function for `with new_postgres() as url`, which makes an empty PostgreSQL database for the block.

    `BURSAR_TEST_POSTGRES` names the server. If no server answers, the function skips the test, or fails it if
    `BURSAR_REQUIRE_POSTGRES` is set.
    """
    return _new_postgres


@contextmanager
def _new_postgres() -> Generator[str]:
    server = os.environ.get(SERVER, DEFAULT_SERVER)
    try:
        admin = psycopg.connect(server.replace("+psycopg", "", 1), autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        reason = f"no PostgreSQL server at {server}: {str(error).splitlines()[0]}"
        if os.environ.get(REQUIRE):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    name = f"bursar_test_{uuid.uuid4().hex[:12]}"
    with admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
        yield f"{server.rpartition('/')[0]}/{name}"
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def shared_postgres(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """URL of a PostgreSQL database with Bursar's tables, which may have rows of earlier tests.

    A test uses the fixture `postgres` instead, which empties the tables.
    """
    with new_postgres() as url:
        database = Database(url)
        migrate(database)
        database.close()
        yield url


@pytest.fixture
def postgres(shared_postgres: str) -> str:
    """URL of a PostgreSQL database with Bursar's tables, all empty."""
    database = Database(shared_postgres)
    database.run(_truncate)
    database.close()
    return shared_postgres


def _truncate(connection: Connection) -> None:
    """Delete every row of every table, except the row with the schema's version."""
    tables = [name for name in inspect(connection).get_table_names() if name != VERSION_TABLE]
    connection.execute(text("TRUNCATE " + ", ".join(f'"{name}"' for name in tables)))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with Bursar's tables and no rows, which tests copy because that is faster than making tables."""
    made = tmp_path_factory.mktemp("migrated") / "books.db"
    database = Database(f"sqlite:///{made}")
    migrate(database)
    database.close()
    return made


def sqlite_url(folder: Path) -> str:
    """Return the URL of an SQLite file in `folder`."""
    return f"sqlite:///{folder}/books.db"


@pytest.fixture(params=BOTH)
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database. The test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """URL of an SQLite file of the test's own."""
    return sqlite_url(tmp_path)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on `url`. The test fails if the ledger does not verify at the end."""
    with verified(url) as made:
        yield made


@pytest.fixture
def any_ledger(any_url: str) -> Iterator[Ledger]:
    """A ledger on `any_url`: the test runs on SQLite and on PostgreSQL. It fails if the ledger does not verify."""
    with verified(any_url) as made:
        yield made


@contextmanager
def verified(where: str | Database) -> Generator[Ledger]:
    """Open a ledger for the block. At the end of the block, close it, and fail if its log does not verify."""
    ledger = Ledger(where)
    yield ledger
    found = ledger.verify()
    ledger.database.close()
    assert found, str(found)
