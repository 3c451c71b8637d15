"""Whether an attempt of an action is still going on: of this process, of another on this host, or of another host."""

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path

_running: set[str] = set()
_lock = threading.Lock()


def new_attempt(new_id: Callable[[], str]) -> str:
    """A name for one attempt of this process."""
    return f"{_host()}|{os.getpid()}|{_started(os.getpid())}|{new_id()}"


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
        return attempt in _running and attempt.split("|")[1] == str(os.getpid())


def may_be_running(attempt: str, *, until: datetime, now: datetime) -> bool:
    """Whether somebody may still be at it. On this host that is known; elsewhere it may be before `until`."""
    host, process, started, _ = attempt.split("|", 3)
    if host != _host():
        return now <= until
    if process == str(os.getpid()) and started == _started(os.getpid()):
        return is_running_here(attempt)
    return _started(int(process)) == started


@cache
def _host() -> str:
    """This machine since it was booted, and within it the space that its process numbers count in."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def _started(process: int) -> str:
    """When the process was started, empty if there is none: numbers are given again to others."""
    with suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] in {"Z", "X"} else fields[19]
    if not Path("/proc/self/stat").exists():  # a system without /proc: the number is all there is
        with suppress(ProcessLookupError):
            os.kill(process, 0)
            return "0"
    return ""
