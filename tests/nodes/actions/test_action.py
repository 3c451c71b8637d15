"""`@action`: intended before, done once, replayed, undone when its run fails, and refused where it must not be done."""

import inspect
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from bursar import ActionCall, Ledger, Report, Task, action, deterministic
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import ActionRefused
from bursar.state.run import Fault
from bursar.testing import ScriptedModel
from tests.support.bank import Bank, app_of, by_name
from tests.support.graphs import answer_of, ask, build, priced, rules, session, specialist


def ask_model(model: Any, state: MessagesState) -> Any:
    return {"messages": [model.invoke(state["messages"])]}


def test_it_stays_the_function_that_it_was(ledger: Ledger) -> None:
    """Signature, text and types are kept, for people and for models, but for the key; it is a LangChain tool too."""

    @action(irreversible=True)
    def pay(name: str, cents: int = 5, idempotency_key: str = "") -> str:
        """Pay somebody."""
        return f"{name} {cents} {idempotency_key}"

    @action(irreversible=True)
    async def apay(name: str, cents: int = 5, idempotency_key: str = "") -> str:
        """Pay somebody."""
        return f"{name} {cents} {idempotency_key}"

    for function in (pay, apay):
        assert function.__doc__ == "Pay somebody."
        assert list(inspect.signature(function).parameters) == ["name", "cents"]
        made = tool(function)
        assert isinstance(made, BaseTool)
        assert set(made.args) == {"name", "cents"}
        assert made.description == "Pay somebody."
    assert inspect.iscoroutinefunction(apay)

    def payer(task: Task) -> Report:
        return Report(answer=tool(pay).invoke({"name": "bob"}))

    said = answer_of(ask(app_of(ledger, payer))).split()
    assert said[:2] == ["bob", "5"]
    assert len(said[2]) == 64


@pytest.mark.parametrize("sync", [True, False])
def test_what_is_called_twice_is_done_twice_under_two_keys(ledger: Ledger, sync: bool) -> None:
    """The intent is committed before and the result after; equal calls of one run are two actions."""
    bank = Bank()

    @action(compensate=bank.undo)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    @action(compensate=bank.undo)
    async def apay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        return Report(answer=f"{pay('bob')}, {pay(name='bob')}")

    async def apayer(task: Task) -> Report:
        return Report(answer=f"{await apay('bob')}, {await apay(name='bob')}")

    result = ask(app_of(ledger, payer if sync else apayer))
    assert answer_of(result) == "bob paid, bob paid"
    assert len(set(bank.keys)) == 2
    kinds = [row.kind for row in ledger.audit("s-1") if row.kind.startswith("action")]
    assert kinds == ["action_intended", "action_changed"] * 2


def test_a_given_key_is_done_once_in_its_session(ledger: Ledger) -> None:
    """Asked again in another request of the session, it is not done again; with other arguments it is refused."""
    bank = Bank()

    @action(irreversible=True, key=by_name)
    def pay(name: str, cents: int) -> str:
        return bank.pay(f"{name} {cents}")

    def payer(task: Task) -> Report:
        return Report(answer=pay("bill 7", int(task.text)))

    app = app_of(ledger, payer)
    assert [answer_of(ask(app, cents)) for cents in ("5", "5")] == ["bill 7 5 paid"] * 2
    assert bank.done == ["bill 7 5"]
    assert "its key belongs to a call with other arguments" in ask(app, "6")["gaps"][0]
    assert answer_of(ask(app, "6", name="s-2")) == "bill 7 6 paid"


def test_swallowed_refusals_count(ledger: Ledger) -> None:
    """A handler that hides a refused action has not completed, and what it did is undone."""
    bank = Bank()

    @action(compensate=bank.undo)
    def reserve(name: str) -> str:
        return bank.pay(name)

    @action(irreversible=True, approval=True)
    def wire(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        reserve("room")
        try:
            wire("bob")
        except BaseException:  # noqa: BLE001
            return Report(answer="all is well")
        return Report(answer="paid")

    result = ask(app_of(ledger, payer))
    assert bank.done == ["room", "not room"]
    assert result["runs"][0].fault is Fault.NOT_APPROVED
    assert "nobody may give it" in result["gaps"][0]


def test_nothing_acts_outside_a_run_or_in_a_last_resort(ledger: Ledger) -> None:
    """Outside any run, in a deterministic handler, and after the end of its run an action does nothing."""
    bank, ended = Bank(), threading.Event()

    @action(compensate=bank.undo)
    def pay(name: str) -> str:
        return bank.pay(name)

    with pytest.raises(ActionRefused, match="called outside any run"):
        pay("bob")

    @deterministic
    def free(task: Task) -> Report:
        return Report(answer=pay("bob"))

    assert "payer may not act" in ask(app_of(ledger, free, fallbacks=[rules]))["gaps"][0]
    late: list[BaseException] = []

    def leaver(task: Task) -> Report:
        def later() -> None:
            ended.wait(20)
            try:
                pay("bob")
            except ActionRefused as error:
                late.append(error)

        thread = threading.Thread(target=later)
        thread.start()
        leaver.thread = thread  # pyright: ignore[reportFunctionMemberAccess]
        return Report(answer="left")

    assert answer_of(ask(app_of(ledger, leaver), name="s-2")) == "left"
    ended.set()
    leaver.thread.join()  # pyright: ignore[reportFunctionMemberAccess]
    assert "the run of payer has ended" in str(late[0])
    assert bank.done == []


def test_an_agent_calls_it_as_a_tool_and_may_fork(ledger: Ledger) -> None:
    """Two calls of one tool in one message are two actions; a fork of the history acts again, under another key."""
    bank = Bank()

    @tool
    @action(compensate=bank.undo)
    def pay(name: str, idempotency_key: str = "") -> str:
        """Pay somebody."""
        return bank.pay(name, idempotency_key)

    calls: list[Any] = [{"name": "pay", "args": {"name": "bob"}, "id": str(number)} for number in range(2)]
    double = ScriptedModel(replies=[AIMessage("", tool_calls=calls), "ok"] * 2)
    model: Any = priced(double, words=3)
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", partial(ask_model, model))
    graph.add_node("tools", ToolNode([pay]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    agent: Any = graph.compile()
    app = app_of(ledger, agent, ceiling="0.03")
    assert answer_of(ask(app)) == "ok"
    assert bank.done == ["bob", "bob"]
    assert len(set(bank.keys)) == 2
    before = next(state for state in app.get_state_history(session()) if state.next == ("payer",))
    forked = app.update_state(before.config, {"gaps": []}, as_node="supervisor")
    app.invoke(None, forked)
    assert len(set(bank.keys)) == 4


def test_bad_declarations_and_arguments(ledger: Ledger) -> None:
    """An action says how it is undone, or that it is not; it is no generator; its arguments are plain values."""
    for bad in ({}, {"irreversible": True, "compensate": print}):
        with pytest.raises(ConfigurationError, match="one of them"):
            action(**bad)  # pyright: ignore[reportArgumentType]

    def many() -> Iterator[int]:
        yield 1

    async def later(call: ActionCall) -> None: ...

    def plain(thing: object) -> None: ...

    with pytest.raises(ConfigurationError, match="is a generator"):
        action(irreversible=True)(many)
    with pytest.raises(ConfigurationError, match="so must be what checks it and undoes it"):
        action(compensate=later)(plain)
    act = action(irreversible=True)(plain)

    def payer(task: Task) -> Report:
        act(object() if task.text == "odd" else "x" * 200_000)
        return Report(answer="done")

    app = build(ledger, [specialist("payer", payer)], show_errors=True)
    assert "must be plain values" in ask(app, "odd")["gaps"][0]
    assert "100000 is the limit" in ask(app, "long", name="s-2")["gaps"][0]


def test_what_is_kept_can_be_erased(ledger: Ledger) -> None:
    """Arguments and results go, the log stays whole, and a replay says what is missing."""

    @action(irreversible=True, key=by_name)
    def pay(name: str) -> str:
        return "secret"

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    app = app_of(ledger, payer)
    ask(app)
    assert ledger.erase("s-1") == 1
    assert ledger.verify(), str(ledger.verify())
    assert "its result was erased" in ask(app, "again")["gaps"][0]
