"""Databases for the data layer's tests: a SQLite file and a PostgreSQL database of their own, dropped afterwards."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from bursar.genie.importing.import_report import ImportReport
from bursar.genie.importing.importing import import_files

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgresql_url(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a PostgreSQL database that these tests share and empty."""
    with new_postgres() as url:
        yield url


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
