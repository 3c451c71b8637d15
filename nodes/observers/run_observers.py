"""All observers of one run: the built-in observers, and the user's. One of them writes to the graph's stream.

The events that are written to `stream_mode="custom"` are those of `bursar.state.stream_events`.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Self, TypedDict

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import LangChainTracer

from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.base import CallContext, CallEnd, RequestContext, RunContext
from bursar.nodes.observers.request_observers import RequestObservers, current_request, tell_request
from bursar.nodes.observers.telling import Telling
from bursar.state.decision import Decision
from bursar.state.langgraph_private import AMBIENT_CONFIG, RUNTIME, ambient_config
from bursar.state.run import Run
from bursar.state.stream_events import DecisionMade, Progress, Started, Terminal, TurnTaken

LOST = "the run ended before the call"


class RunObservers:
    """The observers of one run, as a context manager around it.

    Entering calls `run_started` of each observer, and `ended` calls `run_ended` of each. Leaving by an exception calls
    `run_stopped` of each. `run_ended` and `run_stopped` are called in reverse order: the observer that makes the run's
    span comes before the user's observers, so the span ends after they were called. A router or a composer is no run:
    it does not enter, and only its calls are told.
    """

    def __init__(self, users: Sequence[object], run: RunContext, config: RunnableConfig) -> None:
        request = current_request()
        if request is None:  # outside a supervisor's graph
            context = RequestContext(graph="", session_id=run.session_id, tenant=run.tenant)
            request = RequestObservers(users, context)
        self._stream = StreamObserver()
        self._telling = Telling(request.listeners)
        self.hears_calls = bool(request.listeners)  # nobody does if no trace is kept, and the user has no observer
        self._run = run
        self._config = config
        self._entered = False
        # Race: a handler may pay from several threads at once; each step on a dict is one step.
        self._open: dict[str, CallContext] = {}

    def __enter__(self) -> Self:
        self._entered = True
        self._tell("run_started", self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._tell("run_stopped", self._run, error, last_first=True)

    def turn(self, number: int, model: str) -> None:
        """Call `turn` of each observer for a paid call. Runs in the handler's thread."""
        if self._entered:
            self._tell("turn", self._run, number, model)

    def call_started(self, call: CallContext) -> None:
        """Call `call_started` of each observer for a paid call, before it is sent. Runs in the handler's thread."""
        self._open[call.call_id] = call
        self._tell("call_started", self._run, call)

    def call_ended(self, call: CallContext, end: CallEnd) -> None:
        """Call `call_ended` of each observer for a paid call or an action. Runs in the handler's thread."""
        self._open.pop(call.call_id, None)
        self._tell("call_ended", self._run, call, end, last_first=True)

    def decided(self, decision: Decision) -> None:
        """Tell the stream and each observer of the request a decision that the run has made. Runs where it was made."""
        self._tell("decided", decision)

    def traced(self) -> AbstractContextManager[object]:
        """Return a block in which LangChain's runs are traced below this run, for a thread that knows nothing of it.

        Of the callbacks of the run's node, only those of LangSmith are there.
        """
        callbacks = self._config.get("callbacks")
        if not self.hears_calls or not isinstance(callbacks, BaseCallbackManager):
            return nullcontext()
        tracers = [one for one in callbacks.inheritable_handlers if isinstance(one, LangChainTracer)]
        if not tracers:
            return nullcontext()
        below = copy.copy(callbacks)
        below.handlers, below.inheritable_handlers = [*tracers], [*tracers]
        return ambient_config({"callbacks": below})

    def hang_up(self) -> None:
        """Tell each call that has not ended as one of unknown end, because the run ends."""
        for call in list(self._open.values()):
            self.call_ended(call, CallEnd(state="unknown", at=None, cost=call.held, reason=LOST))

    def ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Call `run_ended` of each observer with the run, and with what its handler raised."""
        self._tell("run_ended", run, error, head, last_first=True)

    def _tell(self, method: str, *what: object, last_first: bool = False) -> None:
        # An observer may ask LangGraph for the current config. Inside a handler that is a graph, it is that graph's.
        token = AMBIENT_CONFIG.set(self._config)
        write = getattr(self._stream, method, None)
        try:
            if write is not None and not last_first:
                write(*what)
            if self.hears_calls:
                self._telling.tell(method, *what, last_first=last_first)
            if write is not None and last_first:
                write(*what)
        finally:
            AMBIENT_CONFIG.reset(token)


def tell_decision(request_id: str, decision: Decision, config: RunnableConfig) -> None:
    """Tell the observers of the request a decision, and write it to the stream of the node whose config this is."""
    stream_decision(request_id, decision, config)
    tell_request("decided", decision)


class _Who(TypedDict):
    request_id: str
    specialist: str
    step: str
    handler: str
    level: int


class StreamObserver:
    """An observer that writes the events of one run to the stream. Each run has its own observer.

    If no caller streams, or if the stream has ended, it does nothing.
    """

    _who: _Who

    def run_started(self, run: RunContext) -> None:
        """Write a `Started` event."""
        self._who = _Who(
            request_id=run.request_id,
            specialist=run.specialist,
            step=run.step,
            handler=run.handler,
            level=run.level,
        )
        _write(Started(bursar="started", **self._who))

    def turn(self, run: RunContext, number: int, model: str) -> None:
        """Write a `TurnTaken` event."""
        _write(TurnTaken(bursar="turn", **self._who, turn=number, model=model))

    def decided(self, decision: Decision) -> None:
        """Write a `DecisionMade` event."""
        _write(_decision_made(self._who["request_id"], decision))

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


def stream_decision(request_id: str, decision: Decision, config: RunnableConfig) -> None:
    """Write a `DecisionMade` event to the stream of the node whose config this is."""
    _write(_decision_made(request_id, decision), config)


def _decision_made(request_id: str, decision: Decision) -> DecisionMade:
    return DecisionMade(
        bursar="decided",
        request_id=request_id,
        specialist=decision.by,
        kind=decision.kind,
        rule=decision.rule,
        chosen=list(decision.chosen),
        note=decision.note,
    )


def _write(event: Progress, config: RunnableConfig | None = None) -> None:
    config = config or AMBIENT_CONFIG.get() or {}
    runtime = config.get("configurable", {}).get(RUNTIME)
    if runtime is None:  # the run is not part of a graph
        return
    with suppress(RuntimeError):  # race: the stream's event loop is closed, and nobody reads the stream
        runtime.stream_writer(event)
