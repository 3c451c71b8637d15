"""The private parts of LangGraph and LangChain that Bursar needs. Check this file when you upgrade either library.

Each name says what the part is for. No other file of the source may name a private part.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph._internal import _constants as constants
from langgraph._internal._config import ensure_config, merge_configs
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite
from langgraph.graph import message

__all__ = [
    "AMBIENT_CONFIG",
    "CHECKPOINTER",
    "DURABILITY",
    "MessagesChannel",
    "READ",
    "RUNTIME",
    "TASKS",
    "ambient_config",
    "current_config",
    "ensure_config",
    "known_info",
    "merge_configs",
    "messages_delta_reducer",
    "outside_runs",
    "read_state",
    "tracer_defaults",
]

# Keys that LangGraph puts into the `configurable` of a run.
CHECKPOINTER = constants.CONFIG_KEY_CHECKPOINTER  # the saver of the graph that runs
DURABILITY = constants.CONFIG_KEY_DURABILITY  # when checkpoints are written: `sync`, `async` or `exit`
READ = constants.CONFIG_KEY_READ  # there only inside a node
RUNTIME = constants.CONFIG_KEY_RUNTIME  # there while a graph runs; has the stream's writer

TASKS = constants.TASKS  # the channel of a `Send`

# The reducer that LangGraph itself tests with `DeltaChannel`. It gives ids to the messages of a channel with this one.
messages_delta_reducer = message._messages_delta_reducer  # pyright: ignore[reportPrivateUsage]


class MessagesChannel(DeltaChannel[list[AnyMessage]]):
    """The channel of a conversation: a `DeltaChannel` that also obeys `REMOVE_ALL_MESSAGES`.

    That message removes all that was written before it, however the writes are cut into batches.
    """

    def update(self, values: Sequence[object]) -> bool:
        """Apply the writes of one step, and return whether there were any."""
        if (kept := _after_removal(values)) is None:
            return super().update(values)
        self.value = []
        super().update(kept)
        return True

    def replay_writes(self, writes: Sequence[PendingWrite]) -> None:
        """Apply stored writes, oldest first."""
        if (kept := _after_removal([value for _, _, value in writes])) is not None:
            self.value = []
            writes = [("", "", value) for value in kept]
        super().replay_writes(writes)


def _after_removal(writes: Sequence[object]) -> list[object] | None:
    """Return what was written after the last `REMOVE_ALL_MESSAGES`, None if there is none."""
    for place, write in reversed(list(enumerate(writes, start=1))):
        several = cast("list[object]", write) if isinstance(write, list) else [write]
        for inside, one in reversed(list(enumerate(several, start=1))):
            if _removes_all(one):
                return [several[inside:], *writes[place:]]
    return None


def _removes_all(one: object) -> bool:
    """Whether the message removes all before it. A server gets it as a mapping."""
    name = cast("Mapping[str, object]", one).get("id") if isinstance(one, Mapping) else getattr(one, "id", None)
    return name == message.REMOVE_ALL_MESSAGES


def tracer_defaults() -> dict[str, object]:
    """Return the settings with which LangChain itself would make a tracer for LangSmith here."""
    from langchain_core.tracers import context

    return context._get_tracer_kwargs()  # pyright: ignore[reportPrivateUsage]


def outside_runs(tracer: object) -> dict[str, int]:
    """Return how many open runs each run has below it that another tracer than `tracer`, one of LangChain's, made."""
    return cast("dict[str, int]", getattr(tracer, "_external_run_ids"))  # noqa: B009 - the name is private


def known_info(client: object) -> object:
    """Return what LangSmith's server has told this client of itself, None if it was not asked yet."""
    return getattr(client, "_info", None)


AMBIENT_CONFIG = var_child_runnable_config  # the config of a Runnable or an interrupt that has none of its own


def current_config() -> RunnableConfig | None:
    """Return the config of the node that runs now; None outside a node."""
    return var_child_runnable_config.get()


def read_state(config: RunnableConfig, names: Sequence[str]) -> dict[str, object]:
    """Return the state's values of these names, as the node of this config would get them; those without a value not.

    The task of a `Send` gets what was sent alone, and reads the state in this way.
    """
    read = cast("Callable[[list[str], bool], dict[str, object]]", config.get("configurable", {})[READ])
    return read(list(names), False)


@contextmanager
def ambient_config(config: RunnableConfig) -> Generator[None]:
    """Inside the block, let each Runnable and each interrupt that has no config of its own use `config`."""
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
