"""What kind of callable a handler is, which decides where it runs."""

import inspect

from langchain_core.runnables import Runnable


def is_awaited(handler: object) -> bool:
    """Whether the handler runs on an event loop: a Runnable, or what gives a coroutine."""
    return isinstance(handler, Runnable) or is_async(handler)


def is_async(handler: object) -> bool:
    """Whether calling the handler gives a coroutine."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
