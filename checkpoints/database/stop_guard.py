"""Blocks of code that other threads may not stop halfway: a transaction, or a paid call with its settlement."""

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_threads = threading.local()


def guard_thread(lock: threading.Lock) -> None:
    """Let this thread hold `lock` in each `with shielded():` block that it enters from now on.

    A thread that stops this one, by raising an exception in it, must take `lock` first. So it cannot stop this thread
    inside such a block.
    """
    _threads.lock = lock


def shielded() -> AbstractContextManager[None]:
    """Return a context in which no other thread can stop this thread.

    The context holds the lock that this thread gave to `guard_thread`, and a thread that stops this one must take that
    lock first. The context does nothing if this thread never called `guard_thread`, or is inside such a context
    already.
    """
    lock: threading.Lock | None = getattr(_threads, "lock", None)
    return _NOTHING if lock is None or getattr(_threads, "inside", False) else _holding(lock)


@contextmanager
def _holding(lock: threading.Lock) -> Generator[None]:
    with lock:
        _threads.inside = True
        try:
            yield
        finally:
            _threads.inside = False


_NOTHING = nullcontext()
