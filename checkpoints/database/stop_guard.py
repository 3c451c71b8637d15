"""Sections of a thread that nobody may stop halfway: a transaction, or a paid call with its settlement."""

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_threads = threading.local()


def guard_thread(lock: threading.Lock) -> None:
    """Let the shielded sections of this thread hold `lock` from here on. Take `lock` before you stop the thread."""
    _threads.lock = lock


def shielded() -> AbstractContextManager[None]:
    """Return a block in which this thread is not stopped from outside. It is free in threads that nobody may stop."""
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
