"""Measures a thousand sessions at once whose agents hang: when each has its answer, and what memory stays in use.

In one half of the sessions, the agent waits for ever in a coroutine. In the other half, the agent ignores its
cancellation and ends a little later. The sessions begin one after the other, all before the first deadline, because the
benchmark measures how deadlines are kept, not how many requests a processor can open in a second.
"""

import asyncio
import gc
import itertools
import sys
import tempfile
import threading
import time
from typing import Any

from benchmarks.harness import Ratio, Result, Rounds
from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic
from bursar.checkpoints.ledger.circuit_breakers import close_all
from bursar.graphs.supervisor import coordinator_of
from bursar.nodes.isolation.workers import abandoned_count
from bursar.nodes.routers.word_overlap import WordOverlapRouter

SESSIONS = 1_000
DEADLINE_SECONDS = 50.0
SPREAD = 0.9  # the sessions begin within this part of the deadline
ALLOWED = 1.1


async def waits(task: Task) -> Report:
    """Hang in a coroutine, until the deadline cancels this handler."""
    await asyncio.sleep(3_600)
    return Report(answer="too late")


async def swallows(task: Task) -> Report:
    """Hang, ignore the cancellation at the deadline, and end 0.1 seconds later."""
    try:
        await asyncio.sleep(3_600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.1)
    return Report(answer="too late")


@deterministic
def rules(task: Task) -> Report:
    """Answer by rule: the last resort."""
    return Report(answer="by rule")


def app_on(url: str, *, deadline: float, apart: bool) -> Any:
    """Return a supervisor with two agents that hang: `first` and `second`, both with this deadline in seconds.

    They hang on the caller's event loop or, if `apart`, on one of Bursar's own.
    """
    specialists = [
        Specialist(name=name, description=name, handler=handler, timeout=deadline, fallbacks=[rules], apart=apart)
        for name, handler in (("first", waits), ("second", swallows))
    ]
    saver = SQLAlchemySaver(url)
    return build_supervisor(
        specialists, budget=Budget("1"), ledger=Ledger(url), checkpointer=saver, router=WordOverlapRouter()
    )


async def ask_all(app: Any, sessions: int, *, over_seconds: float) -> list[float]:
    """Ask a question in each of `sessions` new sessions; return how many seconds each waited for its answer.

    The sessions begin at equal intervals over `over_seconds`. Raises `AssertionError` if an answer is not by rule.
    """

    async def one(number: int) -> float:
        await asyncio.sleep(over_seconds * number / sessions)
        began = time.perf_counter()
        question: Any = {"messages": [("user", ("first", "second")[number % 2])]}
        result = await app.ainvoke(question, {"configurable": {"thread_id": f"s-{next(_numbers)}"}})
        if "by rule" not in result["messages"][-1].text:
            raise AssertionError(result["messages"][-1].text)
        return time.perf_counter() - began

    return await asyncio.gather(*(one(number) for number in range(sessions)))


_numbers = itertools.count()


def resident_megabytes() -> float:
    """Return the process's resident memory, in megabytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6


def settled() -> tuple[int, int]:
    """Return the number of threads, and of abandoned handlers that still run.

    Wait up to 10 seconds until no abandoned handler runs. The thread of the handlers' event loop is not counted,
    because it exists only at times.
    """
    until = time.monotonic() + 10
    while abandoned_count() and time.monotonic() < until:
        time.sleep(0.05)
    gc.collect()
    return sum(thread.name != "bursar-handlers" for thread in threading.enumerate()), abandoned_count()


def _one(of: str, to: str, what: str, ratio: float, *, bound: float | None = None) -> Ratio:
    return Ratio(of, to, what, ratio, ratio, ratio, bound)


def run(*, smoke: bool) -> list[Result]:
    """Return two results: agents that hang on the caller's event loop, and agents that hang apart."""
    return [_run(smoke=smoke, apart=apart) for apart in (False, True)]


def _run(*, smoke: bool, apart: bool) -> Result:
    """Return the slowest answer against its deadline, and memory after the sessions against before."""
    sessions, deadline = (20, 1.0) if smoke else (SESSIONS, DEADLINE_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        app = app_on(f"sqlite:///{folder}/hanging.db", deadline=deadline, apart=apart)
        first = app_on(f"sqlite:///{folder}/hanging.db", deadline=1.0, apart=apart)
        asyncio.run(ask_all(first, sessions // 10, over_seconds=0.0))  # warm-up: makes what is made once
        # The hanging agents opened their breakers. With open breakers no agent would be called, and none would hang.
        coordinator_of(app).ledger.run(close_all)
        threads, before, objects = settled()[0], resident_megabytes(), sys.getallocatedblocks()
        used = time.process_time()
        waited = asyncio.run(ask_all(app, sessions, over_seconds=deadline * SPREAD))
        used = time.process_time() - used
        (threads_after, left), after, objects_after = settled(), resident_megabytes(), sys.getallocatedblocks()
        coordinator_of(app).ledger.run(close_all)
        asyncio.run(ask_all(app, sessions, over_seconds=deadline * SPREAD))
        again = (settled(), resident_megabytes())[1]
    if min(waited) < deadline:
        raise AssertionError(f"a session was answered after {min(waited):.2f} s: its agent did not hang")
    if left or threads_after > threads:
        raise AssertionError(f"{left} handlers and {threads_after - threads} threads were left behind")
    where = "apart" if apart else "on the caller's event loop"
    result = Result(f"{sessions} sessions at once whose agent hangs {where}, deadline {deadline:g} s")
    result.rounds = [Rounds("a session", (used / sessions * 1e6,), tuple(one * 1e6 for one in waited))]
    shares = sorted(one / deadline for one in waited)
    quarter = len(shares) // 4
    bound = None if smoke else ALLOWED
    result.ratios = [
        Ratio("slowest answer", "its deadline", "wall", shares[-1], shares[quarter], shares[-quarter], bound),
        _one("objects in memory after", "before", "blocks", objects_after / objects, bound=1.1),
        # Pages have no bound against the start, because CPython gives an arena back only if all of it is free. After
        # 600 sessions, of 99 MB of arenas 54 MB were in use and 43 MB free; malloc_trim found little more. So the
        # bounds are on objects against the start, and on the pages after as many sessions again.
        _one("pages of memory after", "before", "resident", after / before),
        _one("pages after as many again", "after", "resident", again / after, bound=bound),
    ]
    return result
