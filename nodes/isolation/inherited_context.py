"""A context variable whose value also reaches the threads and pool jobs that are started under it."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

# Modules whose threads serve many callers: the value under which such a thread was started does not fit its next job.
SHARED_THREADS = ("concurrent.", "multiprocessing.", "anyio")
OWN_POOLS = "bursar-"  # the beginning of the names of Bursar's own threads


class InheritedContextVar(Generic[T]):
    """A context variable, None by default. Its value also reaches threads and pool jobs that a `bound_to` block starts.

    A thread that was started under a value keeps that value as its default. A job given to a `ThreadPoolExecutor` runs
    under the submitter's value. For this, `Thread.start` and `ThreadPoolExecutor.submit` are wrapped when a value is
    first set. Other context variables are not passed on. Threads of other pools have no value. Two variables of one
    process must not have the same name.
    """

    def __init__(self, name: str) -> None:
        self._variable: ContextVar[T | None] = ContextVar(name, default=None)
        self._attribute = f"_{name}"
        self._lock = threading.Lock()
        self._wrapped = False

    def get(self) -> T | None:
        """Return the value set in this context; if none is set, the value under which this thread was started."""
        value = self._variable.get()
        return getattr(threading.current_thread(), self._attribute, None) if value is None else value

    def is_bound_to(self, value: T) -> bool:
        """Whether `value` was set in this context. The value under which the thread was started does not count."""
        return self._variable.get() is value

    @contextmanager
    def bound_to(self, value: T) -> Generator[None]:
        """Set the value to `value` in the block, and in every task, thread and job of a pool that the block starts."""
        self._wrap()
        token = self._variable.set(value)
        try:
            yield
        finally:
            self._variable.reset(token)

    def _wrap(self) -> None:
        if self._wrapped:
            return
        with self._lock:  # race: two threads wrap at once; the second finds the flag set
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
    ours = thread.name.startswith(OWN_POOLS)  # the first call from sync code starts our loop, wherever it is made
    return ours or (isinstance(origin, str) and origin.startswith(SHARED_THREADS))
