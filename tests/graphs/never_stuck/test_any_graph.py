"""Any graph of specialists, whatever their handlers do: an answer, within the budget, with books that agree."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bursar import Budget, Ledger, Outcome, Report, Task, deterministic
from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger.circuit_breakers import close_all
from bursar.state.events import Decided, RunEnded
from bursar.state.money import USD
from bursar.state.refusals import BudgetExceeded
from bursar.testing import ScriptedModel
from tests.support.graphs import answer_of, billed, build, priced, session, specialist, words

Deed = Literal["answers", "pays", "pays twice", "swallows", "raises", "exits", "rubbish"]
BUDGET = USD("0.03")


@dataclass(frozen=True)
class Drawn:
    """A specialist: what each link of its chain does, how many words it asks for, its ceiling and expectation."""

    deeds: tuple[Deed, ...]
    words: int
    ceiling_cents: int
    expected_percent: int
    last_fails: bool


DEEDS = st.sampled_from(["answers", "pays", "pays twice", "swallows", "raises", "exits", "rubbish"])
SPECIALISTS = st.lists(
    st.builds(
        Drawn,
        deeds=st.lists(DEEDS, min_size=1, max_size=3).map(tuple),
        words=st.integers(1, 25),
        ceiling_cents=st.integers(0, 3),
        expected_percent=st.integers(0, 100),
        last_fails=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def books() -> Iterator[Ledger]:
    """One ledger in memory for all examples; each has a session of its own."""
    ledger = Ledger(Database("sqlite://"))
    yield ledger
    assert ledger.verify()
    ledger.database.close()


SESSIONS = itertools.count(1)


def _handler(deed: Deed, level: int, model: Any) -> Any:
    async def handler(task: Task) -> Any:
        if deed == "raises":
            raise ValueError("as drawn")
        if deed == "exits":
            raise SystemExit(3)
        if deed == "rubbish":
            return object()
        for number in range({"answers": 0, "pays": 1}.get(deed, 2)):
            try:
                await model.ainvoke(f"{task.specialist} {number}")
            except BudgetExceeded:
                if deed != "swallows":
                    raise
        return Report(answer=f"<{task.specialist} at {level}>")

    handler.__name__ = f"level{level}"
    return handler


def _last(fails: bool) -> Any:
    @deterministic
    def last(task: Task) -> Report:
        if fails:
            raise OSError("no data")
        return Report(answer=f"<{task.specialist} at last>")

    return last


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(drawn=SPECIALISTS, asynchronous=st.booleans(), budget_left=st.sampled_from(["0.03", "0.045", "1"]))
def test_any_graph_ends_with_an_answer_within_its_budget(
    books: Ledger, drawn: list[Drawn], asynchronous: bool, budget_left: str
) -> None:
    """Each attempted link has one ended run, siblings keep their work, the plan's order and the budget hold."""
    models: list[ScriptedModel] = []
    specialists: list[Any] = []
    for number, one in enumerate(drawn):
        model = ScriptedModel([words(one.words)] * (2 * len(one.deeds)))
        models.append(model)
        metered = priced(model, words=25, least=one.words)
        links = [_handler(deed, level, metered) for level, deed in enumerate(one.deeds)]
        ceiling = Decimal(one.ceiling_cents) / 100
        specialists.append(
            specialist(
                f"s{number}",
                links[0],
                fallbacks=[*links[1:], _last(one.last_fails)],
                ceiling=ceiling,
                expected_cost=ceiling * one.expected_percent / 100,
            )
        )
    name = f"s-{next(SESSIONS)}"
    books.run(close_all)
    app = build(books, specialists, budget=Budget(BUDGET, per_session=budget_left))
    entered: Any = {"messages": [("user", "now")]}
    result = asyncio.run(app.ainvoke(entered, session(name))) if asynchronous else app.invoke(entered, session(name))

    assert result["messages"][-1].type == "ai"
    assert result["spend"].spent.nanos == billed(*models) <= BUDGET.nanos
    assert result["spend"].held == USD(0)
    events = [row.event for row in books.audit(name)]
    ended = [(event.specialist, event.level) for event in events if isinstance(event, RunEnded)]
    assert sorted(ended) == sorted((run.specialist, run.level) for run in result["runs"])
    assert len(set(ended)) == len(ended)
    plan = next(e.decision for e in events if isinstance(e, Decided) and e.decision.kind == "admit")
    assert sorted(c.name for c in plan.candidates) == [f"s{number}" for number in range(len(drawn))]
    for number, one in enumerate(drawn):
        _check_chain(f"s{number}", one, result, admitted=f"s{number}" in plan.chosen)
    order = [c.name for c in plan.candidates]
    placed = [answer_of(result).find(f"<{name} at") for name in order]
    assert [place for place in placed if place >= 0] == sorted(place for place in placed if place >= 0)
    assert books.verify(name)


def _check_chain(name: str, drawn: Drawn, result: Any, *, admitted: bool) -> None:
    runs = sorted((run for run in result["runs"] if run.specialist == name), key=lambda run: run.level)
    last = len(drawn.deeds)
    assert [run.level for run in runs] == list(range(0 if admitted else last, runs[-1].level + 1))
    assert all(run.outcome != Outcome.COMPLETED for run in runs[:-1])
    assert runs[-1].outcome == Outcome.COMPLETED or runs[-1].level == last
    assert all(run.cost <= USD(Decimal(drawn.ceiling_cents) / 100) for run in runs)
    if runs[-1].outcome == Outcome.COMPLETED:
        where = "last" if runs[-1].level == last else runs[-1].level
        assert f"<{name} at {where}>" in answer_of(result)
    if not admitted or len(runs) > 1 or runs[-1].outcome != Outcome.COMPLETED:
        assert any(gap.startswith(f"{name}: ") for gap in result["gaps"])
