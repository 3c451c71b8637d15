"""Raw threads that a handler starts: charged to its run, refused after it, and never charged to another's."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest

from bursar.checkpoints.ledger.accounts import charged
from bursar.nodes.gateway.paid_calls.scope import Scope, charged_as, current_scope
from bursar.state.errors import ConfigurationError
from bursar.state.events import CallHeld
from bursar.state.refusals import NoSession, ScopeClosed
from tests.support.bench import SESSION, Bench

WAIT_SECONDS = 10


def agents_of(bench: Bench) -> list[str]:
    """Whom each hold so far was charged to."""
    return [row.event.agent for row in bench.ledger.audit(SESSION) if isinstance(row.event, CallHeld)]


def test_a_call_in_a_raw_thread_is_charged_to_the_run_that_started_it(bench: Bench) -> None:
    """A thread, one that it starts in turn, and an event loop of its own all pay from the same budget."""
    model = bench.model()

    def nested() -> None:
        asyncio.run(asyncio.wait_for(model.ainvoke("from a loop"), WAIT_SECONDS))
        inner = threading.Thread(target=model.invoke, args=("from a thread in a thread",))
        inner.start()
        inner.join()

    with bench.scope().enter():
        thread = threading.Thread(target=nested)
        thread.start()
        thread.join()
    assert len(bench.provider.bills) == 2
    assert bench.charged == bench.provider.billed > 0


def test_after_the_run_its_threads_are_refused(bench: Bench) -> None:
    """A thread that goes on when the run has ended cannot spend."""
    scope, ended, seen = bench.scope(), threading.Event(), list[BaseException]()

    def late() -> None:
        ended.wait(WAIT_SECONDS)
        try:
            bench.model().invoke("late")
        except ScopeClosed as refusal:
            seen.append(refusal)

    with scope.enter():
        thread = threading.Thread(target=late)
        thread.start()
    scope.close()
    ended.set()
    thread.join()
    assert len(seen) == 1
    assert bench.provider.requests == []


def test_a_pool_that_two_runs_share_charges_each_job_to_whoever_gave_it(bench: Bench) -> None:
    """The pool's one thread was started by the first run, and works for the second while the first still runs."""
    model = bench.model()
    first, second = bench.scope(agent="first"), bench.scope(agent="second")
    with ThreadPoolExecutor(1) as pool:
        with first.enter():
            pool.submit(model.invoke, "one").result()
            with second.enter():
                pool.submit(model.invoke, "two").result()
            pool.submit(model.invoke, "three").result()
        with pytest.raises(NoSession):
            pool.submit(model.invoke, "outside").result()
        first.close()
        with first.enter(), pytest.raises(ScopeClosed):
            pool.submit(model.invoke, "closed").result()
        with second.enter():
            pool.submit(model.invoke, "four").result()
    assert agents_of(bench) == ["first", "second", "first", "second"]
    assert bench.charged == bench.provider.billed


def test_a_loops_own_pool_charges_whoever_asked(bench: Bench) -> None:
    """`run_in_executor` copies no context; two tasks under two scopes share one pool and each pays for itself."""
    model = bench.model()

    async def one(name: str) -> None:
        with bench.scope(agent=name).enter():
            await asyncio.get_running_loop().run_in_executor(None, model.invoke, name)

    async def main() -> None:
        await asyncio.gather(one("first"), one("second"))

    asyncio.run(main())
    assert sorted(agents_of(bench)) == ["first", "second"]


def test_threads_of_other_pools_are_refused(bench: Bench) -> None:
    """Nobody can tell for whom such a thread works: it has no scope, and so it cannot spend."""
    with bench.scope().enter(), ThreadPool(1) as pool, pytest.raises(NoSession):
        pool.apply(bench.model().invoke, ("hello",))
    assert bench.provider.requests == []


def test_a_thread_started_outside_has_no_scope(bench: Bench) -> None:
    """What was started before a run is not part of it."""
    seen: list[Scope | None] = []
    ready = threading.Event()

    def look() -> None:
        ready.wait(WAIT_SECONDS)
        seen.append(current_scope())

    thread = threading.Thread(target=look)
    thread.start()
    with bench.scope().enter():
        ready.set()
        thread.join()
    assert seen == [None]


def test_a_call_on_behalf_of_another_agent_keeps_the_path(bench: Bench) -> None:
    """The path is in the log, both accounts are charged, threads keep it, and the sums agree."""
    model = bench.model()
    with bench.scope(agent="tax", scopes=("request:r-1", "agent:r-1:spending")).enter():
        model.invoke("mine")
        with charged_as("database_connector"):
            model.invoke("its")
            thread = threading.Thread(target=model.invoke, args=("its thread's",))
            thread.start()
            thread.join()
            with charged_as("lookup"):
                model.invoke("deeper")
    path = "tax → database_connector"
    assert agents_of(bench) == ["tax", path, path, f"{path} → lookup"]
    bills = [bill.nanos for bill in bench.provider.bills]
    spend = bench.ledger.spend(SESSION)
    by_agent = {name: amount.nanos for name, amount in spend.by_agent.items()}
    assert by_agent == {"tax": bills[0], path: bills[1] + bills[2], f"{path} → lookup": bills[3]}
    assert sum(by_agent.values()) == spend.spent.nanos == bench.provider.billed
    run = bench.ledger.run
    assert run(charged, "agent:r-1:spending") == sum(bills)
    assert run(charged, f"agent:r-1:{path}") == sum(bills[1:])
    assert bench.ledger.verify()


def test_turns_and_refusals_of_a_path_are_those_of_its_run(bench: Bench) -> None:
    """Working on behalf of another agent grants no turns, and its refusal is the run's."""
    scope = bench.scope(max_turns=2)
    with scope.enter():
        bench.model().invoke("one")
        with charged_as("helper"):
            bench.model().invoke("two")
            with pytest.raises(Exception, match="2 turns"):
                bench.model().invoke("three")
    assert scope.refusal is not None
    assert len(bench.provider.requests) == 2


def test_a_name_on_a_path_is_plain(bench: Bench) -> None:
    """A name cannot forge a path; outside any session the block does nothing."""
    with bench.scope().enter(), pytest.raises(ConfigurationError, match="path"), charged_as("a → b"):
        pass
    with charged_as("anything"):
        assert current_scope() is None
