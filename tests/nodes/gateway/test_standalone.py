"""`standalone`: a session of its own outside any graph, with a budget that holds there too."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from bursar import USD, Ledger, standalone
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import BudgetExceeded, NoSession, ScopeClosed, Unmetered
from tests.support.bench import Bench


def test_metered_calls_work_in_the_block_and_the_spend_can_be_read(bench: Bench) -> None:
    """Books in memory are enough; what was spent is the provider's bill, during the block and after it."""
    model = bench.model()
    with standalone(budget="0.10") as session:
        assert model.invoke("hello").text == "all is well"
        assert session.spend.spent.nanos == bench.provider.billed
        model.invoke("again")
    assert session.spend.spent.nanos == bench.provider.billed > 0
    assert session.spend.budget == USD("0.10")
    assert session.spend.calls == 2
    with pytest.raises(NoSession):
        model.invoke("outside")


def test_the_async_form_is_the_same(bench: Bench) -> None:
    """`async with` opens, holds and closes alike, and tasks of the block are inside the session."""
    model = bench.model()

    async def main() -> int:
        async with standalone(budget="0.10") as session:
            await asyncio.gather(*(model.ainvoke(f"question {number}") for number in range(3)))
        return session.spend.spent.nanos

    assert asyncio.run(main()) == bench.provider.billed
    assert len(bench.provider.bills) == 3


def test_the_budget_holds(bench: Bench) -> None:
    """What does not fit is refused, and nothing is sent."""
    with standalone(budget="0.00001") as session, pytest.raises(BudgetExceeded):
        bench.model().invoke("hello")
    assert bench.provider.requests == []
    assert session.spend.spent == USD(0)


def test_a_block_that_failed_goes_on_when_it_is_entered_again(bench: Bench, tmp_path: Path) -> None:
    """With a ledger and a session id, what was paid is replayed, the first budget holds, and the log verifies."""
    ledger, model = Ledger(f"sqlite:///{tmp_path}/own.db"), bench.model()
    with suppress(RuntimeError), standalone("0.01", ledger, session_id="nightly"):
        model.invoke("one")
        raise RuntimeError("the script fails")
    with standalone("5", ledger, session_id="nightly") as session:
        model.invoke("one")
        model.invoke("two")
    assert len(bench.provider.requests) == 2
    assert session.spend.budget == USD("0.01")
    assert ledger.spend("nightly").spent.nanos == bench.provider.billed
    assert [row.kind for row in ledger.audit("nightly")].count("request_closed") == 1
    assert ledger.verify("nightly")
    ledger.database.close()


def test_a_session_inside_a_session_is_refused(bench: Bench) -> None:
    """A handler cannot leave its budget by opening another."""
    with bench.scope().enter(), pytest.raises(ConfigurationError, match="open here already"), standalone("100"):
        bench.model().invoke("hello")
    assert bench.provider.requests == []


def test_what_outlives_the_block_cannot_spend(bench: Bench) -> None:
    """A task that was started in the block and runs on after it is refused."""
    model = bench.model()

    async def main() -> None:
        gate = asyncio.Event()

        async def late() -> None:
            await gate.wait()
            await model.ainvoke("late")

        async with standalone("0.10"):
            task = asyncio.create_task(late())
        gate.set()
        with pytest.raises(ScopeClosed):
            await task

    asyncio.run(main())
    assert bench.provider.requests == []


def test_a_model_that_is_not_metered_is_vetoed(bench: Bench) -> None:
    """The second line stands in a standalone session too."""
    with standalone("0.10"), pytest.raises(Unmetered):
        bench.chat().invoke("hello")
    assert bench.provider.requests == []


def test_bad_settings_are_refused_before_anything_is_opened() -> None:
    """A float, a negative budget and a session id without a ledger are errors that say what to do."""
    for budget in (0.1, "-1"):
        with pytest.raises(ConfigurationError, match="budget"):
            standalone(budget)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="needs a ledger"):
        standalone("1", session_id="mine")
    session = standalone("1")
    with session:
        pass
    with pytest.raises(ConfigurationError, match="entered once"), session:
        pass
