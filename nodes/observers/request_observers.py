"""The observers of one invocation of a supervisor's graph, from before the graph starts until it has ended."""

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from langchain_core.callbacks import Callbacks
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from bursar.nodes.observers.base import RequestContext, RequestEnd, Unfinished
from bursar.nodes.observers.langsmith import LangSmithObserver
from bursar.nodes.observers.opentelemetry import OpenTelemetryObserver
from bursar.nodes.observers.opentelemetry_metrics import OpenTelemetryMetricsObserver
from bursar.nodes.observers.telling import Listener, Telling
from bursar.state.session import Request

T = TypeVar("T")

END_OF_STREAM = object()
BUILT_IN = (OpenTelemetryObserver, OpenTelemetryMetricsObserver, LangSmithObserver)

_current: ContextVar["RequestObservers | None"] = ContextVar("bursar_request_observers", default=None)


def current_request() -> "RequestObservers | None":
    """Return the observers of the request in which this code runs, None outside any request."""
    return _current.get()


class RequestObservers:
    """The observers of one invocation, as a context manager around it.

    The graph's steps run in blocks of `inside()`. There, those context variables are set that observers set at the
    request's start; the caller's own code between two steps of a stream does not see them.
    """

    def __init__(self, users: Sequence[object], context: RequestContext) -> None:
        built_in = [kind() for kind in BUILT_IN if not any(isinstance(one, kind) for one in users)]
        listeners = [Listener(one, apart=not isinstance(one, BUILT_IN)) for one in (*built_in, *users)]
        chosen = (_of_request(one, context) for one in listeners)
        self.listeners: Sequence[Listener] = [one for one in chosen if one is not None]
        self.tell = Telling(self.listeners).tell
        self._built_in = [one for one in self.listeners if not one.apart]
        self._context = context
        self._opened: Request | None = None
        self._end: RequestEnd | None = None
        self._variables: dict[ContextVar[Any], object] = {}

    def __enter__(self) -> Self:
        before = copy_context()

        def start() -> None:
            _current.set(self)
            self.tell("request_started", self._context)

        after = copy_context()
        after.run(start)
        changed = (one for one in after if one not in before or before[one] is not after[one])
        self._variables = {variable: after[variable] for variable in changed}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = self._end
        if error is not None or end is None:
            opened = "" if self._opened is None else self._opened.id
            ending: Unfinished = "interrupted" if opened else "idle"
            if error is not None and not isinstance(error, GraphBubbleUp):
                ending = "stopped"
            end = RequestEnd(request_id=opened, ending=ending, error=error)
        with self.inside():
            self.tell("request_ended", end, last_first=True)

    @contextmanager
    def inside(self) -> Generator[None]:
        """Set the context variables of the request in the block. In a coroutine the block is within one step of it."""
        tokens = [(variable, variable.set(value)) for variable, value in self._variables.items()]
        try:
            yield
        finally:
            for variable, token in reversed(tokens):
                variable.reset(token)

    def step(self, steps: Iterator[T]) -> T | object:
        """Return what the graph's stream gives next, `END_OF_STREAM` if it has ended."""
        with self.inside():
            return next(steps, END_OF_STREAM)

    async def astep(self, steps: AsyncIterator[T]) -> T | object:
        """Return what the graph's stream gives next, `END_OF_STREAM` if it has ended."""
        with self.inside():
            return await anext(steps, END_OF_STREAM)

    def configured(self, config: RunnableConfig) -> RunnableConfig:
        """Return the config with which the graph runs. The built-in observers may replace its callbacks."""
        callbacks = self._context.callbacks
        for one in self._built_in:
            callbacks = cast("Callbacks", _answer(one, "callbacks", callbacks)) or callbacks
        return config if callbacks is self._context.callbacks else {**config, "callbacks": callbacks}

    def trace(self) -> Mapping[str, str]:
        """Return what finds the traces of this invocation again; it is kept with the request that is opened."""
        found = (_answer(one, "trace") for one in self._built_in)
        return {key: value for one in found if one for key, value in cast("Mapping[str, str]", one).items()}

    def opened(self, request: Request, *, resumed: bool) -> None:
        """Tell the observers, once, which request this invocation works on."""
        if self._opened is None:
            self._opened = request
            self.tell("request_opened", request, resumed)

    def answered(self, end: RequestEnd) -> None:
        """Tell the observers that the request is closed in the ledger, with this end."""
        self._end = end
        self.tell("request_answered", end, last_first=True)


def tell_request(method: str, *what: object) -> None:
    """Call the method of each observer of the current request. Does nothing outside any request."""
    if (observers := current_request()) is not None:
        observers.tell(method, *what)


def tell_opened(request: Request) -> None:
    """Tell the observers, once in an invocation, that it goes on with a request which is open already."""
    if (observers := current_request()) is not None:
        observers.opened(request, resumed=True)


def tell_answered(end: RequestEnd) -> None:
    """Tell the observers of the current request that it is closed in the ledger, with this end."""
    if (observers := current_request()) is not None:
        observers.answered(end)


def _of_request(listener: Listener, context: RequestContext) -> Listener | None:
    """Return the observer that is told of this request: what `for_request` returns, by default the observer itself.

    Return None if `for_request` returns None: nobody is told.
    """
    if not hasattr(listener.observer, "for_request"):
        return listener
    chosen = _answer(listener, "for_request", context)
    return None if chosen is None else Listener(chosen, apart=listener.apart, made_by=listener.observer)


def _answer(listener: Listener, method: str, *what: object) -> object:
    """Return what the observer's method returns; None if it has none, or if it fails, which is logged."""
    return next(iter(Telling([listener]).tell(method, *what)), None)
