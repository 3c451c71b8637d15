"""The watch over handlers that were left behind: they are stopped again, until they end or clearly do not."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

PULSE_SECONDS = 0.02  # between two looks while something was just left behind
SLOW_PULSE_SECONDS = 0.1  # between two looks else
MAX_STOPS = 25  # how often a handler that swallows its end is stopped again


class AbandonedWork(Protocol):
    """Work that was left behind."""

    agent: str
    over: bool

    def stop(self) -> None:
        """Ask it, once more, to end."""
        ...


class Reaper:
    """A daemon thread that looks after what was left behind, and after event loops; it sleeps when there is nothing."""

    def __init__(self) -> None:
        self._left: dict[AbandonedWork, int] = {}
        self._counts: Counter[str] = Counter()
        self._looks: set[Callable[[float], bool]] = set()
        self._wake = threading.Condition()
        self._awake = False
        self._started = False

    def leave(self, work: AbandonedWork) -> None:
        """The work's run has ended without it: stop it now, and again until it ends or `MAX_STOPS` are used up."""
        if work.over:
            return
        with self._wake:
            self._left[work] = 0
            self._counts[work.agent] += 1
            self._rouse()
        work.stop()

    def look(self, at: Callable[[float], bool]) -> None:
        """Call `at(now)`, in monotonic seconds, at every look, until it says that it need not be called again."""
        with self._wake:
            self._looks.add(at)
            if not self._awake:
                self._rouse()

    def has(self, work: AbandonedWork) -> bool:
        """Whether the work was left behind and has not ended."""
        return work in self._left

    def count(self, agent: str | None) -> int:
        """How many of an agent, or of all, were left behind and have not ended."""
        return len(self._left) if agent is None else self._counts[agent]

    def _rouse(self) -> None:
        """For who has the condition."""
        self._awake = True
        if not self._started:
            self._started = True
            threading.Thread(target=self._watch, name="bursar-watch", daemon=True).start()
        self._wake.notify()

    def _watch(self) -> None:
        while True:  # a look at a time, for as long as the process lives
            with self._wake:
                if not self._left and not self._looks:
                    self._awake = False
                    self._wake.wait()
                    continue
                hurry = any(stops < MAX_STOPS for stops in self._left.values())
                self._wake.wait(PULSE_SECONDS if hurry else SLOW_PULSE_SECONDS)
            self._look_once()

    def _look_once(self) -> None:
        for work, stops in list(self._left.items()):
            if work.over:
                with self._wake:
                    del self._left[work]
                    self._counts[work.agent] -= 1
            elif stops < MAX_STOPS:
                self._left[work] = stops + 1
                work.stop()
        now = time.monotonic()
        with self._wake:
            for look in list(self._looks):  # a look may add another
                if not look(now):
                    self._looks.discard(look)
