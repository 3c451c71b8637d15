"""Specialist records and fallback chains: what does not build, and what it says."""

from collections.abc import Sequence
from typing import Any

import pytest

from bursar.nodes.specialists.chain import chains_of
from bursar.nodes.specialists.definition import Function, Specialist, deterministic
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD, ZERO
from bursar.state.run import Report, Task


def paid(task: Task) -> Report:
    """A handler that may call a model."""
    return Report(answer=task.text)


@deterministic
def rules(task: Task) -> Report:
    """A last resort."""
    return Report(answer=task.text)


def make(name: str, fallbacks: Sequence[Function | str] = (rules,), **fields: Any) -> Specialist:
    """A specialist of that name."""
    return Specialist(
        name=name, description=f"{name}.", handler=fields.pop("handler", paid), fallbacks=fallbacks, **fields
    )


@pytest.mark.parametrize(
    ("specialists", "says"),
    [
        ([make("a", [])], "specialist 'a': it has no fallbacks"),
        ([make("a", ["b"]), make("b", ["a"])], "specialist 'a': its fallback chain is cyclic: a → b → a"),
        ([make("a", ["a"])], "specialist 'a': its fallback chain is cyclic: a → a"),
        ([make("a", ["b", rules]), make("b", ["c"]), make("c", ["b"])], "specialist 'a': its fallback chain is cyclic"),
        ([make("a", ["ghost"])], "specialist 'a': its fallback 'ghost' is no specialist of this graph"),
        ([make("a", [paid])], "specialist 'a': its chain ends in 'paid', which is not @deterministic"),
        ([make("a"), make("a")], "specialist 'a': the name is used twice"),
        ([make("a", [rules, rules])], "specialist 'a': a handler stands twice in its chain"),
        ([], "a supervisor needs at least one specialist"),
    ],
)
def test_a_chain_that_could_fail_to_answer_does_not_build(specialists: list[Specialist], says: str) -> None:
    """Every broken chain is one error that names the specialist and the fault."""
    with pytest.raises(ConfigurationError) as caught:
        chains_of(specialists)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"ceiling": 0.01}, "specialist 'a': ceiling: an amount is a str, int or Decimal"),
        ({"ceiling": "-1"}, "specialist 'a': ceiling is negative"),
        ({"expected_cost": "1"}, r"specialist 'a': expected_cost \$1.00 is above its ceiling \$0.01"),
        ({"timeout": 0}, "specialist 'a': timeout must be above 0"),
        ({"timeout": float("nan")}, "specialist 'a': timeout must be above 0"),
        ({"max_turns": 0}, "specialist 'a': max_turns must be at least 1"),
        ({"handler": "text"}, "specialist 'a': the handler must be a function"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], says: str) -> None:
    """A record with a bad field is refused when it is written, not when it runs."""
    with pytest.raises(ConfigurationError, match=says):
        make("a", **fields)


@pytest.mark.parametrize("name", ["", "1st", "with space", "supervisor", "report", "a:b", "a|b", "x" * 65, "é"])
def test_a_name_must_be_a_node_name(name: str) -> None:
    """Names are used as nodes, accounts and columns."""
    with pytest.raises(ConfigurationError, match="a name is a letter"):
        make(name)


def test_a_name_at_the_end_goes_on_with_that_ones_chain() -> None:
    """A chain through another specialist ends where that one's ends; in the middle only its handler is borrowed."""
    chains = chains_of([make("a", ["b", "c"]), make("b"), make("c")])
    assert [link.node for link in chains["a"].links] == ["a", "a.b", "a.c", "a.rules"]
    assert [link.paid for link in chains["a"].links] == [True, True, True, False]
    assert chains["a"].first_free == 3


def test_a_tool_agent_is_its_own_last_resort() -> None:
    """A deterministic handler needs no fallback, expects no cost and has no ceiling to spend; another expects some."""
    agent = make("t", [], handler=rules)
    assert (agent.cap, agent.expects) == (ZERO, ZERO)
    assert chains_of([agent])["t"].first_free == 0
    assert make("m").expects == USD("0.0025")
