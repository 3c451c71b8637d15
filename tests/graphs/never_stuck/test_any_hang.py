"""Any graph of specialists that hang, spin, block, doubt and break: one end for each run, in time, others unharmed."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bursar import Ledger, Report, Task
from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.circuit_breakers import close_all
from tests.support.clock import Stopwatch
from tests.support.graphs import answer_of, build, free, rules, session

SHORT, LONG = 0.1, 60.0
SLACK_SECONDS = 40.0  # for a busy machine; a deadlock takes longer
HEALTHY = ("answers", "awaits")
SESSIONS = itertools.count(1)


def _handler(deed: str) -> Any:
    def plain(task: Task) -> Any:
        match deed:
            case "answers":
                return f"<{task.specialist}>"
            case "doubts":
                return Report(answer="perhaps", confidence=0.1)
            case "raises":
                raise BaseException("as drawn")  # noqa: TRY002
            case _:
                until = time.monotonic() + LONG
                while time.monotonic() < until:
                    pass
        return None

    async def coroutine(task: Task) -> Any:
        match deed:
            case "awaits":
                await asyncio.sleep(0)
                return f"<{task.specialist}>"
            case "blocks":
                time.sleep(4 * SHORT)  # noqa: ASYNC251
            case "swallows":
                try:
                    await asyncio.sleep(LONG)
                except asyncio.CancelledError:
                    await asyncio.sleep(SHORT)
            case "stops":
                asyncio.get_running_loop().stop()
                await asyncio.sleep(0)
                raise ValueError
            case _:
                await asyncio.sleep(LONG)
        return None

    handler: Any = plain if deed in {"answers", "doubts", "raises", "spins"} else coroutine
    handler.__name__ = deed
    return handler


DEEDS = ("answers", "awaits", "doubts", "raises", "spins", "blocks", "swallows", "stops", "hangs")
CHAINS = st.lists(st.lists(st.sampled_from(DEEDS), min_size=1, max_size=2, unique=True), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def books() -> Iterator[Ledger]:
    """One ledger in memory for all examples; each has a session of its own."""
    ledger = Ledger(Database("sqlite://"))
    yield ledger
    assert ledger.verify()
    ledger.database.close()


def _told(app: Any, name: str, *, asynchronous: bool) -> list[Any]:
    entered: Any = {"messages": [("user", "now")]}
    if not asynchronous:
        return list(app.stream(entered, session(name), stream_mode=["custom", "values"]))

    async def collect() -> list[Any]:
        return [part async for part in app.astream(entered, session(name), stream_mode=["custom", "values"])]

    return asyncio.run(collect())


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(chains=CHAINS, asynchronous=st.booleans())
@example(chains=[["blocks"], ["awaits"], ["spins", "answers"]], asynchronous=True)
@example(chains=[["stops", "swallows"], ["awaits"], ["hangs"]], asynchronous=False)
def test_every_run_ends_once_and_in_time(books: Ledger, chains: list[list[str]], asynchronous: bool) -> None:
    """One start and one end for each run, told and logged; the healthy keep their work; answers in plan order."""
    specialists = [
        free(
            f"s{number}",
            _handler(deeds[0]),
            fallbacks=[*(_handler(deed) for deed in deeds[1:]), rules],
            timeout=LONG if set(deeds) & set(HEALTHY) and deeds[0] in HEALTHY else SHORT,
            min_confidence=0.5,
            apart=bool(set(deeds) & {"blocks", "stops"}),  # nobody can stop these on a caller's loop
        )
        for number, deeds in enumerate(chains)
    ]
    name = f"s-{next(SESSIONS)}"
    books.run(close_all)
    with Stopwatch() as took:
        parts = _told(build(books, specialists), name, asynchronous=asynchronous)
    result = [part for mode, part in parts if mode == "values"][-1]
    told = [part for mode, part in parts if mode == "custom"]

    assert took.is_within(SHORT * max(map(len, chains)) + SLACK_SECONDS)
    runs = [(run.specialist, run.level, run.outcome.value) for run in result["runs"]]
    assert len({run[:2] for run in runs}) == len(runs)
    ends = [(part["specialist"], part["level"], part["outcome"]) for part in told if part["bursar"] == "terminal"]
    assert sorted(ends) == sorted(runs)
    begins = [(part["specialist"], part["level"]) for part in told if part["bursar"] == "started"]
    assert sorted(begins) == sorted(run[:2] for run in runs)
    logged = [row.event.model_dump() for row in books.audit(name) if row.kind == "run_ended"]
    assert sorted((event["specialist"], event["level"], event["outcome"]) for event in logged) == sorted(runs)
    answer = answer_of(result)
    for number, deeds in enumerate(chains):
        own = [outcome for specialist, level, outcome in runs if specialist == f"s{number}" and level == 0]
        assert own == ["completed" if deeds[0] in {*HEALTHY, "doubts"} else own[0]]
        assert (f"<s{number}>" if deeds[0] in HEALTHY else f"s{number}") in answer
        assert any(gap.startswith(f"s{number}: ") for gap in result["gaps"]) == (deeds[0] not in HEALTHY)
    places = [answer.find(f"S{number}\n") for number in range(len(chains)) if len(chains) > 1]
    assert places == sorted(places)
    assert books.verify(name)
