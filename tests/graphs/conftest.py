"""Ledgers for tests of whole graphs; every ledger must verify when its test ends."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bursar import Ledger
from tests.support.graphs import empty
from tests.support.provider import Provider


@pytest.fixture
def url(tmp_path: Path) -> str:
    """URL of an SQLite file of the test's own."""
    return f"sqlite:///{tmp_path}/books.db"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on that file."""
    yield from _verified(url)


@pytest.fixture(scope="session")
def postgres(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """URL of a PostgreSQL database that these tests share and empty, dropped when they end."""
    with new_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def any_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield from _verified(f"sqlite:///{tmp_path}/books.db")
        return
    url = str(request.getfixturevalue("postgres"))
    empty(url)
    yield from _verified(url)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of chat completions, with its own books."""
    provider = Provider()
    yield provider
    provider.close()


def _verified(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    found = ledger.verify()
    ledger.database.close()
    assert found, str(found)
