"""Attempts of actions: whether an attempt still runs, in this process, in another on this host, or on another host."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

from bursar.checkpoints.process_identity import Process

_running: set[str] = set()
_lock = threading.Lock()  # held for `_running`: several threads begin, end and look for attempts


def new_attempt(new_id: Callable[[], str]) -> str:
    """Return a new name for an attempt of this process. The name begins with the host and the process."""
    ours = Process.current()
    return f"{ours.host}|{ours.process}|{new_id()}"


@contextmanager
def running(attempt: str) -> Generator[None]:
    """Record the attempt as running in this process while the block runs."""
    with _lock:
        _running.add(attempt)
    try:
        yield
    finally:
        with _lock:
            _running.discard(attempt)


def is_running_here(attempt: str) -> bool:
    """Whether the attempt runs in this process."""
    with _lock:
        return attempt in _running and _process(attempt) == Process.current()


def may_be_running(attempt: str, *, until: datetime, now: datetime) -> bool:
    """Whether the attempt may still be running.

    An attempt of this process may be running until the block of its `with running(attempt)` ends. An attempt of another
    process on this host may be running while that process lives. An attempt on another host may be running until the
    time `until`.
    """
    process, ours = _process(attempt), Process.current()
    if process == ours:
        return is_running_here(attempt)
    return now <= until if process.host != ours.host else not process.is_gone


def _process(attempt: str) -> Process:
    host, process, _ = attempt.split("|", 2)
    return Process(host, process)
