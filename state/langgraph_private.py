"""The private parts of LangGraph and LangChain that Bursar needs. Check this file when you upgrade either library.

Each name says what the part is for. No other file of the source may name a private part.
"""

from collections.abc import Generator
from contextlib import contextmanager

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph._internal import _constants as constants
from langgraph._internal._config import merge_configs
from langgraph.graph import message

__all__ = [
    "AMBIENT_CONFIG",
    "CHECKPOINTER",
    "DURABILITY",
    "READ",
    "RUNTIME",
    "TASKS",
    "ambient_config",
    "current_config",
    "merge_configs",
    "messages_delta_reducer",
]

# Keys that LangGraph puts into the `configurable` of a run.
CHECKPOINTER = constants.CONFIG_KEY_CHECKPOINTER  # the saver of the graph that runs
DURABILITY = constants.CONFIG_KEY_DURABILITY  # when checkpoints are written: `sync`, `async` or `exit`
READ = constants.CONFIG_KEY_READ  # there only inside a node
RUNTIME = constants.CONFIG_KEY_RUNTIME  # there while a graph runs; has the stream's writer

TASKS = constants.TASKS  # the channel of a `Send`

# The reducer that LangGraph itself tests with `DeltaChannel`.
messages_delta_reducer = message._messages_delta_reducer  # pyright: ignore[reportPrivateUsage]


AMBIENT_CONFIG = var_child_runnable_config  # the config of a Runnable or an interrupt that has none of its own


def current_config() -> RunnableConfig | None:
    """Return the config of the node that runs now; None outside a node."""
    return var_child_runnable_config.get()


@contextmanager
def ambient_config(config: RunnableConfig) -> Generator[None]:
    """Inside the block, let each Runnable and each interrupt that has no config of its own use `config`."""
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
