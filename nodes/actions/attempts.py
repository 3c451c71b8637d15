"""Whether an attempt of an action is still going on: of this process, of another on this host, or of another host."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

from bursar.checkpoints.process_identity import Process

_running: set[str] = set()
_lock = threading.Lock()


def new_attempt(new_id: Callable[[], str]) -> str:
    """A name for one attempt of this process."""
    ours = Process.current()
    return f"{ours.host}|{ours.process}|{new_id()}"


@contextmanager
def running(attempt: str) -> Generator[None]:
    """Inside the block the attempt is going on."""
    with _lock:
        _running.add(attempt)
    try:
        yield
    finally:
        with _lock:
            _running.discard(attempt)


def is_running_here(attempt: str) -> bool:
    """Whether this very process is at it."""
    with _lock:
        return attempt in _running and _process(attempt) == Process.current()


def may_be_running(attempt: str, *, until: datetime, now: datetime) -> bool:
    """Whether somebody may still be at it. On this host that is known; elsewhere it may be before `until`."""
    process, ours = _process(attempt), Process.current()
    if process == ours:
        return is_running_here(attempt)
    return now <= until if process.host != ours.host else not process.is_gone


def _process(attempt: str) -> Process:
    host, process, _ = attempt.split("|", 2)
    return Process(host, process)
