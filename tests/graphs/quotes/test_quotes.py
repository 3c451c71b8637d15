"""Quotes: what a request would do and cost if it came now, told without a trace."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import inspect, text

from bursar import Budget, Ledger, Question, Quote, Report, Specialist, Task
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.gates.base import Verdict
from bursar.state.circuit_breaker import RULE
from bursar.state.events import RunEnded
from tests.graphs.plans.test_needs import Ordering
from tests.graphs.test_arguments import Gate
from tests.support.clock import NOON, Clock
from tests.support.graphs import (
    NANOS_PER_WORD,
    App,
    PayingRouter,
    RouteTo,
    ask,
    build,
    priced,
    scripted,
    session,
    specialist,
    words,
)

ASKED = "how much for food?"


class Freely(RouteTo):
    """A router that chooses every candidate, and never pays."""

    free = True


class InOrder(Ordering):
    """A router that lets some wait for others, and never pays."""

    free = True


def quoting(ledger: Ledger, specialists: Sequence[Specialist], **settings: Any) -> App:
    """Build a graph whose router never pays."""
    return build(ledger, specialists, **{"router": Freely(), **settings})


def raises(task: Task) -> Report:
    """Fail, as an agent with a fault."""
    raise ValueError


def answers(task: Task) -> Report:
    """Answer, at no cost."""
    return Report(answer="an answer")


def paying(*lengths: int, most: int = 20) -> Any:
    """A handler that pays for an answer of so many words, `most` at most, the next number in each run."""
    model = priced(scripted(*map(words, lengths)), words=most, least=1)

    def handler(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text)

    return handler


def rows(ledger: Ledger) -> dict[str, list[str]]:
    """Every row of every table of the ledger's database."""

    def read(transaction: Transaction) -> dict[str, list[str]]:
        connection = transaction.connection
        names = inspect(connection).get_table_names()
        return {name: sorted(map(str, connection.execute(text(f'SELECT * FROM "{name}"')))) for name in names}

    return ledger.read(read)


def steps(quote: Quote) -> dict[str, tuple[int, str, str]]:
    """Of each step its wave, what starts, and why it was cut."""
    return {step.name: (step.wave, step.starts, step.cut) for step in quote.steps}


def dollars(quote: Quote) -> tuple[str, str, str]:
    """What is expected, the worst, and what is left."""
    return str(quote.expected), str(quote.worst), str(quote.left)


def test_a_quote_is_the_plan_with_its_costs(any_ledger: Ledger) -> None:
    """Each step has its wave, its needs, what it is expected to cost and what it can cost with its paid fallbacks."""
    app = quoting(
        any_ledger,
        [
            specialist("read", answers, ceiling="0.004", expected_cost="0.002"),
            specialist("write", answers, ceiling="0.006", expected_cost="0.003", needs=["read"], fallbacks=["read"]),
        ],
    )
    quote = app.quote(ASKED, session())
    assert steps(quote) == {"read": (1, "read", ""), "write": (2, "write", "")}
    assert [step.needs for step in quote.steps] == [(), ("read",)]
    assert [str(step.worst) for step in quote.steps] == ["$0.004", "$0.01"]
    assert dollars(quote) == ("$0.005", "$0.014", "$0.03")
    assert str(quote).splitlines() == [
        "wave  step   expected  at most  after",
        "1     read   $0.002    $0.004",
        "2     write  $0.003    $0.01    read",
        "expected $0.005, at most $0.014 of $0.03 left",
    ]
    assert quote.model_dump(mode="json")["steps"][0]["worst"] == "0.004000000"
    assert Quote.model_validate_json(quote.model_dump_json()) == quote


def test_a_quote_leaves_no_trace(any_ledger: Ledger) -> None:
    """Every table has the same rows before and after, in a new session and in one that has asked; no handler runs."""
    app = quoting(any_ledger, [specialist("a", paying(2), ceiling="0.01")])
    nothing = rows(any_ledger)
    app.quote(ASKED, session())
    app.quote(ASKED)
    assert rows(any_ledger) == nothing
    assert ask(app)["messages"][-1].text == words(2)
    before = rows(any_ledger)
    quote = asyncio.run(app.aquote(ASKED, session()))
    assert quote == app.quote(ASKED, session())
    assert rows(any_ledger) == before
    assert any_ledger.verify()


def test_what_is_cut_is_named_with_its_reason(any_ledger: Ledger) -> None:
    """What does not fit starts with its free fallback, at no cost."""
    agents = [specialist(name, answers, ceiling="0.02", expected_cost="0.02") for name in "ab"]
    quote = quoting(any_ledger, agents).quote(ASKED, session())
    assert steps(quote)["a"] == (1, "a", "")
    wave, starts, why = steps(quote)["b"]
    assert (wave, starts) == (1, "rules")
    assert "the budget had no room for it" in why
    assert dollars(quote) == ("$0.02", "$0.02", "$0.03")
    assert "b → rules" in str(quote)


def test_the_worst_case_fits_every_account(any_ledger: Ledger) -> None:
    """The session's account is as narrow as the request's: what the session has spent is not quoted again."""
    budget = Budget(per_request="0.012", per_session="0.012", per_tenant_day="1")
    agents = [specialist(name, paying(4, most=4), ceiling="0.01", expected_cost="0.002") for name in "ab"]
    app = quoting(any_ledger, agents, budget=budget)
    assert dollars(app.quote(ASKED, session())) == ("$0.004", "$0.012", "$0.012")
    assert ask(app)["ending"] == "answered"
    assert dollars(app.quote(ASKED, session())) == ("$0.004", "$0.004", "$0.004")
    any_ledger.top_up("s-1", "0.004")
    assert dollars(app.quote(ASKED, session())) == ("$0.004", "$0.008", "$0.008")
    assert dollars(app.quote(ASKED, session("s-2"))) == ("$0.004", "$0.012", "$0.012")


def test_pauses_are_quoted(any_ledger: Ledger) -> None:
    """A paused agent's fallback is quoted; if everything is paused, nothing would run, and the quote says why."""
    app = quoting(any_ledger, [specialist("a", answers, ceiling="0.01")])
    any_ledger.pause("agent:a", by="ann", note="checking")
    assert steps(app.quote(ASKED, session())) == {"a": (1, "rules", "it is paused (checking)")}
    any_ledger.unpause("agent:a", by="ann")
    any_ledger.pause("all", by="ann")
    quote = app.quote(ASKED, session())
    assert quote.steps == ()
    assert "everything is paused" in str(quote)
    assert str(quote.worst) == "$0.00"


def test_an_open_breaker_is_quoted_and_its_probe_left(any_ledger: Ledger) -> None:
    """While it is open, the fallback is quoted; once it is half open, any number of quotes leave the probe to a run."""
    clock = Clock()
    app = quoting(any_ledger, [specialist("a", raises, ceiling="0.01")], clock=clock)
    for number in range(3):
        ask(app, name=f"s-{number}")
    [(_, starts, why)] = steps(app.quote(ASKED, session("s-4"))).values()
    assert (starts, "failed in several sessions" in why) == ("rules", True)
    clock.now = NOON + timedelta(seconds=RULE.rest_seconds)
    before = rows(any_ledger)
    for _ in range(2):
        assert steps(app.quote(ASKED, session("s-4"))) == {"a": (1, "a", "")}
    assert rows(any_ledger) == before
    assert ask(app, name="s-4")["runs"][0].specialist == "a"


def test_what_a_gate_denies_is_quoted(any_ledger: Ledger) -> None:
    """A denied step does not start, nor does what needs it."""

    class Denies(Gate):
        def review_plan(self, request: object, specialists: object, *, now: object) -> Verdict:
            return Verdict("allow_with_changes", denied={"a": "closed at night"})

    agents = [specialist("a", answers, ceiling="0.01"), specialist("b", answers, ceiling="0.01", needs=["a"])]
    app = quoting(any_ledger, agents, gate=Denies())
    before = rows(any_ledger)
    quote = app.quote(ASKED, session())
    assert steps(quote) == {"a": (0, "", "closed at night"), "b": (0, "", "it needs a, which does not run")}
    assert rows(any_ledger) == before
    assert str(quote.worst) == "$0.00"


def test_what_of_the_order_cannot_be_kept_is_quoted(any_ledger: Ledger) -> None:
    """A router's cycle is a gap of the quote, as it is one of the answer."""
    agents = [specialist(name, answers, ceiling="0.01") for name in "ab"]
    router = InOrder(("a", "b"), order={"a": ("b",), "b": ("a",)})
    quote = quoting(any_ledger, agents, router=router).quote(ASKED, session())
    assert any("waits for it in turn" in gap for gap in quote.gaps)
    assert sorted(wave for wave, _, _ in steps(quote).values()) == [1, 2]


def test_no_question_and_no_specialist_are_quoted(any_ledger: Ledger) -> None:
    """Nothing would run, so nothing is expected to be spent."""
    app = quoting(any_ledger, [specialist("a", answers, ceiling="0.01")], router=Freely(("nobody",)))
    for asked in ("", ASKED):
        quote = app.quote(asked, session())
        assert (quote.steps, str(quote.worst)) == ((), "$0.00")
        assert str(quote).startswith("nothing would run")


def test_further_rounds_may_spend_what_is_left(any_ledger: Ledger) -> None:
    """Nobody knows what a later round runs, so the worst case is all that is left."""
    app = quoting(any_ledger, [specialist("a", answers, ceiling="0.01", expected_cost="0.002")], rounds=2)
    assert dollars(app.quote(ASKED, session())) == ("$0.002", "$0.03", "$0.03")


def test_what_is_kept_back_for_a_composer_is_quoted(any_ledger: Ledger) -> None:
    """Of several answers one is made: that is expected to cost the composer's share, and may cost all that is left."""

    class Composer:
        share = "0.002"

        async def compose(self, question: Question, reports: Mapping[str, Report], gaps: Sequence[str], /) -> Report:
            return Report(answer="one answer")

    agents = [specialist(name, answers, ceiling="0.01", expected_cost="0.001") for name in "ab"]
    quote = quoting(any_ledger, agents, composer=Composer()).quote(ASKED, session())
    assert dollars(quote) == ("$0.004", "$0.03", "$0.03")
    assert "$0.002 kept back for the composer" in str(quote)
    alone = quoting(any_ledger, agents[:1], composer=Composer()).quote(ASKED, session())
    assert dollars(alone) == ("$0.001", "$0.01", "$0.03")


def test_a_router_that_pays_is_charged_for_the_quote(any_ledger: Ledger) -> None:
    """The quote says what it cost; session and tenant are charged, the books verify, and no specialist ran."""
    budget = Budget(per_request="0.03", per_session="0.05")
    router = PayingRouter(priced(scripted(*["word"] * 6), words=1), calls=2)
    app = build(any_ledger, [specialist("a", answers, ceiling="0.01")], router=router, budget=budget)
    quote = app.quote(ASKED, session())
    assert quote.paid.nanos == 2 * NANOS_PER_WORD == any_ledger.spend("s-1").spent.nanos
    assert quote.worst == quote.left  # the router of the request itself is bounded by the request's budget alone
    assert "this quote cost $0.002" in str(quote)
    assert not any(isinstance(row.event, RunEnded) for row in any_ledger.audit("s-1"))
    assert any_ledger.verify()
    assert ask(app)["ending"] == "answered"
    assert asyncio.run(app.aquote(ASKED, session())).paid.nanos == 2 * NANOS_PER_WORD
    assert any_ledger.spend("s-1").spent.nanos == 6 * NANOS_PER_WORD
    assert any_ledger.verify()
    assert any_ledger.open_holds() == []


def test_a_paid_quote_without_room_is_a_quote(any_ledger: Ledger) -> None:
    """The router's call is refused; the words of the question choose, and nothing is charged."""
    router = PayingRouter(priced(scripted(), words=100), calls=1)
    app = build(any_ledger, [specialist("food", answers, ceiling="0.01")], router=router)
    quote = app.quote("how much for food?", session())
    assert quote.paid.nanos == 0 == any_ledger.spend("s-1").spent.nanos
    assert any("budget" in gap or "router" in gap for gap in quote.gaps)
