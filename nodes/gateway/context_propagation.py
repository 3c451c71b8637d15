"""A context variable that raw threads take over too, for whom Python starts an empty context."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

# Modules whose threads serve whoever asks next: what one of them was started under says nothing of its next job.
SHARED_THREADS = ("concurrent.", "multiprocessing.", "anyio.", "bursar.")
OWN_POOLS = "bursar-"


class InheritedContextVar(Generic[T]):
    """A context variable with a default of None. One per name and process.

    A thread that was started where it had a value keeps that value as its default, and a job given to a
    `ThreadPoolExecutor` runs under the value of whoever gave it. To that end `Thread.start` and
    `ThreadPoolExecutor.submit` are wrapped when a value is first set; nothing else of a context is carried. Threads of
    other pools have no value.
    """

    def __init__(self, name: str) -> None:
        self._variable: ContextVar[T | None] = ContextVar(name, default=None)
        self._attribute = f"_{name}"
        self._lock = threading.Lock()
        self._wrapped = False

    def get(self) -> T | None:
        """The value here, None where there is none."""
        value = self._variable.get()
        return getattr(threading.current_thread(), self._attribute, None) if value is None else value

    def is_bound_to(self, value: T) -> bool:
        """Whether it is the value of the context itself, not one that the thread was started in."""
        return self._variable.get() is value

    @contextmanager
    def bound_to(self, value: T) -> Generator[None]:
        """Inside the block, and in every task, thread and job of a pool that it starts, `value` is the value."""
        self._wrap()
        token = self._variable.set(value)
        try:
            yield
        finally:
            self._variable.reset(token)

    def _wrap(self) -> None:
        if self._wrapped:
            return
        with self._lock:
            if not self._wrapped:
                threading.Thread.start = cast("Any", self._remembering(threading.Thread.start))
                ThreadPoolExecutor.submit = cast("Any", self._carrying(ThreadPoolExecutor.submit))
                self._wrapped = True

    def _remembering(self, start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
        @wraps(start)
        def remembering(thread: threading.Thread) -> None:
            value = self.get()
            if value is not None and not _is_shared(thread):
                setattr(thread, self._attribute, value)
            start(thread)

        return remembering

    def _carrying(self, submit: Callable[..., "Future[Any]"]) -> Callable[..., "Future[Any]"]:
        @wraps(submit)
        def carrying(
            pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: object, **kwargs: object
        ) -> "Future[Any]":
            value = self.get()
            if value is None or str(getattr(pool, "_thread_name_prefix", "")).startswith(OWN_POOLS):
                return submit(pool, fn, *args, **kwargs)
            return submit(pool, self._run, value, fn, *args, **kwargs)

        return carrying

    def _run(self, value: T, function: Callable[..., R], /, *args: object, **kwargs: object) -> R:
        with self.bound_to(value):
            return function(*args, **kwargs)


def _is_shared(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    origin = getattr(type(thread) if target is None else target, "__module__", None)
    return isinstance(origin, str) and origin.startswith(SHARED_THREADS)
