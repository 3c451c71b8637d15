"""A fresh database for each test: SQLite in a file, and PostgreSQL where a server answers."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from bursar.checkpoints.database import Database

SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, dropped after the test."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'sessions.db'}")
        yield made
        made.close()
        return
    name = f"bursar_{uuid4().hex}"
    server = create_engine(SERVER, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        server.dispose()
        if "BURSAR_REQUIRE_POSTGRES" in os.environ:
            raise
        pytest.skip("no PostgreSQL server at 127.0.0.1:5432")
    made = Database(make_url(SERVER).set(database=name))
    yield made
    made.close()
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()
