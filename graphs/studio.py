"""What `langgraph dev` uses besides the graph: Bursar's own checkpointer, in the database that Genie uses."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from bursar.checkpoints.saver import SQLAlchemySaver
from bursar.graphs.genie import DEFAULT_DATABASE


@asynccontextmanager
async def checkpointer() -> AsyncGenerator[SQLAlchemySaver]:
    """The saver for the server's lifetime; named in `langgraph.json`."""
    yield SQLAlchemySaver(os.environ.get("BURSAR_DATABASE", DEFAULT_DATABASE))
