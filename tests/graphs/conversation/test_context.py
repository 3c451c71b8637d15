"""Context, store and declared inputs reach the handlers; what is not declared is named."""

from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.graph import MessagesState
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from bursar import Ledger, Task
from bursar.state.errors import ConfigurationError
from tests.support.graphs import answer_of, build, free, one_node, session


@dataclass
class Who:
    """A run's context, with a secret in it."""

    token: str


class Case(TypedDict, total=False):
    """Keys that an application adds to a session's state."""

    customer_id: str
    messages: list[Any]


def asked(**more: Any) -> Any:
    """An input with a question and further keys."""
    return {"messages": [("user", "how much?")], **more}


def test_context_and_store_reach_a_task(any_ledger: Ledger) -> None:
    """A task has the run's context and the store; neither is in its text or stored; a resume brings its own context."""
    store, seen = InMemoryStore(), list[Any]()
    store.put(("facts",), "rent", {"euros": 900})

    def handler(task: Task) -> str:
        seen.append((task.context, repr(task), task.model_dump()))
        assert task.store is not None
        item = task.store.get(("facts",), "rent")
        return f"{interrupt('sure?')}: {item and item.value['euros']}"

    app = build(any_ledger, [free("a", handler)], context_schema=Who, store=store)
    assert app.invoke(asked(), session(), context=Who("secret-1"))["__interrupt__"]
    result = app.invoke(Command(resume="yes"), session(), context=Who("secret-2"))
    assert answer_of(result) == "yes: 900"
    assert [context for context, *_ in seen] == [Who("secret-1"), Who("secret-2")]
    assert not any("secret" in text or "store" in fields or "context" in fields for _, text, fields in seen)
    assert "secret" not in str([*app.get_state_history(session())])


def test_an_agents_own_graph_gets_context_and_store(ledger: Ledger) -> None:
    """The nodes of a handler's own graph see the same context and store."""

    def look(state: MessagesState, runtime: Runtime[Who]) -> Any:
        return {"messages": [("assistant", f"{runtime.context.token} {runtime.store is store}")]}

    store = InMemoryStore()
    graph = one_node(MessagesState, look, context_schema=Who)
    app = build(ledger, [free("a", graph)], context_schema=Who, store=store)
    assert answer_of(app.invoke(asked(), session(), context=Who("t-1"))) == "t-1 True"


def test_declared_keys_reach_a_task(any_ledger: Ledger) -> None:
    """A key of the `state_schema` is in `task.inputs` and in the result, and stays in the session."""
    seen: list[Any] = []
    agents = [free("a", lambda task: seen.append(dict(task.inputs)) or "ok")]
    app = build(any_ledger, agents, state_schema=Case)
    assert app.invoke(asked(customer_id="c-7"), session())["customer_id"] == "c-7"
    build(any_ledger, agents, state_schema=Case).invoke(asked(), session())
    app.invoke(asked(), session("s-2"))
    assert seen == [{"customer_id": "c-7"}, {"customer_id": "c-7"}, {}]


def test_a_key_that_nobody_declared_is_a_gap(any_ledger: Ledger) -> None:
    """A key that the graph does not know is named in the answer; what the last result had may be given back."""
    app = build(any_ledger, [free("a", lambda task: "ok")])
    result = app.invoke(asked(customer_id="c-7"), session())
    assert result["gaps"] == ["input: 'customer_id' is not in the state_schema, so no agent got it"]
    assert "customer_id" in answer_of(result)
    again = app.invoke({**result, "messages": [("user", "and now?")]}, session())
    assert (again["gaps"], answer_of(again)) == ([], "ok")
    assert app.invoke(asked(undeclared=3, plan="x"), session("s-2"))["gaps"] == [
        f"input: {key!r} is not in the state_schema, so no agent got it" for key in ("undeclared", "plan")
    ]


def test_a_graph_around_may_have_keys_of_its_own(ledger: Ledger) -> None:
    """A graph that has the supervisor as a node gives it its whole state, and no gap names that."""

    class Outer(MessagesState):
        documents: str
        undeclared: int

    app = build(ledger, [free("a", lambda task: "ok")], checkpointer=None)
    assert answer_of(one_node(Outer, app).invoke(asked(documents="d", undeclared=3))) == "ok"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"state_schema": TypedDict("Mine", {"runs": int})}, "state_schema has 'runs', which is a key of Bursar's own"),
        ({"state_schema": {"customer_id": str}}, "state_schema is a class, such as a TypedDict"),
        ({"context_schema": Who("x")}, "context_schema is a class"),
        ({"store": {}}, "store is a BaseStore, not dict"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(settings: Any, said: str, ledger: Ledger) -> None:
    """A schema that takes a key of Bursar's own, or is no schema, and a store that is none: one sentence says so."""
    with pytest.raises(ConfigurationError, match=said):
        build(ledger, [free("a", lambda task: "ok")], **settings)
