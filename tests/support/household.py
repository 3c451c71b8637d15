"""Databases for tests of Genie: empty databases of each kind, and one with the sample household."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from bursar.genie.app import open_genie
from bursar.genie.household.sample import END, sample_files
from tests.support.databases import BOTH


@pytest.fixture(scope="session")
def postgresql_url(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """URL of a PostgreSQL database that the tests of Genie share. The fixture `engine` empties it for each test."""
    with new_postgres() as url:
        yield url


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty database. The test runs once on SQLite and once on PostgreSQL."""
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
    """An engine on an empty SQLite file, for tests that do not depend on the kind of database."""
    made = create_engine(f"sqlite:///{tmp_path / 'household.db'}")
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the sample household, imported once, for tests to copy."""
    file = tmp_path_factory.mktemp("household") / "genie.db"
    genie = open_genie(f"sqlite:///{file}", as_of=END, environment={})
    genie.import_files(list(sample_files()))
    genie.close()
    return file
