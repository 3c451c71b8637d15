"""The one way from sync code to async code: every node's body is a coroutine function; sync code runs it here."""

import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.types import Send

from bursar.nodes.isolation.callers_loop import is_inside_coroutine, own_thread
from bursar.nodes.isolation.captured import capture
from bursar.state.errors import BursarError

S = TypeVar("S")
T = TypeVar("T")

Update = Mapping[str, Any]
Next = str | Send | Sequence[str | Send]
NodeBody = Callable[[S, RunnableConfig], Awaitable[Update]]


class _Portal:
    """The one background event loop of the process, on which sync callers' coroutines run. The first call starts it.

    All calls share one loop, so that HTTP clients keep their connections. The loop's thread is a daemon and is never
    joined: an abandoned handler must not keep the interpreter from ending.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._portal: BlockingPortal | None = None

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        if is_inside_coroutine():
            raise BursarError("a sync call inside an async handler would wait for itself; use ainvoke or astream there")
        future = self._started().start_task_soon(capture, partial(function, *arguments))
        try:
            return future.result().result()
        finally:
            future.cancel()  # if the caller was interrupted, its coroutine must not run on

    def _started(self) -> BlockingPortal:
        with self._lock:  # race: two threads would each start a loop
            if self._portal is None or self._process != os.getpid():  # a fork inherits no threads
                ready: Future[BlockingPortal] = Future()
                threading.Thread(target=anyio.run, args=(_serve, ready), name="bursar-loop", daemon=True).start()
                self._portal = ready.result()
                self._process = os.getpid()
            return self._portal


async def _serve(ready: "Future[BlockingPortal]") -> None:
    own_thread()
    async with BlockingPortal() as portal:
        ready.set_result(portal)
        await portal.sleep_until_stopped()


_portal = _Portal()


def run_sync(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run a coroutine function from sync code and return its result, even if an event loop runs in this thread.

    The coroutine sees the caller's context variables. Raises `BursarError` in a coroutine of
    a handler and on Bursar's own loops, which the call would block.
    """
    return _portal.call(function, *arguments)


class AsyncNode(Runnable[S, Update], Generic[S]):
    """A graph node whose body, a coroutine function, serves both `invoke` and `ainvoke`.

    Under `invoke` the body gets a copy of the calling thread's context, taken inside the context manager that `carry`
    returns: what that sets, the body finds.
    """

    def __init__(
        self, name: str, body: NodeBody[S], *, carry: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self.name = name
        self._body = body
        self._carry = carry

    def invoke(self, input: S, config: RunnableConfig | None = None, **kwargs: object) -> Update:  # noqa: A002
        with self._carry():
            return run_sync(self._body, input, ensure_config(config))

    async def ainvoke(self, input: S, config: RunnableConfig | None = None, **kwargs: object) -> Update:  # noqa: A002
        return await self._body(input, ensure_config(config))


class EdgeFunction(Runnable[S, Next], Generic[S]):
    """A conditional edge's function as a Runnable, for sync and async graphs: from a state it returns the next nodes.

    The function that it calls, `choose`, must not raise for any state. If it raised, LangGraph would go past the edge
    at the next resume, without routing.
    """

    def __init__(self, name: str, choose: Callable[[S], Next]) -> None:
        self.name = name
        self._choose = choose

    def invoke(self, input: S, config: RunnableConfig | None = None, **kwargs: object) -> Next:  # noqa: A002
        return self._choose(input)

    async def ainvoke(self, input: S, config: RunnableConfig | None = None, **kwargs: object) -> Next:  # noqa: A002
        return self._choose(input)
