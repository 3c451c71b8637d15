"""A fresh database for each test: SQLite in a file, PostgreSQL where a server answers, and that through PgBouncer."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from bursar.checkpoints.database.database import Database
from tests.support import servers


@pytest.fixture(
    params=["sqlite", *(pytest.param(kind, marks=pytest.mark.postgres) for kind in ("postgresql", "pooled"))]
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, dropped after the test."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'sessions.db'}")
        yield made
        made.close()
        return
    new_postgres = request.getfixturevalue("new_postgres")
    with new_postgres() as url, servers.pgbouncer(url) if request.param == "pooled" else nullcontext(url) as reached:
        made = Database(reached)
        yield made
        made.close()
