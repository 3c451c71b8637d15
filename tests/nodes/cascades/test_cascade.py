"""`Cascade` in whole graphs: which rungs are asked, what is answered, what is charged and what is written."""

from decimal import Decimal
from typing import Any

from bursar import Cascade, Ledger, Report, Task, deterministic
from bursar.state.decision import Decision
from bursar.state.events import Decided
from bursar.state.money import USD
from tests.support.graphs import answer_of, ask, billed, build, free, priced, scripted, words


def is_long(report: Report) -> bool:
    """Accept an answer of four words or more."""
    return len(report.answer.split()) >= 4


@deterministic
def by_rule(task: Task) -> Report:
    """Answer in two words."""
    return Report(answer="by rule", confidence=0.2)


def decisions(result: Any) -> list[Decision]:
    """Return the decisions of the result's cascades."""
    return [one for one in result["decisions"] if one.kind == "cascade"]


def test_the_dear_rung_is_asked_where_the_stake_is_high(any_ledger: Ledger) -> None:
    """The cheap answer fails the check, the dear one is taken; it is no fallback and no gap."""
    cheap, dear = scripted(words(2)), scripted(words(5))
    rungs = {"cheap": priced(cheap), "dear": priced(dear)}
    app = build(any_ledger, [free("a", Cascade(rungs, accept=is_long, stake="50"), ceiling="0.03")])
    result = ask(app)
    assert result["messages"][-1].text == words(5)
    assert (result["gaps"], result["ending"], [run.level for run in result["runs"]]) == ([], "answered", [0])
    assert [(one.rung, one.accepted, one.chosen) for one in decisions(result)] == [
        ("cheap", False, ("dear",)),
        ("dear", True, ("dear",)),
    ]
    assert result["spend"].spent.nanos == billed(cheap, dear)
    assert {row.name for row in any_ledger.costs()} == {"a → cheap", "a → dear"}
    assert any_ledger.verify()


def test_the_dear_rung_is_not_asked_where_the_stake_is_low(any_ledger: Ledger) -> None:
    """The cheap answer is given with a gap that says what was not worth it."""
    cheap, dear = scripted(words(2)), scripted()
    rungs = {"cheap": priced(cheap), "dear": priced(dear)}
    prices = {"cheap": "0.001", "dear": "0.011"}
    app = build(any_ledger, [free("a", Cascade(rungs, accept=is_long, stake="0.02", prices=prices), ceiling="0.03")])
    result = ask(app)
    assert answer_of(result).startswith(words(2))
    gap = "a: its check did not accept this answer; asking dear was not worth $0.011 at a stake of $0.02"
    assert result["gaps"] == [gap]
    assert [run.outcome for run in result["runs"]] == ["completed"]
    [decided] = decisions(result)
    assert (decided.stake, decided.gain, decided.chosen) == (USD("0.02"), Decimal("0.3"), ())
    assert not dear.calls


def test_a_free_rung_is_asked_first_and_pays_nothing(any_ledger: Ledger) -> None:
    """If its answer is accepted, no model is asked."""
    dear = scripted()
    cascade = Cascade([by_rule, priced(dear)], accept=0.1, stake="50")
    result = ask(build(any_ledger, [free("a", cascade)]))
    assert answer_of(result) == "by rule"
    assert result["spend"].spent.nanos == 0
    logged = [row.event.decision for row in any_ledger.audit("s-1") if isinstance(row.event, Decided)]
    assert [one for one in logged if one.kind == "cascade"] == decisions(result)


def test_gains_are_learned(any_ledger: Ledger) -> None:
    """The ledger shows how often a rung was accepted, its cost and what it saved."""
    cheap, dear = scripted(*[words(2), words(4)] * 3), scripted(*[words(5)] * 3)
    rungs = {"cheap": priced(cheap), "dear": priced(dear)}
    app = build(any_ledger, [free("a", Cascade(rungs, accept=is_long, stake="50"), ceiling="0.03")])
    for number in range(6):
        ask(app, name=f"s-{number}")
    rows = {row.rung: row for row in any_ledger.gains()}
    assert (rows["cheap"].asked, rows["cheap"].accepted) == (6, 3)
    assert (rows["dear"].asked, rows["dear"].accepted) == (3, 3)
    assert f"{rows['dear'].gain:f}" == "0.391304"
    assert rows["dear"].mean_cost == USD("0.005")
    assert rows["cheap"].saved > USD(0)
    assert any_ledger.verify()
