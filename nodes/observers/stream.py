"""The stream observer: writes the events of each run (`bursar.state.stream_events`) to `stream_mode="custom"`."""

from contextlib import suppress
from typing import TypedDict

from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.base import RunContext
from bursar.state.langgraph_private import AMBIENT_CONFIG, RUNTIME
from bursar.state.run import Run
from bursar.state.stream_events import Progress, Started, Terminal, TurnTaken


class _Who(TypedDict):
    request_id: str
    specialist: str
    handler: str
    level: int


class StreamObserver:
    """An observer that writes the events of one run to the stream. Each run has its own observer.

    If no caller streams, or if the stream has ended, it does nothing.
    """

    _who: _Who

    def run_started(self, run: RunContext) -> None:
        """Write a `Started` event."""
        self._who = _Who(request_id=run.request_id, specialist=run.specialist, handler=run.handler, level=run.level)
        _write(Started(bursar="started", **self._who))

    def turn(self, run: RunContext, number: int, model: str) -> None:
        """Write a `TurnTaken` event."""
        _write(TurnTaken(bursar="turn", **self._who, turn=number, model=model))

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Write a `Terminal` event with outcome, cost and turns."""
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
        _write(event)


def _write(event: Progress) -> None:
    config = AMBIENT_CONFIG.get() or {}
    runtime = config.get("configurable", {}).get(RUNTIME)
    if runtime is None:  # the run is not part of a graph
        return
    with suppress(RuntimeError):  # race: the stream's event loop is closed, and nobody reads the stream
        runtime.stream_writer(event)
