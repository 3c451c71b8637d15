"""Time in tests: clocks that a test sets, and a stopwatch that measures how late this machine wakes its threads."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

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
    """A clock that runs as fast as the real clock, and shows a time that is later by `ahead`."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Stopwatch:
    """A context manager that measures its block: the `seconds` that it took, and how late this machine was meanwhile.

    `late_seconds` is the time, in all, by which a thread that only sleeps woke up too late. Any other thread may have
    been late by as much.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.late_seconds = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="stopwatch", daemon=True)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> float:
        """Stop the stopwatch if it runs, and return the seconds that it ran."""
        if not self._ended.is_set():
            self.seconds = time.monotonic() - self._began
            self._ended.set()
            self._thread.join()
        return self.seconds

    def is_within(self, seconds: float) -> bool:
        """Whether the block took at most `seconds`, not counting the time by which this machine was late."""
        return self.stop() <= seconds + self.late_seconds

    def _beat(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self._ended.wait(BEAT_SECONDS)
            self.late_seconds += max(0.0, time.monotonic() - began - BEAT_SECONDS)


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    """Call `is_so` again and again until it returns a true value.

    Fail after `seconds`. This limit measures nothing; it only keeps a test from hanging.
    """
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not so within {seconds} s"
        time.sleep(0.02)
