"""The kinds of callables: they decide where a handler runs."""

import inspect

from langchain_core.runnables import Runnable


def is_awaited(handler: object) -> bool:
    """Whether the handler is awaited on an event loop.

    True for every Runnable, and for a function that returns a coroutine. Any other function runs in a thread.
    """
    return isinstance(handler, Runnable) or is_async(handler)


def is_async(handler: object) -> bool:
    """Whether calling the handler returns a coroutine."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
