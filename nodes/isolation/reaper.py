"""The reaper: one thread that stops abandoned handlers again and again, until they end or `MAX_STOPS` are used up."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

PULSE_SECONDS = 0.02  # between two looks while something was just abandoned
SLOW_PULSE_SECONDS = 0.1  # between two looks otherwise
MAX_STOPS = 25  # how often a handler that swallows its stop is stopped again


class AbandonedWork(Protocol):
    """The work of a handler whose run no longer waits for it."""

    agent: str
    over: bool

    def stop(self) -> None:
        """Ask the work to end. The reaper calls this again and again until it ends."""
        ...


class Reaper:
    """A daemon thread that stops abandoned work and checks event loops. With nothing to stop or check it sleeps."""

    def __init__(self) -> None:
        self._stops: dict[AbandonedWork, int] = {}  # abandoned work that has not ended: how often it was stopped again
        self._counts: Counter[str] = Counter()
        self._checks: set[Callable[[float], bool]] = set()
        self._wake = threading.Condition()
        self._awake = False
        self._started = False

    def abandon(self, work: AbandonedWork) -> None:
        """Ask the work to stop now, and again until it has ended, `MAX_STOPS` times more at most.

        This returns after the first time; the reaper's thread asks again. The work's run no longer waits for the work.
        """
        if work.over:
            return
        # Race: the work may end before it is added; the next look then removes it.
        with self._wake:
            self._stops[work] = 0
            self._counts[work.agent] += 1
            self._rouse()
        work.stop()

    def check_with(self, check: Callable[[float], bool]) -> None:
        """Call `check(now)` every 0.02 to 0.1 seconds until `check` returns False.

        `now` is in seconds of `time.monotonic`.
        """
        with self._wake:
            self._checks.add(check)
            if not self._awake:
                self._rouse()

    def has(self, work: AbandonedWork) -> bool:
        """Whether the work was abandoned and has not ended."""
        return work in self._stops

    def count(self, agent: str | None) -> int:
        """Return how many handlers of the agent were abandoned and have not ended; of all agents if `agent` is None."""
        return len(self._stops) if agent is None else self._counts[agent]

    def _rouse(self) -> None:
        """Make the reaper's thread stop work and run checks. Start the thread if need be. The caller holds `_wake`."""
        self._awake = True
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="bursar-reaper", daemon=True).start()
        self._wake.notify()

    def _run(self) -> None:
        while True:  # one look a turn, for as long as the process lives
            with self._wake:  # race: work that is added between the look and the wait would wake nobody
                if not self._stops and not self._checks:
                    self._awake = False
                    self._wake.wait()
                    continue
                hurry = any(stops < MAX_STOPS for stops in self._stops.values())
                self._wake.wait(PULSE_SECONDS if hurry else SLOW_PULSE_SECONDS)
            self._look()

    def _look(self) -> None:
        with self._wake:  # race: `abandon` may add work meanwhile, and an error here would end this thread
            looked_at = self._stops.copy()
        for work, stops in looked_at.items():
            if work.over:
                with self._wake:
                    del self._stops[work]
                    self._counts[work.agent] -= 1
            elif stops < MAX_STOPS:
                self._stops[work] = stops + 1
                work.stop()
        now = time.monotonic()
        with self._wake:
            checks = list(self._checks)
        for check in checks:
            if not check(now):
                with self._wake:  # race: there may be something to check again, and `check_with` found it still here
                    if not check(now):
                        self._checks.discard(check)
