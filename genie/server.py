"""What `langgraph dev` serves: Genie's graph, with Bursar's checkpointer, over the database in `BURSAR_DATABASE`."""

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
    """Return Genie's graph. The server calls this function for every request; all requests share one Genie.

    The first call opens Genie, in a thread so that the server's event loop is not blocked.
    """
    return (await asyncio.to_thread(_genie)).app


@asynccontextmanager
async def checkpointer() -> AsyncGenerator[SQLAlchemySaver]:
    """Yield the checkpointer that the server gives to the graph and uses for its lifetime."""
    yield await asyncio.to_thread(SQLAlchemySaver, _database())


def _genie() -> Genie:
    # Two first requests race: without the lock both threads would miss the cache, and each would open a Genie.
    with _opening:
        return _open_once()


@cache
def _open_once() -> Genie:
    return open_genie(_database(), checkpointer=False)


def _database() -> str:
    return os.environ.get("BURSAR_DATABASE", DEFAULT_DATABASE)
