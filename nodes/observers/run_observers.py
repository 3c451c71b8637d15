"""All observers of one run: the three built-in observers, and the user's."""

import logging
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, cast

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.base import Observer, RunContext
from bursar.nodes.observers.langsmith import LangSmithObserver
from bursar.nodes.observers.opentelemetry import OpenTelemetryObserver
from bursar.nodes.observers.stream import StreamObserver
from bursar.state.langgraph_private import AMBIENT_CONFIG
from bursar.state.run import Run

_log = logging.getLogger(__name__)


class RunObservers:
    """The observers of one run, as a context manager around it.

    Entering calls `run_started` of each observer, and `ended` calls `run_ended` of each. Leaving by an exception calls
    `run_stopped` of each. `run_ended` and `run_stopped` are called in reverse order: the observer that makes the run's
    span comes before the user's observers, so the span ends after they were called.
    """

    def __init__(self, users: Sequence[Observer], run: RunContext, config: RunnableConfig) -> None:
        self._observers: tuple[object, ...] = (StreamObserver(), OpenTelemetryObserver(), LangSmithObserver(), *users)
        self._run = run
        self._config = config
        # Places in the tuple, because two observers may be equal. Race: a handler may pay from several threads at once;
        # adding to a set is one step.
        self._dropped: set[int] = set()

    def __enter__(self) -> Self:
        self._tell(range(len(self._observers)), "run_started", self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._tell(reversed(range(len(self._observers))), "run_stopped", self._run, error)

    def turn(self, number: int, model: str) -> None:
        """Call `turn` of each observer for a paid call. Runs in the handler's thread."""
        self._tell(range(len(self._observers)), "turn", self._run, number, model)

    def ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Call `run_ended` of each observer with the run, and with what its handler raised."""
        self._tell(reversed(range(len(self._observers))), "run_ended", run, error, head)

    def _tell(self, places: Iterable[int], method: str, *what: object) -> None:
        # An observer may ask LangGraph for the current config. Inside a handler that is a graph, it is that graph's.
        token = AMBIENT_CONFIG.set(self._config)
        try:
            for place in places:
                observer = self._observers[place]
                call = cast("Callable[..., object] | None", getattr(observer, method, None))
                if call is None or place in self._dropped:
                    continue
                try:
                    call(*what)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: it is logged and dropped
                    self._drop(place, method, error)
        finally:
            AMBIENT_CONFIG.reset(token)

    def _drop(self, place: int, method: str, error: BaseException) -> None:
        self._dropped.add(place)
        # The error's text and traceback are not logged: they may quote a request or a key.
        name = type(self._observers[place]).__name__
        _log.warning("observer %s failed in %s (%s) and hears no more of this run", name, method, type(error).__name__)
