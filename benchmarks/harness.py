"""Measures contenders in turns, round by round, so that a busy machine slows all of them alike."""

import gc
import os
import platform
import random
import resource
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

SEED = 7


Contender = Callable[[int], None]  # called with a number of operations, does the work of one round


@dataclass(frozen=True, slots=True)
class Rounds:
    """The CPU time and the wall time of one contender in each round, in microseconds per operation."""

    name: str
    cpu: tuple[float, ...]
    wall: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of the contender `of` to the contender `to` over the rounds: its median and its quartiles.

    `what` is the measure (such as "cpu" or "wall"). `bound` is the most that the median may be.
    """

    of: str
    to: str
    what: str
    median: float
    low: float
    high: float
    bound: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the median ratio is at most its bound; True if it has no bound."""
        return self.bound is None or self.median <= self.bound


@dataclass(slots=True)
class Result:
    """The figures of a benchmark: the rounds of each contender, ratios of contenders, and notes in words.

    A benchmark that measures no time has `figures` of its own instead. `faults` fail the run, a smoke run too.
    """

    title: str
    rounds: list[Rounds] = field(default_factory=list[Rounds])
    ratios: list[Ratio] = field(default_factory=list[Ratio])
    notes: list[str] = field(default_factory=list[str])
    figures: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict[str, dict[str, dict[str, int]]])
    faults: list[str] = field(default_factory=list[str])

    def compare(self, of: str, to: str, *, what: str = "cpu", bound: float | None = None) -> None:
        """Add the ratio of the contender `of` to the contender `to`, computed round by round."""
        by_name = {one.name: getattr(one, what) for one in self.rounds}
        each = sorted(a / b for a, b in zip(by_name[of], by_name[to], strict=True))
        low, _, high = statistics.quantiles(each, n=4) if len(each) > 1 else (each[0], each[0], each[0])
        self.ratios.append(Ratio(of, to, what, statistics.median(each), low, high, bound))


def children_cpu() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def interleave(
    contenders: Sequence[tuple[str, Contender]],
    *,
    rounds: int,
    operations: int,
    cpu: Callable[[], float] = time.process_time,
) -> list[Rounds]:
    """Run every contender once in each round, in a new order each round, and return its times.

    One more round comes first and is not counted. `cpu` is the clock of CPU seconds.
    """
    order = list(contenders)
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name, _ in order}
    shuffle = random.Random(SEED).shuffle
    for number in range(rounds + 1):
        shuffle(order)
        for name, contender in order:
            gc.collect()
            started, used = time.perf_counter(), cpu()
            contender(operations)
            if number:
                took[name][0].append((cpu() - used) / operations * 1e6)
                took[name][1].append((time.perf_counter() - started) / operations * 1e6)
    return [Rounds(name, tuple(took[name][0]), tuple(took[name][1])) for name, _ in contenders]


def machine() -> dict[str, str]:
    """Return the facts about the machine and its software on which the figures depend."""
    packages = ("langgraph", "langchain-core", "langgraph-supervisor", "sqlalchemy")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "load": " ".join(f"{one:.1f}" for one in os.getloadavg()),
        "sqlite": sqlite3.sqlite_version,
        "seed": str(SEED),
        **{package: version(package) for package in packages},
    }
