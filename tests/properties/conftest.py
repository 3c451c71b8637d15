"""An SQLite database and one of PostgreSQL, empty but for the tables."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bursar.checkpoints.database.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], AbstractContextManager[str]]
) -> Iterator[str]:
    """URL of a database without tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path}/books.db"
        yield found
        Database.at(found).close()
        return
    with new_postgres() as found:
        yield found
        Database.at(found).close()
