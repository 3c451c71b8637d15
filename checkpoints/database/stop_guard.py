"""Blocks of code that other threads may not stop halfway: a transaction, or a paid call with its settlement."""

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_threads = threading.local()


def guard_thread(lock: threading.Lock) -> None:
    """Let this thread hold `lock` in its `shielded` blocks from now on.

    Another thread that stops this thread must take `lock` first.
    """
    _threads.lock = lock


def shielded() -> AbstractContextManager[None]:
    """Return a context in which this thread is not stopped from outside, because it holds the lock of `guard_thread`.

    The context does nothing if the thread has no such lock, or holds the lock already.
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
