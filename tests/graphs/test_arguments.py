"""What is not of its kind is refused before anything runs, in one sentence that says what to write."""

from typing import Any

import pytest

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.graphs.supervisor import build_supervisor
from bursar.nodes.gates.base import Verdict
from bursar.nodes.routers.word_overlap import WordOverlapRouter
from bursar.nodes.specialists.definition import Specialist, deterministic
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.run import Report, Task
from tests.support.graphs import session


@deterministic
def rules(task: Task) -> Report:
    return Report(answer="by rule")


class Gate:
    name = "reviewer"

    def review_plan(self, request: object, specialists: object, *, now: object) -> Verdict:
        return Verdict("allow")

    def review_answer(self, request: object, answer: object, reports: object, *, now: object) -> Verdict:
        return Verdict("allow")


class Waits(Gate):
    async def review_plan(self, request: object, specialists: object, *, now: object) -> Verdict:  # type: ignore[override]
        return Verdict("allow")


class Halved:
    name = "halved"
    review_plan = Gate.review_plan


class Hears:
    def run_started(self, run: object) -> None:
        """Hear of it."""


class Later:
    async def run_ended(self, run: object, error: object, head: object) -> None:
        """Nobody awaits it."""


def build(books: Ledger, **changed: Any) -> Any:
    """A graph of one specialist, with some arguments changed."""
    own = {name.removeprefix("own_"): changed.pop(name) for name in list(changed) if name.startswith("own_")}
    agent: Any = {"name": "a", "description": "all", "handler": rules, "examples": ["how much"], **own}
    given: Any = {"specialists": None, "budget": Budget("0.03"), "ledger": books, **changed}
    specialists = given.pop("specialists")
    return build_supervisor([Specialist(**agent)] if specialists is None else specialists, **given)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"budget": "0.03"}, 'budget is a Budget, not str; write Budget("0.03")'),
        ({"ledger": "sqlite:///x.db"}, "ledger is a Ledger, not str; write Ledger(url)"),
        ({"specialists": [rules]}, "a supervisor takes Specialist records, not function"),
        ({"specialists": Specialist(name="a", description="a", handler=rules)}, "specialists is a list"),
        ({"router": object()}, "router: object has no route(text, candidates)"),
        ({"gate": object()}, "gate None: a name"),
        ({"gate": Halved()}, "gate 'halved' has no review_answer"),
        ({"observers": Hears()}, "observers is a list; write [observer]"),
        ({"observers": [object()]}, "observer object has none of run_started, turn, run_ended, run_stopped"),
        ({"observers": [Later()]}, "observer Later: a method is a coroutine; write def"),
        ({"on_exhausted": "stop"}, "on_exhausted is 'fall_back' or 'ask', not 'stop'"),
        ({"on_exhausted": "ask"}, "on_exhausted='ask' asks a person; say who may answer with approvers=[…]"),
        ({"on_exhausted": "ask", "approvers": []}, "say who may answer with approvers=[…]"),
        ({"on_exhausted": "ask", "approvers": ["ann"]}, "give the graph a checkpointer to wait with"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"own_fallbacks": rules}, "specialist 'a': fallbacks is a list; write [rules]"),
        ({"own_fallbacks": "rules"}, "specialist 'a': fallbacks is a list; write [rules]"),
        ({"own_examples": "how much"}, "specialist 'a': examples is a list of questions"),
        ({"own_timeout": "20"}, "specialist 'a': timeout is a number, not '20'"),
        ({"own_min_confidence": True}, "specialist 'a': min_confidence is a number, not True"),
        ({"own_max_turns": "8"}, "specialist 'a': max_turns must be at least 1"),
        ({"own_ceiling": 0.01}, 'an amount is a str, int or Decimal of US dollars, not float: 0.01; write "0.01"'),
    ],
)
def test_what_is_not_of_its_kind_is_refused(ledger: Ledger, changed: dict[str, Any], says: str) -> None:
    """Each is a `ConfigurationError` that names the argument."""
    with pytest.raises(ConfigurationError) as refused:
        build(ledger, **changed)
    assert says in str(refused.value)


def test_what_is_of_its_kind_is_taken(ledger: Ledger) -> None:
    """By its methods: no class of Bursar must be inherited."""
    asks: Any = {"on_exhausted": "ask", "approvers": ["ann"], "checkpointer": SQLAlchemySaver(ledger.database)}
    app = build(ledger, router=WordOverlapRouter(), gate=Gate(), observers=[Hears()], own_timeout=20, **asks)
    assert app.invoke({"messages": [("user", "how much?")]}, session())["ending"] == "answered"


class Denies(Gate):
    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def review_plan(self, request: object, specialists: object, *, now: object) -> Verdict:
        return self._verdict


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict("deny", reason="closed"), "a: closed"),
        (Verdict("deny", denied={"a": "closed at night"}), "a: closed at night"),
        (Verdict("deny"), "a: reviewer gave no reason"),
        (Verdict("allow", denied={"a": "closed at night"}), "a: closed at night"),
    ],
)
def test_the_reason_of_a_denial_is_read_wherever_it_stands(ledger: Ledger, verdict: Verdict, reason: str) -> None:
    """For all specialists or for one; without any reason the gate is named."""
    result = build(ledger, gate=Denies(verdict)).invoke({"messages": [("user", "how much?")]}, session())
    assert result["gaps"] == [reason]


def test_a_session_without_a_name_is_refused(any_ledger: Ledger) -> None:
    """An empty name would be one conversation for everybody."""
    app = build(any_ledger, checkpointer=SQLAlchemySaver(any_ledger.database))
    with pytest.raises(ConfigurationError, match="thread_id is empty"):
        app.invoke({"messages": [("user", "how much?")]}, {"configurable": {"thread_id": ""}})
