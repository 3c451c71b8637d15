"""An SQLite database and one of PostgreSQL, empty but for the tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.checkpoints.database.database import Database
from tests.support.databases import BOTH, sqlite_url


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        found = sqlite_url(tmp_path)
        yield found
        Database.at(found).close()
        return
    with request.getfixturevalue("new_postgres")() as found:
        yield found
        Database.at(found).close()
