"""Without an `expected_cost` a specialist is expected to cost what its last runs cost, as the ledger has them."""

from typing import Any

import pytest
from sqlalchemy import text

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.costs import LAST_RUNS, median_costs
from bursar.checkpoints.ledger.ledger import Ledger, utc_now
from bursar.checkpoints.ledger.requests import open_session
from bursar.state.budget import Budget
from bursar.state.events import RunEnded
from bursar.state.money import USD, ZERO
from bursar.state.run import Outcome, Report, Task
from tests.support.graphs import RouteTo, answer_of, ask, build, priced, rules, scripted, specialist, words


def asking(*lengths: int) -> Any:
    """A handler that pays for an answer of so many words, the next number in each run."""
    double = scripted(*map(words, lengths))
    model = priced(double, words=20, least=1)

    def handler(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text)

    return handler


def expected(result: Any, name: str = "a") -> list[USD]:
    """What the decisions of a request say that the specialist is expected to cost."""
    told = [one for decision in result["decisions"] for one in decision.candidates if one.name == name]
    return [one.expected_cost for one in told]


def end_runs(ledger: Ledger, *nanos: int, handler: str = "a", outcome: Outcome = Outcome.COMPLETED) -> None:
    """Write the ends of runs with these costs into the ledger's log, one after the other."""
    ledger.run(open_session, "before", "acme", at=utc_now())
    for cost in nanos:
        ended = RunEnded(
            request_id="r",
            specialist="any",
            handler=handler,
            level=0,
            outcome=outcome,
            reason="",
            cost=USD.from_nanos(cost),
            milliseconds=1,
        )
        ledger.run(postings.record, "before", ended, at=utc_now())


def test_it_is_a_quarter_of_the_ceiling_and_then_the_median(any_ledger: Ledger) -> None:
    """Each request sees the run that ended just before it; guardian and router go by the same amount."""
    app = build(any_ledger, [specialist("a", asking(5, 2, 3, 1), ceiling="0.02")])
    seen = [expected(ask(app, str(number), f"s-{number % 2}")) for number in range(4)]
    assert seen == [[USD(amount)] * 2 for amount in ("0.005", "0.005", "0.0035", "0.003")]
    assert any_ledger.verify()


def test_what_is_given_is_not_learned(ledger: Ledger) -> None:
    """An expected cost and a price stay; a deterministic handler costs nothing."""
    end_runs(ledger, 7_000_000)
    for settings, amount in (({}, "0.007"), ({"expected_cost": "0.001"}, "0.001"), ({"price": "0.002"}, "0.002")):
        app = build(ledger, [specialist("a", lambda task: "yes", **settings)])
        assert expected(ask(app, name=amount))[0] == USD(amount)
    assert expected(ask(build(ledger, [specialist("a", rules, fallbacks=[])]), name="free"))[0] == ZERO


def test_a_plan_fits_more_once_its_agents_proved_cheap(any_ledger: Ledger) -> None:
    """With ceilings of $0.02 in $0.03, three start; after runs of $0.018, one."""
    names = ("a", "b", "c")
    app = build(any_ledger, [specialist(name, asking(1, 1), ceiling="0.02") for name in names])
    started = [run.specialist for run in ask(app, "first")["runs"] if run.level == 0]
    assert sorted(started) == list(names)  # what each can pay depends on whose answer comes first
    for name in names:
        end_runs(any_ledger, *[18_000_000] * 3, handler=name)
    assert "expects $0.018, $0.012 left" in answer_of(ask(app, "second"))
    assert any_ledger.verify()


def test_a_fallback_is_admitted_by_what_it_cost(any_ledger: Ledger) -> None:
    """A paid fallback without runs is expected at a quarter of its ceiling, later at its median."""

    def fails(task: Task) -> Report:
        raise ValueError("no")

    specialists = [
        specialist("a", fails, fallbacks=["b"], ceiling="0.01"),
        specialist("b", asking(1, 1), ceiling="0.02"),
    ]
    app = build(any_ledger, specialists, budget=Budget("0.02", per_session="0.02"), router=RouteTo(("a",)))
    assert "word" in answer_of(ask(app, "first", "s-1"))
    end_runs(any_ledger, *[19_500_000] * 3, handler="b")
    assert "no room for b: expects $0.0195, $0.019 left" in answer_of(ask(app, "second", "s-1"))


def test_it_is_never_above_the_ceiling(ledger: Ledger) -> None:
    """A ceiling that was lowered since bounds what is expected too."""
    end_runs(ledger, 9_000_000)
    app = build(ledger, [specialist("a", asking(1), ceiling="0.002")])
    assert expected(ask(app))[0] == USD("0.002")


@pytest.mark.parametrize(
    ("nanos", "median"),
    [((), None), ((7,), 7), ((9, 1), 5), ((2, 1), 2), ((9, 1, 2), 2), ((0, 0, 8, 9), 4)],
)
def test_the_median(any_ledger: Ledger, nanos: tuple[int, ...], median: int | None) -> None:
    """Halfway between the two in the middle, rounded up; other handlers and other outcomes do not count."""
    end_runs(any_ledger, 5_000, 6_000, handler="other")
    end_runs(any_ledger, 5_000, 6_000, outcome=Outcome.EXHAUSTED)
    end_runs(any_ledger, *nanos)
    names = ["a", *(f"none-{number}" for number in range(250)), "other"]
    wanted = {"other": USD.from_nanos(5_500)} | ({} if median is None else {"a": USD.from_nanos(median)})
    assert any_ledger.read(median_costs, names) == wanted


def test_only_the_last_runs_count(any_ledger: Ledger) -> None:
    """What is older is forgotten."""
    end_runs(any_ledger, *[1_000] * 60, *[3_000] * (LAST_RUNS // 2 + 1))
    assert any_ledger.read(median_costs, ["a"]) == {"a": USD.from_nanos(3_000)}


@pytest.mark.parametrize(
    "change",
    [
        "run_cost = 1 WHERE run_of IS NOT NULL",
        "run_of = 'other' WHERE run_of IS NOT NULL",
        "run_of = NULL, run_cost = NULL WHERE run_of IS NOT NULL",
        "run_of = 'a', run_cost = 1 WHERE sequence = (SELECT max(sequence) FROM bursar_events)",
    ],
)
def test_verify_holds_it_against_the_log(any_url: str, change: str) -> None:
    """A run that no event tells of, one that is missing, and another cost are found."""
    books = Ledger(any_url)
    end_runs(books, 5_000)
    end_runs(books, 5_000, outcome=Outcome.FAILED)
    assert books.verify()
    books.database.run(lambda connection: connection.execute(text(f"UPDATE bursar_events SET {change}")))
    [problem] = books.verify().problems
    assert "as its completed run and cost" in problem
    books.close()
