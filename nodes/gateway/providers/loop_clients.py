"""HTTP clients that belong to the event loop that uses them, or, for sync code, to the process that uses them.

An async HTTP client works on one event loop alone: its connections wait on that loop, and fail on any other. The
libraries of providers share one client in the whole process. A metered model has instead a `routed` client, which opens
no connection itself: it passes each request on to the client of the running loop.

A loop keeps its own clients, in an attribute, because clients refer to their loop: a table of all loops would keep each
of them alive. The clients are closed by `loop.shutdown_asyncgens()`, which `asyncio.run` calls at the end of a loop.
A forked process makes its own clients. It leaves those of its parent open, because their connections are the parent's.

At the start of a request a client closes those of its connections that have expired. `httpcore` shields this from a
cancel scope of anyio, but not from `Task.cancel`: cancelled there, it would lose connections that are open. So each
request is a task of its own, and the cancellation of its caller cancels the request's scope.
"""

import asyncio
import os
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from copy import copy
from functools import lru_cache, partial
from typing import Any, TypeVar
from weakref import WeakSet

from anyio import CancelScope

C = TypeVar("C")
Make = Callable[[], Any]

ATTRIBUTE = "_bursar_http_clients"  # of an event loop
MAKE, KEY = "_bursar_make", "_bursar_key"  # of a routed client


class LoopClients:
    """The HTTP clients of one event loop. Those with the same key are one client."""

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Any] = {}
        self.is_inherited = False
        self._cleaning = set[asyncio.Task[Any]]()  # requests that were cancelled and have not ended
        self.closing = AsyncExitStack()
        self.open = self._until_loop_ends()

    async def _until_loop_ends(self) -> AsyncGenerator[None]:
        """Wait until the loop closes its async generators; then close the clients."""
        async with self.closing:
            try:
                yield
            finally:
                vars(asyncio.get_running_loop()).pop(ATTRIBUTE, None)

    def get(self, key: Hashable, make: Make) -> Any:
        """Return the client with this key. The first call makes it."""
        if key not in self.by_key:
            self.by_key[key] = client = make()
            self.closing.push_async_callback(client.aclose)
        return self.by_key[key]

    async def send(self, request: Callable[[], Awaitable[Any]]) -> Any:
        """Send the request and return its response.

        If the caller is cancelled, cancel the request, and wait until it has cleaned up. If the caller is cancelled
        once more, do not wait.
        """
        scope = CancelScope()
        task = asyncio.create_task(_within(scope, request))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            self._cleaning.add(task)
            task.add_done_callback(self._cleaned)
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None and task.result() is not None:
                await task.result().aclose()  # race: the response came at the same time
            raise
        finally:
            del task, scope  # they refer to the error, which refers to this frame

    def _cleaned(self, task: "asyncio.Task[Any]") -> None:
        self._cleaning.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio logs that nobody has read it


async def _within(scope: CancelScope, request: Callable[[], Awaitable[Any]]) -> Any:
    """Return the response of the request, None if the scope was cancelled."""
    with scope:
        return await request()
    return None


_loops: WeakSet[LoopClients] = WeakSet()
_of_process: dict[Hashable, Any] = {}
_inherited: list[object] = []  # what a forked process has of its parent's, kept so that nothing closes it


def routed(client: C, base: Any, *, key: Hashable, make: Make) -> C:
    """Return an HTTP client that builds requests as `client` does, and sends each by a client that `make` made.

    For an async client that is one client for each event loop, for a sync client one for each process. Routed clients
    with an equal `key` share it. `base` is the class of the library's HTTP clients, from which the class of `client`
    inherits. To close the routed client has no effect.
    """
    view = copy(client)
    object.__setattr__(view, "__class__", _async_class(base) if hasattr(client, "aclose") else _sync_class(base))
    vars(view).update({MAKE: make, KEY: key})
    return view


async def _clients_of_loop() -> LoopClients:
    loop = asyncio.get_running_loop()
    kept: LoopClients | None = vars(loop).get(ATTRIBUTE)
    if kept is None or kept.is_inherited:
        kept = LoopClients()
        setattr(loop, ATTRIBUTE, kept)
        _loops.add(kept)
        await anext(kept.open)  # the loop knows the generator from its first step, which does not wait
    return kept


def _client_of_process(key: Hashable, make: Make) -> Any:
    if key not in _of_process:
        _of_process.setdefault(key, make())  # race: of the clients that two threads make, both use the first
    return _of_process[key]


@lru_cache(maxsize=64)
def _async_class(base: type) -> type:
    async def send(view: Any, request: object, **options: object) -> object:
        clients = await _clients_of_loop()
        client = clients.get(getattr(view, KEY), getattr(view, MAKE))
        return await clients.send(partial(client.send, request, **options))

    async def aclose(view: object) -> None:
        """Close nothing: the clients of loops are others'."""

    return _class(base, send=send, aclose=aclose)


@lru_cache(maxsize=64)
def _sync_class(base: type) -> type:
    def send(view: Any, request: object, **options: object) -> object:
        return _client_of_process(getattr(view, KEY), getattr(view, MAKE)).send(request, **options)

    def close(view: object) -> None:
        """Close nothing: the client of the process is others'."""

    return _class(base, send=send, close=close)


def _class(base: type, **methods: object) -> type:
    return types.new_class(f"Routed{base.__name__}", (base,), exec_body=lambda body: body.update(methods))


def _begin_anew() -> None:
    for kept in list(_loops):
        kept.is_inherited = True
        _inherited.append((kept, kept.closing.pop_all()))
    _loops.clear()
    _inherited.append(_of_process.copy())
    _of_process.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
