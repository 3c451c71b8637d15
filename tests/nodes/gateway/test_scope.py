"""The scope: who is spending, seen from tasks and threads, and what it counts."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.state.refusals import BudgetExceeded, ScopeClosed
from tests.support.bench import Bench


def test_a_scope_is_current_inside_its_block_only(bench: Bench) -> None:
    """Blocks nest, and the outer scope is current again afterwards."""
    outer, inner = bench.scope(), bench.scope()
    assert current_scope() is None
    with outer.enter():
        with inner.enter():
            assert current_scope() is inner
        assert current_scope() is outer
    assert current_scope() is None


def test_tasks_executor_calls_and_raw_threads_see_the_scope(bench: Bench) -> None:
    """Context variables follow tasks and `to_thread`; a raw thread has the scope that it was started in."""
    seen: list[Scope | None] = []

    async def main() -> None:
        seen.append(await asyncio.create_task(asyncio.to_thread(current_scope)))

    scope = bench.scope()
    with scope.enter():
        asyncio.run(main())
        thread = threading.Thread(target=lambda: seen.append(current_scope()))
        thread.start()
        thread.join()
    assert seen == [scope, scope]


@pytest.mark.slow
def test_occurrences_and_turns_are_counted_once_under_threads(bench: Bench) -> None:
    """A thousand calls from eight threads get a thousand occurrences and no turn too many."""
    scope = bench.scope(max_turns=600)
    with ThreadPoolExecutor(8) as pool:
        occurrences = list(pool.map(scope.next_occurrence, ["h"] * 1_000))
        turns = [turn.result() for turn in [pool.submit(scope.take_turn, "m") for _ in range(1_000)]]
    assert sorted(occurrences) == list(range(1_000))
    assert Counter(turns) == {True: 600, False: 400}
    assert scope.turns == 600
    assert scope.next_occurrence("other") == 0


def test_an_occurrence_given_back_is_the_next_one(bench: Bench) -> None:
    """The lowest that got no answer comes first, whoever gave it back."""
    scope = bench.scope()
    assert [scope.next_occurrence("h") for _ in range(3)] == [0, 1, 2]
    scope.give_back("h", 2)
    scope.give_back("h", 0)
    assert [scope.next_occurrence("h") for _ in range(3)] == [0, 2, 3]


def test_the_first_refusal_stays(bench: Bench) -> None:
    """A handler may swallow a refusal and meet another; the first is what the run ended by."""
    scope = bench.scope()
    first = scope.latch(BudgetExceeded("no room", scope="request:r-1"))
    second = scope.latch(ScopeClosed("too late"))
    assert scope.refusal is first
    assert second is not first


def test_a_copied_context_keeps_its_scope(bench: Bench) -> None:
    """A context that was copied inside the block still charges the same run."""
    scope = bench.scope()
    with scope.enter():
        context = copy_context()
    assert context.run(current_scope) is scope
