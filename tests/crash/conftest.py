"""Processes that can be killed: they are forked from a server that has imported the program once."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.support.graphs import empty
from tests.support.provider import Provider

SLOW_IMPORTS = ("alembic.command", "genai_prices.data", "openai.resources.chat", "ofxtools.Parser", "psycopg")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts real processes; each is a fresh fork of a server without threads."""
    os.environ["PYTHONPATH"] = str(ROOT)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.victim", *SLOW_IMPORTS])
    return context


@pytest.fixture(scope="session")
def postgres(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """URL of a PostgreSQL database that these tests share and empty, dropped when they end."""
    with new_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/books.db"
    found = str(request.getfixturevalue("postgres"))
    empty(found)
    return found


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of chat completions, with its own books, that outlives the processes."""
    provider = Provider()
    yield provider
    provider.close()
