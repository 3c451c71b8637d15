"""`@action`: intended before, done once, replayed, undone when its run fails, and refused where it must not be done."""

import inspect
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from bursar import ActionCall, Happened, Ledger, Report, Task, action, deterministic
from bursar.checkpoints.ledger.actions import ActionIntent
from bursar.nodes.actions import compensate as undoing
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import ActionChanged
from bursar.state.refusals import ActionRefused
from bursar.state.run import Fault
from bursar.testing.scripted_model import ScriptedModel
from tests.support.graphs import App, answer_of, ask, build, priced, rules, session, specialist


class Bank:
    """What was done in the world, in order; `faults` are raised after the next payments were made or instead."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: list[str] = []
        self.after: list[BaseException] = []
        self.instead: list[BaseException] = []

    def pay(self, name: str, key: str = "") -> str:
        """Pay, or raise."""
        if self.instead:
            raise self.instead.pop(0)
        self.done.append(name)
        self.keys.append(key)
        if self.after:
            raise self.after.pop(0)
        return f"{name} paid"

    def undo(self, call: ActionCall) -> None:
        """Take it back."""
        self.done.append(f"not {call.arguments['name']}")

    def look(self, call: ActionCall) -> Happened | None:
        """Whether it was paid."""
        return Happened(f"{call.arguments['name']} was paid") if call.key in self.keys else None


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that must verify when the test ends."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    found = ledger.verify()
    ledger.database.close()
    assert found, str(found)


def _by_name(name: str, cents: int = 0) -> str:
    return name


def _ask_model(model: Any, state: MessagesState) -> Any:
    return {"messages": [model.invoke(state["messages"])]}


def states(ledger: Ledger) -> list[str]:
    """What became of actions, in order."""
    return [row.event.state for row in ledger.audit("s-1") if isinstance(row.event, ActionChanged)]


def app_of(ledger: Ledger, handler: Any, **settings: Any) -> App:
    """A graph of one specialist."""
    return build(ledger, [specialist("payer", handler, **settings)])


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

    @action(irreversible=True, key=_by_name)
    def pay(name: str, cents: int) -> str:
        return bank.pay(f"{name} {cents}")

    def payer(task: Task) -> Report:
        return Report(answer=pay("bill 7", int(task.text)))

    app = app_of(ledger, payer)
    assert [answer_of(ask(app, cents)) for cents in ("5", "5")] == ["bill 7 5 paid"] * 2
    assert bank.done == ["bill 7 5"]
    assert "its key belongs to a call with other arguments" in ask(app, "6")["gaps"][0]
    assert answer_of(ask(app, "6", name="s-2")) == "bill 7 6 paid"


def test_a_failed_run_is_undone_the_last_first(ledger: Ledger) -> None:
    """What was done is taken back in reverse order before the fallback runs, and the answer says so."""
    bank = Bank()

    @action(compensate=bank.undo)
    def pay(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        pay("flight")
        pay("hotel")
        raise ValueError("no seats")

    def helper(task: Task) -> Report:
        return Report(answer=f"{pay('train')}")

    result = ask(app_of(ledger, payer, fallbacks=[helper, rules]))
    assert bank.done == ["flight", "hotel", "not hotel", "not flight", "train"]
    assert "undone: pay, pay" in result["gaps"][0]
    assert states(ledger) == ["done", "done", "undoing", "undone", "undoing", "undone", "done"]


def test_what_cannot_be_undone_is_last(ledger: Ledger) -> None:
    """After an irreversible action no other is done, and nothing of the run is undone: the answer says what stays."""
    bank = Bank()

    @action(compensate=bank.undo)
    def reserve(name: str) -> str:
        return bank.pay(name)

    @action(irreversible=True)
    def wire(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        reserve("room")
        wire("bob")
        return Report(answer=reserve("car"))

    result = ask(app_of(ledger, payer))
    assert bank.done == ["room", "bob"]
    assert "reserve was not done: wire cannot be undone, and is the last action of a run" in result["gaps"][0]
    assert "wire cannot be undone, so what was done stays: wire, reserve" in result["gaps"][0]


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


def test_what_is_done_after_the_deadline_is_undone(ledger: Ledger) -> None:
    """A run left behind in the middle of an action: once that returns, it is undone, and the fallback has answered."""
    bank, go, undone = Bank(), threading.Event(), threading.Event()

    def undo(call: ActionCall) -> None:
        bank.undo(call)
        undone.set()

    @action(compensate=undo)
    def pay(name: str) -> str:
        go.wait(20)
        return bank.pay(name)

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    result = ask(app_of(ledger, payer, timeout=0.3))
    assert "nobody knows whether pay was done" in result["gaps"][0]
    assert [deed.state for deed in ledger.open_actions()] == ["in_doubt"]
    go.set()
    assert undone.wait(20)
    for _ in range(200):
        if not ledger.open_actions():
            break
        threading.Event().wait(0.02)
    assert bank.done == ["bob", "not bob"]
    assert states(ledger) == ["in_doubt", "done", "undoing", "undone"]


def test_an_error_that_says_nothing_happened_is_believed(ledger: Ledger) -> None:
    """`not_done_on` leaves nothing to undo, and a handler that tries again means the same call."""
    bank = Bank()
    bank.instead = [ConnectionRefusedError("closed")]

    @action(irreversible=True, not_done_on=(ConnectionRefusedError,))
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        try:
            return Report(answer=pay("bob"))
        except ConnectionRefusedError:
            return Report(answer=pay("bob"))

    assert answer_of(ask(app_of(ledger, payer))) == "bob paid"
    assert states(ledger) == ["void", "intended", "done"]
    assert ledger.open_actions() == []


@pytest.mark.parametrize("happened", [True, False])
def test_a_check_finds_out(ledger: Ledger, happened: bool) -> None:
    """After any other error the outside is asked: what happened is undone with its run, what did not is not."""
    bank = Bank()
    (bank.after if happened else bank.instead).append(TimeoutError("no answer"))

    @action(compensate=bank.undo, check=bank.look)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    result = ask(app_of(ledger, payer))
    assert "TimeoutError: no answer" in result["gaps"][0]
    assert bank.done == (["bob", "not bob"] if happened else [])
    assert states(ledger) == (["in_doubt", "done", "undoing", "undone"] if happened else ["in_doubt", "void"])


def test_in_doubt_it_is_not_done_again(ledger: Ledger) -> None:
    """Without a check, what may have happened is refused the second time, and waits for a person."""
    bank = Bank()
    bank.after = [TimeoutError("no answer")]

    @action(irreversible=True)
    def pay(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        try:
            return Report(answer=pay("bob"))
        except TimeoutError:
            return Report(answer=pay("bob"))

    result = ask(app_of(ledger, payer))
    assert bank.done == ["bob"]
    assert "nobody knows whether pay was done" in result["gaps"][0]
    (deed,) = ledger.open_actions("s-1")
    assert any(deed.key in row.what for row in ledger.incidents())
    with pytest.raises(LedgerError, match="a name and a note"):
        ledger.settle_action(deed.key, done=True, by="", note="")
    assert ledger.settle_action(deed.key, done=True, by="ann", note="the bank says so") == "done"
    with pytest.raises(LedgerError, match="is done, so it cannot be settled"):
        ledger.settle_action(deed.key, done=False, by="ann", note="again")


def test_an_idempotent_action_is_tried_again_under_its_key(ledger: Ledger) -> None:
    """The outside knows it by its key, so that a second attempt changes nothing there."""
    bank = Bank()
    bank.after = [TimeoutError("no answer")]

    @action(irreversible=True, idempotent=True)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        try:
            return Report(answer=pay("bob"))
        except TimeoutError:
            return Report(answer=pay("bob"))

    assert answer_of(ask(app_of(ledger, payer))) == "bob paid"
    assert len(bank.keys) == 2
    assert len(set(bank.keys)) == 1


@pytest.mark.parametrize("hangs", [True, False])
def test_a_compensation_that_fails_waits_for_a_person(
    ledger: Ledger, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an incident and an open action; the others are undone all the same; a person settles it by hand."""
    bank, never = Bank(), threading.Event()
    monkeypatch.setattr(undoing, "UNDO_SECONDS", 0.3)

    def broken(call: ActionCall) -> None:
        if hangs:
            never.wait(5)
        raise ConnectionError("the bank is closed")

    @action(compensate=bank.undo)
    def reserve(name: str) -> str:
        return bank.pay(name)

    @action(compensate=broken)
    def pay(name: str) -> str:
        return bank.pay(name)

    def payer(task: Task) -> Report:
        reserve("room")
        pay("bob")
        raise ValueError("no")

    result = ask(app_of(ledger, payer))
    never.set()
    assert bank.done == ["room", "bob", "not room"]
    assert "undone: reserve; not undone, a person must look: pay" in result["gaps"][0]
    (deed,) = ledger.open_actions()
    assert deed.state == "undoing"
    (row,) = ledger.incidents()
    assert ("no answer within 0.3 s" if hangs else "ConnectionError: the bank is closed") in row.what
    assert ledger.settle_action(deed.key, done=False, by="ann", note="refunded by hand") == "undone"


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
    graph.add_node("model", partial(_ask_model, model))
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
    forked = app.update_state(before.config, {"gaps": []}, as_node="guardian")
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

    assert "must be plain values" in ask(app_of(ledger, payer), "odd")["gaps"][0]
    assert "100000 is the limit" in ask(app_of(ledger, payer), "long", name="s-2")["gaps"][0]


def test_what_is_kept_can_be_erased(ledger: Ledger) -> None:
    """Arguments and results go, the log stays whole, and a replay says what is missing."""

    @action(irreversible=True, key=_by_name)
    def pay(name: str) -> str:
        return "secret"

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    app = app_of(ledger, payer)
    ask(app)
    assert ledger.erase("s-1") == 1
    assert ledger.verify(), str(ledger.verify())
    assert "its result was erased" in ask(app, "again")["gaps"][0]


def test_an_attempt_of_another_host_has_its_time(ledger: Ledger) -> None:
    """What another machine intended is waited for until its time is over; then its check says what became of it."""
    bank = Bank()

    @action(irreversible=True, check=bank.look, key=_by_name)
    def pay(name: str, idempotency_key: str = "") -> str:
        return bank.pay(name, idempotency_key)

    def payer(task: Task) -> Report:
        return Report(answer=pay("bob"))

    app = app_of(ledger, payer, timeout=0.5)
    at = ledger.clock()
    ledger.database.run(ledger.books.open_session("s-1", "acme", at=at))

    def elsewhere(until: timedelta) -> None:
        ledger.database.run(ledger.action_books.intend(_intent(ledger, until), at=at))

    elsewhere(timedelta(hours=1))
    assert "its result did not come in time" in ask(app)["gaps"][0]
    assert bank.done == []


def _intent(ledger: Ledger, until: timedelta) -> ActionIntent:
    import hashlib
    import json

    name = f"{__name__}.test_an_attempt_of_another_host_has_its_time.<locals>.pay"
    key = hashlib.sha256(json.dumps(["given", "s-1", name, "bob"]).encode()).hexdigest()
    return ActionIntent(
        key=key,
        session_id="s-1",
        request_id="r-0",
        agent="payer",
        checkpoint_ns="elsewhere",
        name=name,
        arguments=b'{"name":"bob"}',
        irreversible=True,
        attempt="another-host|1|1|x",
        until=ledger.clock() + until,
    )
