"""A graph that could overspend or get stuck is not built: one error, which names the specialist."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from bursar import (
    Budget,
    ConfigurationError,
    Ledger,
    Report,
    Specialist,
    Task,
    Verdict,
    build_supervisor,
    deterministic,
)
from bursar.state.errors import UnknownPrice
from tests.support.graphs import rules, specialist


def paid(task: Task) -> Report:
    """A handler that may pay."""
    return Report(answer=task.text)


@deterministic
def other_rules(task: Task) -> Report:
    """Another last resort."""
    return Report(answer="other")


UNKNOWN_MODEL = ChatOpenAI(model="a-model-nobody-sells", api_key=lambda: "none")


def _two(first: list[Any], second: list[Any]) -> list[Specialist]:
    return [specialist("one", paid, fallbacks=first), specialist("two", paid, fallbacks=second)]


CASES: dict[str, tuple[list[Specialist], str]] = {
    "nobody": ([], "needs at least one specialist"),
    "the same name twice": ([specialist("one", paid), specialist("one", paid)], "'one': the name is used twice"),
    "no fallbacks": ([specialist("one", paid, fallbacks=[])], "'one': it has no fallbacks"),
    "a paid end": ([specialist("one", paid, fallbacks=[paid])], "'one': its chain ends in 'paid', which is not"),
    "a paid end by name": (_two(["two"], [rules, paid]), "'one': its chain ends in 'paid'"),
    "falls back on itself": (
        [specialist("one", paid, fallbacks=["one"])],
        "'one': its fallback chain is cyclic: one → one",
    ),
    "a cycle": (_two(["two"], ["one"]), "'one': its fallback chain is cyclic: one → two → one"),
    "an unknown name": (
        [specialist("one", paid, fallbacks=["three", rules])],
        "'one': its fallback 'three' is no specialist",
    ),
    "the same handler twice": ([specialist("one", paid, fallbacks=[rules, rules])], "'one': a handler stands twice"),
    "a ceiling above the budget": (
        [specialist("one", paid, ceiling="0.04")],
        r"'one': its ceiling \$0.04 exceeds the req",
    ),
    "no price": ([specialist("one", paid, models=[UNKNOWN_MODEL])], "'one': .*a-model-nobody-sells"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_graph_is_not_built_with(case: str, ledger: Ledger) -> None:
    """One error of one line names the specialist, and the books are untouched."""
    specialists, message = CASES[case]
    with pytest.raises(ConfigurationError, match=message) as caught:
        build_supervisor(specialists, budget=Budget("0.03"), ledger=ledger)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnknownPrice) == (case == "no price")
    assert ledger.sessions() == []


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a bad name": ({"name": "two words"}, "'two words': a name is a letter"),
    "a reserved name": ({"name": "report"}, "'report': a name is a letter"),
    "no handler": ({"handler": 3}, "'one': the handler must be a function"),
    "no time": ({"timeout": 0}, "'one': timeout must be above 0"),
    "endless time": ({"timeout": float("inf")}, "'one': timeout must be"),
    "no number for a time": ({"timeout": float("nan")}, "'one': timeout must be"),
    "no turns": ({"max_turns": 0}, "'one': max_turns must be at least 1"),
    "a float ceiling": ({"ceiling": 0.01}, "'one': ceiling: an amount is a str, int or Decimal"),
    "a negative ceiling": ({"ceiling": "-1"}, "'one': ceiling is negative"),
    "an expected cost above the ceiling": (
        {"expected_cost": "0.02"},
        r"'one': expected_cost \$0.02 is above its ceiling",
    ),
}


_ONE: dict[str, Any] = {"name": "one", "description": "one", "handler": paid, "fallbacks": [rules]}


@pytest.mark.parametrize("case", FIELDS, ids=str)
def test_a_specialist_is_not_made_with(case: str) -> None:
    """A bad field is refused where it is written, in one line that names the specialist."""
    fields, message = FIELDS[case]
    with pytest.raises(ConfigurationError, match=message):
        Specialist(**{**_ONE, **fields})


@dataclass
class Named:
    """A gate that allows everything."""

    name: str

    def review_plan(self, request: Any, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        """Allow."""
        return Verdict("allow")

    def review_answer(self, request: Any, answer: str, reports: Any, *, now: datetime) -> Verdict:
        """Allow."""
        return Verdict("allow")


@pytest.mark.parametrize("name", ["one", "supervisor", "two words", ""])
def test_a_gate_has_a_name_of_its_own(name: str, ledger: Ledger) -> None:
    """A gate cannot take a specialist's or a node's name."""
    with pytest.raises(ConfigurationError, match=f"gate '{name}'"):
        build_supervisor([specialist("one", paid)], budget=Budget("0.03"), ledger=ledger, gate=Named(name))


def test_a_chain_by_name_goes_on_with_that_ones_own_fallbacks(ledger: Ledger) -> None:
    """A specialist's name at the end of a chain brings its handlers, and so a deterministic end."""
    app: Any = build_supervisor(_two(["two"], [other_rules]), budget=Budget("0.03"), ledger=ledger)
    assert {"one", "one.two", "one.other_rules", "two", "two.other_rules"} < set(app.get_graph().nodes)
