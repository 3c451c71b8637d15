"""Time in tests: clocks that a test moves, and how late this machine is just now."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
BEAT_SECONDS = 0.01


@dataclass
class Clock:
    """A clock that stands still until the test sets `now`."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class RunningClock:
    """A clock that goes on with the real one, `ahead` of it."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Stopwatch:
    """How long a block took, and for how much of that time this machine did not serve us.

    `late_seconds` is by how much a thread that only sleeps overslept. Nobody else can be asked to be on time meanwhile.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.late_seconds = 0.0

    def is_within(self, seconds: float) -> bool:
        """Whether the block took at most so long, apart from the time in which this machine was late."""
        return self.seconds <= seconds + self.late_seconds


@contextmanager
def stopwatch() -> Generator[Stopwatch]:
    """Measures its block; read the result after it."""
    watch, ended = Stopwatch(), threading.Event()

    def beat() -> None:
        while not ended.is_set():
            began = time.monotonic()
            ended.wait(BEAT_SECONDS)
            watch.late_seconds += max(0.0, time.monotonic() - began - BEAT_SECONDS)

    thread = threading.Thread(target=beat, name="stopwatch", daemon=True)
    thread.start()
    began = time.monotonic()
    try:
        yield watch
    finally:
        watch.seconds = time.monotonic() - began
        ended.set()
        thread.join()


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    """Wait for an event that nobody announces. Fails after so long, which is only not for ever."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not so within {seconds} s"
        time.sleep(0.02)
