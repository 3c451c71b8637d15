"""Databases for the data layer's tests: a SQLite file and a PostgreSQL database of their own, dropped afterwards."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from bursar.nodes.genie.data.import_report import ImportReport
from bursar.nodes.genie.data.importing import import_files

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of an empty database; the test is skipped where there is no server, unless one is required."""
    name = f"genie_data_{os.getpid()}"
    admin = create_engine(f"{SERVER}/postgres", isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        admin.dispose()
        if os.environ.get("BURSAR_REQUIRE_POSTGRES"):
            raise
        pytest.skip("no PostgreSQL server at 127.0.0.1:5432")
    yield f"{SERVER}/{name}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty database of each kind."""
    if request.param == "sqlite":
        made = create_engine(f"sqlite:///{tmp_path / 'household.db'}")
    else:
        made = create_engine(request.getfixturevalue("postgresql_url"))
        with made.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    yield made
    made.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty SQLite file, for what does not depend on the database."""
    made = create_engine(f"sqlite:///{tmp_path / 'household.db'}")
    yield made
    made.dispose()


Importer = Callable[..., ImportReport]


@pytest.fixture
def imported(tmp_path: Path) -> Importer:
    """`imported(engine, "name.csv", text, **options) -> ImportReport`: write a file and import it."""

    def run(engine: Engine, name: str, content: str | bytes, **options: str) -> ImportReport:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return import_files(engine, [file], now=NOW, **options)[0]  # pyright: ignore[reportArgumentType]

    return run
