"""One answer of several reports: the composer is asked within the budget, and its absence costs no answer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from bursar import Budget, ConfigurationError, Ledger, ModelComposer, Question, Report, Task
from bursar.nodes.gates.base import Verdict
from bursar.state.money import USD
from tests.support.graphs import answer_of, ask, billed, build, free, priced, scripted, specialist, words

PLAIN = "A\nanswer of a\n\nB\nanswer of b"


def says(task: Task) -> Report:
    """Answer by name."""
    return Report(answer=f"answer of {task.specialist}")


def fails(task: Task) -> Report:
    raise ValueError("no")


PAIR = [free("a", says), free("b", says)]


class Joining:
    """A composer without a model."""

    def __init__(self, *, error: BaseException | None = None, hangs: bool = False, answer: Any = None) -> None:
        self.asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        self.error, self.hangs, self.answer = error, hangs, answer

    async def compose(self, question: Question, reports: Mapping[str, Report], gaps: Sequence[str], /) -> Report:
        self.asked.append((str(question), tuple(reports), tuple(gaps)))
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return self.answer or Report(answer=" and ".join(report.answer for report in reports.values()))


def test_a_model_writes_one_answer_and_is_paid_for(any_ledger: Ledger) -> None:
    """Its call is in the books of the request, under its own name; the reports stay apart in the result."""
    double = scripted(words(4))
    result = ask(build(any_ledger, PAIR, composer=ModelComposer(priced(double), expected_cost="0.005")))
    assert answer_of(result) == words(4)
    assert result["ending"] == "answered"
    assert {name: report.answer for name, report in result["reports"].items()} == {
        "a": "answer of a",
        "b": "answer of b",
    }
    assert result["spend"].spent.nanos == billed(double) == any_ledger.spend("s-1").spent.nanos
    assert result["spend"].by_agent == {"composer": USD("0.004")}
    last = result["decisions"][-1]
    assert (last.kind, last.by, last.chosen, last.note) == ("answer", "composer", ("a", "b"), "")
    assert any_ledger.verify()


def test_one_report_is_its_own_answer(ledger: Ledger) -> None:
    """Nobody is asked to compose it."""
    composer = Joining()
    assert answer_of(ask(build(ledger, PAIR[:1], composer=composer))) == "answer of a"
    assert composer.asked == []


def test_it_knows_the_question_and_the_gaps(ledger: Ledger) -> None:
    """A gap that it does not name stands below its answer."""
    composer = Joining()
    result = ask(build(ledger, [*PAIR, free("c", fails)], composer=composer), "what of it?")
    [(question, names, gaps)] = composer.asked
    assert (question, names) == ("what of it?", ("a", "b", "c"))
    assert gaps == tuple(result["gaps"])
    assert answer_of(result).startswith("answer of a and answer of b and c by rule\n\nMissing from this answer:\n- c: ")


def test_its_own_gaps_are_gaps_of_the_answer(ledger: Ledger) -> None:
    """What it could not join is missing."""
    composer = Joining(answer=Report(answer="both", gaps=("the totals differ",)))
    result = ask(build(ledger, PAIR, composer=composer))
    assert (result["gaps"], result["ending"]) == (["the totals differ"], "answered_with_gaps")
    assert answer_of(result).endswith("- the totals differ")


@pytest.mark.parametrize(
    ("composer", "why"),
    [
        (Joining(error=ValueError("secret")), "the composer failed: ValueError"),
        (Joining(hangs=True), "the composer gave no answer within"),
        (Joining(answer="text"), "the composer failed: BadOutput"),
        (Joining(answer=Report(answer=" ")), "the composer failed: BadOutput"),
        (Joining(error=SystemExit(3)), "the composer failed: SystemExit"),
    ],
    ids=["raises", "hangs", "no report", "nothing", "exits"],
)
def test_without_it_the_answers_stand_one_after_the_other(ledger: Ledger, composer: Joining, why: str) -> None:
    """The decision says why; nothing is missing from the answer."""
    result = ask(build(ledger, PAIR, composer=composer, timeout=3 if composer.hangs else None))
    assert answer_of(result) == PLAIN
    assert result["ending"] == "answered"
    assert result["decisions"][-1].note.startswith(why)
    assert "secret" not in result["decisions"][-1].note


@pytest.mark.parametrize(("left", "composed"), [("0.004", False), ("0.005", True)])
def test_it_is_refused_what_the_budget_has_not(any_ledger: Ledger, left: str, composed: bool) -> None:
    """With a tenth of a cent more it is asked."""
    double, spends = scripted(words(5)), scripted(words(5))
    model = priced(spends)

    def pays(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text)

    budget = Budget(USD("0.005") + USD(left))
    made = [free("a", pays, ceiling="0.005"), free("b", says, ceiling="0.005")]
    result = ask(build(any_ledger, made, budget=budget, composer=ModelComposer(priced(double), expected_cost=0)))
    assert answer_of(result) == (words(5) if composed else f"A\n{words(5)}\n\nB\nanswer of b")
    assert result["decisions"][-1].note.startswith("" if composed else "the composer was refused: ")
    assert result["spend"].spent.nanos == billed(double, spends) <= budget.per_request.nanos


def test_the_guardian_keeps_its_share_back(ledger: Ledger) -> None:
    """A plan that fits without a composer is cut with one: the cut is named, and the composer can be paid."""
    double = scripted(words(5))
    made = [specialist("a", says, expected_cost="0.01"), specialist("b", says, expected_cost="0.01"), free("c", says)]
    budget = Budget("0.023")
    assert ask(build(ledger, made, budget=budget), name="s-0")["gaps"] == []
    composer = ModelComposer(priced(double), expected_cost="0.005")
    result = ask(build(ledger, made, budget=budget, composer=composer))
    assert len(result["gaps"]) == 1
    assert "the budget had no room for it" in result["gaps"][0]
    assert answer_of(result).startswith(words(5))


def test_a_repeated_report_pays_for_no_second_answer(any_ledger: Ledger) -> None:
    """A crash after the composer's call, before the request is closed."""
    double, crashes = scripted(words(4), words(5)), [True]
    inner = ModelComposer(priced(double))

    class Crashing(ModelComposer):
        async def compose(self, question: Question, reports: Mapping[str, Report], gaps: Sequence[str], /) -> Report:
            report = await inner.compose(question, reports, gaps)
            if crashes:
                crashes.pop()
                raise KeyboardInterrupt
            return report

    app = build(any_ledger, PAIR, composer=Crashing(priced(scripted())))
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    result = app.invoke(None, {"configurable": {"thread_id": "s-1", "tenant": "acme"}})
    assert answer_of(result) == words(4)
    assert len(double.calls) == 1
    assert result["spend"].spent.nanos == billed(double)
    assert any_ledger.verify()


def test_its_tokens_stream_under_its_name(ledger: Ledger) -> None:
    """As those of an agent; `bursar_agent` in the metadata says whose they are."""
    app = build(ledger, PAIR, composer=ModelComposer(priced(scripted("one two three"))))
    seen = [
        chunk.text
        for chunk, metadata in app.stream(
            {"messages": [("user", "how much?")]}, {"configurable": {"thread_id": "s-1"}}, stream_mode="messages"
        )
        if metadata.get("bursar_agent") == "composer"
    ]
    assert "".join(seen) == "one two three"


def test_a_gate_reviews_what_it_wrote(ledger: Ledger) -> None:
    """What is denied is withheld, composed or not."""

    class Gate:
        name = "policy"

        def review_plan(self, request: Any, names: Any, *, now: Any) -> Verdict:
            return Verdict("allow")

        def review_answer(self, request: Any, answer: str, reports: Any, *, now: Any) -> Verdict:
            return Verdict("deny", reason="too joined") if " and " in answer else Verdict("allow")

    result = ask(build(ledger, PAIR, composer=Joining(), gate=Gate()))
    assert (result["ending"], answer_of(result).startswith("This answer is withheld. too joined")) == ("refused", True)


@pytest.mark.parametrize("composer", ["text", object(), Joining])
def test_what_is_no_composer_is_refused(ledger: Ledger, composer: Any) -> None:
    """In one line, when the graph is built."""
    with pytest.raises(ConfigurationError, match="composer"):
        build(ledger, PAIR, composer=composer)
