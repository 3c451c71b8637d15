"""What `langgraph dev` serves: Genie, and Bursar's own checkpointer, over the database that `BURSAR_DATABASE` names."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache

from bursar import SQLAlchemySaver, Supervisor
from bursar.genie import DEFAULT_DATABASE
from bursar.genie.app import Genie, open_genie

_opening = threading.Lock()


async def graph() -> Supervisor:
    """Genie's graph. The server calls this for every request; all of them share one Genie.

    It is opened in a thread, so that the server's event loop is not blocked.
    """
    return (await asyncio.to_thread(_genie)).app


@asynccontextmanager
async def checkpointer() -> AsyncGenerator[SQLAlchemySaver]:
    """The saver for the server's lifetime. The server gives it to the graph."""
    yield await asyncio.to_thread(SQLAlchemySaver, _database())


def _genie() -> Genie:
    with _opening:
        return _open_once()


@cache
def _open_once() -> Genie:
    return open_genie(_database(), checkpointer=False)


def _database() -> str:
    return os.environ.get("BURSAR_DATABASE", DEFAULT_DATABASE)
