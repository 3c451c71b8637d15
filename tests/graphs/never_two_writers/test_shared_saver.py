"""A supervisor and graphs of the user's own over one saver: as a specialist's handler, and beside it."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph

from bursar import LeaseLost, Ledger, SQLAlchemySaver
from bursar.checkpoints.schema.lease_table import leases
from bursar.state.money import USD
from tests.crash.programs import failpoints
from tests.support.graphs import answer_of, ask, build, priced, scripted, session, specialist

ROOT = Path(__file__).parents[3]


def own_graph(saver: SQLAlchemySaver, model: Any) -> Any:
    """A graph of the user's own, which has the saver itself and calls a model twice."""

    async def ask_model(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("first", ask_model)
    graph.add_node("second", ask_model)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile(checkpointer=saver)


def owners(ledger: Ledger) -> list[str]:
    """Who owns sessions now."""
    return list(ledger.database.run(lambda c: c.execute(leases.select().where(leases.c.owner != "")).scalars()))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_specialist_may_be_a_graph_with_the_same_saver(any_ledger: Ledger, asynchronous: bool) -> None:
    """It runs inside a run that owns the session, is not busy for itself; its checkpoints have a place of their own."""
    saver = SQLAlchemySaver(any_ledger.database)
    with scripted("one", "two", "three", "four") as model:
        app = build(any_ledger, [specialist("a", own_graph(saver, priced(model)))], checkpointer=saver)
        for answer in ("two", "four"):
            if asynchronous:
                entered: Any = {"messages": [("user", "x")]}
                result = asyncio.run(app.ainvoke(entered, session()))
            else:
                result = ask(app)
            assert answer_of(result) == answer
    assert any_ledger.spend("s-1").spent == USD("0.004")
    spaces = {one.config["configurable"]["checkpoint_ns"] for one in saver.list(session())}  # pyright: ignore[reportTypedDictNotRequiredAccess]
    assert "" in spaces
    assert len(spaces) > 1
    assert owners(any_ledger) == []


def first_leg(url: str) -> None:
    """What the process does that is killed."""
    failpoints.arm("after_settle")
    ledger = Ledger(url)
    saver = SQLAlchemySaver(ledger.database)
    with scripted("one", "never") as model:
        ask(build(ledger, [specialist("a", own_graph(saver, priced(model)))], checkpointer=saver))


def test_it_goes_on_in_the_middle_after_a_kill(any_ledger: Ledger) -> None:
    """What its first node was paid for is not paid for again, in another process that owns the session at once."""
    url = any_ledger.database.url.render_as_string(hide_password=False)
    code = "import sys; from tests.graphs.never_two_writers.test_shared_saver import first_leg; first_leg(sys.argv[1])"
    killed = subprocess.run([sys.executable, "-c", code, url], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(owners(any_ledger)) == 1
    saver = SQLAlchemySaver(any_ledger.database)
    with scripted("two") as model:
        app = build(any_ledger, [specialist("a", own_graph(saver, priced(model)))], checkpointer=saver)
        assert answer_of(app.invoke(None, session())) == "two"
        assert len(model.calls) == 1
    assert any_ledger.spend("s-1").spent == USD("0.002")
    assert owners(any_ledger) == []


def test_it_is_fenced_with_the_run_that_it_is_part_of(any_ledger: Ledger) -> None:
    """Taken over between its nodes, its next write is refused, so that its last node is not reached."""
    saver = SQLAlchemySaver(any_ledger.database)
    reached: list[str] = []

    def taken_over(state: MessagesState) -> Any:
        with saver.own("s-1", take_over=True):
            reached.append("taken over")
        return {"messages": [("assistant", "one")]}

    def after(state: MessagesState) -> Any:
        reached.append("after")
        return {"messages": [("assistant", "two")]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("first", taken_over)
    graph.add_node("second", after)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    app = build(any_ledger, [specialist("a", graph.compile(checkpointer=saver))], checkpointer=saver)
    with pytest.raises(LeaseLost):
        ask(app)
    assert reached == ["taken over"]


def test_a_graph_beside_it_keeps_its_own_sessions(any_ledger: Ledger) -> None:
    """Owned or not, under another session; both are read back, and neither hinders the other."""
    saver = SQLAlchemySaver(any_ledger.database)

    def echo(state: MessagesState) -> Any:
        return {"messages": [("assistant", state["messages"][-1].text)]}

    plain: Any = StateGraph(MessagesState)
    plain.add_node(echo)
    plain.add_edge(START, "echo")
    beside = plain.compile(checkpointer=saver)
    with scripted("one") as model:
        app = build(any_ledger, [specialist("a", priced(model))], checkpointer=saver)
        with saver.own("beside") as owned:
            beside.invoke({"messages": [("user", "hello")]}, owned.config)
            assert answer_of(ask(app)) == "one"
        beside.invoke({"messages": [("user", "again")]}, {"configurable": {"thread_id": "beside"}})
    texts = [one.text for one in beside.get_state({"configurable": {"thread_id": "beside"}}).values["messages"]]
    assert texts == ["hello", "hello", "again", "again"]
    assert [one.text for one in app.get_state(session()).values["messages"]] == ["how much for food?", "one"]
