"""Telling how a run goes on, live, to whoever streams with `stream_mode="custom"`; see `bursar.state.stream_events`."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from bursar.state.run import Run
from bursar.state.stream_events import Progress, Started, Terminal, TurnTaken

RUNTIME = "__pregel_runtime"


class _Who(TypedDict):
    request_id: str
    specialist: str
    handler: str
    level: int


class StreamObserver:
    """Tells of one run. Silent where nobody streams, and once the stream has ended."""

    def __init__(self, config: RunnableConfig, *, request_id: str, specialist: str, handler: str, level: int) -> None:
        runtime = config.get("configurable", {}).get(RUNTIME)
        self._write: Callable[[Progress], None] | None = getattr(runtime, "stream_writer", None)
        self._config = config
        self._who = _Who(request_id=request_id, specialist=specialist, handler=handler, level=level)

    def started(self) -> None:
        """The handler begins."""
        event = Started(bursar="started", **self._who)
        self._tell(event)

    def turn(self, number: int, model: str) -> None:
        """A paid call is about to be sent; called from the handler's thread."""
        event = TurnTaken(bursar="turn", **self._who, turn=number, model=model)
        self._tell(event)

    def terminal(self, run: Run) -> None:
        """The run has ended so."""
        if self._write is None:
            return
        event = Terminal(
            bursar="terminal",
            **self._who,
            outcome=run.outcome.value,
            reason=run.reason,
            turns=run.turns,
            cost=f"{run.cost.dollars:f}",
            seconds=run.seconds,
            unsure=run.unsure,
        )
        if run.limit is not None:
            event["limit"] = run.limit.value
        if run.fault is not None:
            event["fault"] = run.fault.value
        self._tell(event)

    def _tell(self, event: Progress) -> None:
        if self._write is None:
            return
        # The writer asks the ambient config where it is; a handler that is a graph has another one there.
        token = var_child_runnable_config.set(self._config)
        try:
            with suppress(RuntimeError):  # the stream's event loop is closed: nobody listens any more
                self._write(event)
        finally:
            var_child_runnable_config.reset(token)
