"""A fresh database for each test: SQLite in a file, and PostgreSQL where a server answers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bursar.checkpoints.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], AbstractContextManager[str]]
) -> Iterator[Database]:
    """An empty database, dropped after the test."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'sessions.db'}")
        yield made
        made.close()
        return
    with new_postgres() as url:
        made = Database(url)
        yield made
        made.close()
