"""Every way in gives the same answer for the same money: scripts, servers, threads, notebooks, streams."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command, interrupt

from bursar import Budget, Ledger, Report, Task
from bursar.state.errors import BursarError
from bursar.state.events import RequestOpened
from bursar.state.money import USD
from bursar.testing import ScriptedModel
from tests.support.graphs import (
    NANOS_PER_WORD,
    answer_of,
    ask,
    billed,
    build,
    free,
    priced,
    scripted,
    session,
    specialist,
)

QUESTION: Any = {"messages": [("user", "how much for food?")]}


async def _ainvoke(app: Any) -> Any:
    return await app.ainvoke(QUESTION, session())


async def _astream(app: Any) -> Any:
    return [part async for part in app.astream(QUESTION, session(), stream_mode="values")][-1]


async def _sync_in_a_running_loop(app: Any) -> Any:
    return app.invoke(QUESTION, session())


async def _sync_stream_in_a_running_loop(app: Any) -> Any:
    return [*app.stream(QUESTION, session(), stream_mode="values")][-1]


WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda app: app.invoke(QUESTION, session()),
    "ainvoke": lambda app: asyncio.run(_ainvoke(app)),
    "stream": lambda app: [*app.stream(QUESTION, session(), stream_mode="values")][-1],
    "astream": lambda app: asyncio.run(_astream(app)),
    "invoke in a running loop": lambda app: asyncio.run(_sync_in_a_running_loop(app)),
    "stream in a running loop": lambda app: asyncio.run(_sync_stream_in_a_running_loop(app)),
}


def _sync(model: Any) -> Callable[[Task], Report]:
    return lambda task: Report(answer=model.invoke(task.text).text)


def _async(model: Any) -> Any:
    async def handler(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    return handler


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_in_gives_the_same(way: str, ledger: Ledger) -> None:
    """The answer, the decisions, the spend and the log are those of any other way."""
    models = [scripted("one two"), scripted("three")]
    app = build(ledger, [specialist("a", _sync(priced(models[0]))), specialist("b", _async(priced(models[1])))])
    result = WAYS[way](app)
    assert answer_of(result) == "A\none two\n\nB\nthree"
    assert result["spend"].spent == USD("0.003")
    assert billed(*models) == 3 * NANOS_PER_WORD == ledger.spend("s-1").spent.nanos
    assert [decision.kind for decision in result["decisions"]] == ["route", "admit"]
    kinds = sorted(row.kind for row in ledger.audit("s-1"))
    run = ["run_started", "call_held", "call_settled", "run_ended"]
    planned = ["request_opened", "decided", "decided", "planned"]
    assert kinds == sorted(["lease", *planned, *run * 2, "request_closed", "lease"])


def test_the_happy_path_has_three_supersteps(ledger: Ledger) -> None:
    """Supervisor, specialists, report: each superstep is a checkpoint, and so a commit."""
    app = build(ledger, [free("a", lambda task: "x"), free("b", lambda task: "y")])
    app.invoke(QUESTION, session())
    history = reversed(list(app.get_state_history(session())))
    assert [sorted(found.next) for found in history] == [["__start__"], ["supervisor"], ["a", "b"], ["report"], []]


def test_updates_name_every_node_once(ledger: Ledger) -> None:
    """`updates` shows the way through the graph."""
    app = build(ledger, [free("a", lambda task: "x"), free("b", lambda task: "y")])
    nodes = [name for part in app.stream(QUESTION, session(), stream_mode="updates") for name in part]
    assert (nodes[0], sorted(nodes[1:-1]), nodes[-1]) == ("supervisor", ["a", "b"], "report")


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_messages_are_streamed_word_by_word_and_paid_once(way: str, ledger: Ledger) -> None:
    """`messages` streams a handler's model as it speaks, and the books hold one settled call."""
    with scripted("one two three") as model:
        app = build(ledger, [specialist("a", _async(priced(model)))])

        async def collect() -> list[Any]:
            return [part async for part in app.astream(QUESTION, session(), stream_mode="messages")]

        parts: list[Any] = (
            list(app.stream(QUESTION, session(), stream_mode="messages")) if way == "stream" else asyncio.run(collect())
        )
    spoken = [chunk.text for chunk, metadata in parts if metadata["langgraph_node"] == "a" and chunk.text]
    assert "".join(spoken) == "one two three"
    assert len(spoken) >= 3
    assert ledger.spend("s-1").spent == USD("0.003")


def test_a_handler_may_stream_what_it_likes(ledger: Ledger) -> None:
    """`custom` carries what a handler writes to LangGraph's own writer, from sync and async handlers."""
    from langgraph.config import get_stream_writer

    def sync(task: Task) -> str:
        get_stream_writer()({"from": task.specialist})
        return "x"

    async def asynchronous(task: Task) -> str:
        return sync(task)

    app = build(ledger, [free("a", sync), free("b", asynchronous)])
    parts = list(app.stream(QUESTION, session(), stream_mode="custom"))
    assert sorted(part["from"] for part in parts if "from" in part) == ["a", "b"]


@pytest.mark.slow
def test_a_server_serves_many_sessions_on_one_loop(ledger: Ledger) -> None:
    """Forty sessions at once on one event loop: each has its own answer and its own books."""
    model = ScriptedModel([f"word{n}" for n in range(40)])
    app = build(ledger, [specialist("a", _async(priced(model)))])

    async def serve() -> list[Any]:
        return await asyncio.gather(*(app.ainvoke(QUESTION, session(f"s-{n}")) for n in range(40)))

    results = asyncio.run(serve())
    assert sorted(answer_of(result) for result in results) == sorted(f"word{n}" for n in range(40))
    assert {ledger.spend(f"s-{n}").spent for n in range(40)} == {USD("0.001")}
    model.check()


@pytest.mark.slow
def test_a_server_serves_many_sessions_on_threads(ledger: Ledger) -> None:
    """Forty sessions on eight threads, sync and async callers mixed: each has its own answer and its own books."""
    model = ScriptedModel([f"word{n}" for n in range(40)])
    app = build(ledger, [specialist("a", _sync(priced(model)))])

    def serve(number: int) -> str:
        config = session(f"s-{number}")
        result = app.invoke(QUESTION, config) if number % 2 else asyncio.run(app.ainvoke(QUESTION, config))
        return answer_of(result)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(serve, range(40)))
    assert sorted(answers) == sorted(f"word{n}" for n in range(40))
    assert {ledger.spend(f"s-{n}").spent for n in range(40)} == {USD("0.001")}
    model.check()


def test_a_handler_may_run_a_graph_of_bursar_itself(ledger: Ledger) -> None:
    """A sync handler may invoke another supervisor; an async one is told to await it instead of hanging."""
    inner = build(ledger, [free("inner", lambda task: "from inside")])

    def sync(task: Task) -> str:
        return answer_of(inner.invoke(QUESTION, session("s-inner")))

    async def asynchronous(task: Task) -> str:
        return answer_of(inner.invoke(QUESTION, session("s-other")))

    result = ask(build(ledger, [free("a", sync), free("b", asynchronous)], show_errors=True))
    assert "A\nfrom inside" in answer_of(result)
    assert f"b: {BursarError.__name__}: a sync call inside an async handler would wait for itself" in answer_of(result)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_handler_may_ask_the_user(kind: str, way: str, ledger: Ledger) -> None:
    """`interrupt()` in a handler stops the request there; resumed, what it had paid for is not paid again."""
    with scripted("three words long") as model:
        paid = priced(model)

        def sync(task: Task) -> str:
            said = paid.invoke(task.text).text
            return f"{said}, {interrupt('sure?')}"

        async def asynchronous(task: Task) -> str:
            said = (await paid.ainvoke(task.text)).text
            return f"{said}, {interrupt('sure?')}"

        app = build(ledger, [specialist("a", sync if kind == "sync" else asynchronous), free("b", lambda t: "beside")])

        def put(entered: Any) -> Any:
            return app.invoke(entered, session()) if way == "invoke" else asyncio.run(app.ainvoke(entered, session()))

        stopped = put(QUESTION)
        assert [pending.value for pending in stopped["__interrupt__"]] == ["sure?"]
        assert app.get_state(session()).next == ("a",)
        result = put(Command(resume="quite sure"))
    assert "A\nthree words long, quite sure" in answer_of(result)
    assert "B\nbeside" in answer_of(result)
    assert result["spend"].spent == USD("0.003")
    assert result["ending"] == "answered"
    assert [row.kind for row in ledger.audit("s-1")].count("run_ended") == 2


def test_history_can_be_read_and_forked_within_the_same_budget(ledger: Ledger) -> None:
    """A fork pays again, in the books of the same request: its budget is not granted anew."""
    model = scripted(*["one two three"] * 3)
    app = build(ledger, [specialist("a", _sync(priced(model, words=3)), ceiling="0.007")])
    ask(app)
    before = next(found for found in app.get_state_history(session()) if found.next == ("a",))
    forked = app.invoke(None, before.config)
    assert answer_of(forked) == "one two three"
    assert forked["spend"].spent == USD("0.006")
    third = app.invoke(None, before.config)
    assert third["runs"][0].outcome == "exhausted"
    assert "needs $0.003 and $0.001 is left" in answer_of(third)
    assert billed(model) == 6 * NANOS_PER_WORD == ledger.spend("s-1").spent.nanos


def test_an_answer_can_be_made_anew_with_a_budget_of_its_own(any_ledger: Ledger) -> None:
    """By a fork at the user's message, or by the same message once more; the session's cap counts all of it."""
    model = scripted(*["one two three"] * 9)
    agent = specialist("a", _sync(priced(model, words=3)), ceiling="0.005", expected_cost="0.005")
    app = build(any_ledger, [agent], budget=Budget("0.005", per_session="0.013"))
    message = HumanMessage("how much?", id="m-1")
    first = app.invoke({"messages": [message]}, session())
    asked = next(found for found in app.get_state_history(session()) if found.next == ("supervisor",))
    again = app.invoke(None, asked.config)
    resent = app.invoke({"messages": [message]}, asked.config)
    opened = [row.event.request_id for row in any_ledger.audit("s-1") if isinstance(row.event, RequestOpened)]
    assert opened == [opened[0], f"{opened[0]}-1", f"{opened[0]}-2"]
    assert [answer_of(result) for result in (first, again, resent)] == ["one two three"] * 3
    assert [result["spend"].spent for result in (first, again, resent)] == [USD("0.003")] * 3
    assert "$0.004 left" in answer_of(app.invoke(None, asked.config))  # of the session's
    assert any_ledger.verify()


@pytest.mark.parametrize("form", ["message", "dict"])
def test_a_message_that_is_sent_again_is_answered_again(any_ledger: Ledger, form: str) -> None:
    """To the session itself, by its id; an edited text is what is asked. What came after it leaves the conversation."""
    model = scripted(*["one two three"] * 9)
    agent = specialist("a", _sync(priced(model, words=3)), ceiling="0.005", expected_cost="0.003")
    app = build(any_ledger, [agent], budget=Budget("0.005", per_session="0.014"))

    def send(text: str, name: str) -> Any:
        message = {"role": "user", "content": text, "id": name}
        return app.invoke({"messages": [HumanMessage(text, id=name) if form == "message" else message]}, session())

    def texts(result: Any) -> list[str]:
        return [message.text for message in result["messages"]]

    send("how much?", "m-1")
    send("and then?", "m-2")
    assert texts(send("and then?", "m-2")) == ["how much?", "one two three", "and then?", "one two three"]
    assert texts(send("how many?", "m-1")) == ["how many?", "one two three"]
    assert [call.messages[-1].text for call in model.calls] == ["how much?", "and then?", "and then?", "how many?"]
    assert any_ledger.spend("s-1").spent == USD("0.012")
    assert "$0.002 left" in answer_of(send("how many?", "m-1"))  # of the session's
    opened = [row.event.request_id for row in any_ledger.audit("s-1") if isinstance(row.event, RequestOpened)]
    assert len(set(opened)) == 5
    assert any_ledger.verify()


def test_a_new_message_is_never_taken_for_one_that_is_sent_again(ledger: Ledger) -> None:
    """Beside an old one in one input, under the answer's id, or with a forged `asked`: it stays, and is answered."""
    app = build(ledger, [free("a", lambda task: f"<{task.text}>")])

    def send(*messages: HumanMessage, **more: Any) -> list[str]:
        entered: Any = {"messages": list(messages), **more}
        return [message.text for message in app.invoke(entered, session())["messages"]]

    assert send(HumanMessage("one", id="m-1")) == ["one", "<one>"]
    assert send(HumanMessage("two", id="m-2"), HumanMessage("one", id="m-1"))[-2:] == ["two", "<two>"]
    assert send(HumanMessage("three"), asked=["m-1"])[-2:] == ["three", "<three>"]
    answer = app.get_state(session()).values["messages"][-1].id
    assert send(HumanMessage("four", id=answer))[-2:] == ["four", "<four>"]
    # A client that sends the whole conversation each time loses nothing of it.
    whole = app.get_state(session()).values["messages"]
    before = [message.text for message in whole]
    assert send(*whole, HumanMessage("five", id="m-5")) == [*before, "five", "<five>"]


def test_a_graph_says_what_it_takes_and_gives(ledger: Ledger) -> None:
    """Studio and servers ask for the JSON schemas of input and output."""
    app = build(ledger, [free("a", lambda task: task.text)])
    assert "messages" in app.get_input_jsonschema()["properties"]
    assert {"messages", "spend", "ending", "gaps"} <= app.get_output_jsonschema()["properties"].keys()


def test_a_user_may_correct_the_state(ledger: Ledger) -> None:
    """`update_state` before a specialist runs changes what it is asked, through LangGraph's own door."""
    app = build(ledger, [free("a", lambda task: f"<{task.text}>")])
    config = session()
    app.invoke(QUESTION, config, interrupt_before=["a"])
    request = app.get_state(config).values["request"]
    app.update_state(config, {"request": request.model_copy(update={"text": "corrected"})}, as_node="supervisor")
    assert answer_of(app.invoke(None, config)) == "<corrected>"


def test_a_server_that_forbids_blocking_is_obeyed(ledger: Ledger) -> None:
    """`langgraph dev` lets no event loop touch a file; a paid call on the handlers' loop is committed elsewhere."""
    known = "blockbuster" in sys.modules
    watcher = pytest.importorskip("blockbuster").BlockBuster()
    model = priced(scripted("two words"))

    async def handler(task: Task) -> str:
        return str((await model.ainvoke(task.text)).text)

    app = build(ledger, [free("a", handler)])
    watcher.activate()
    try:
        result = asyncio.run(_ainvoke(app))
    finally:
        watcher.deactivate()
        if not known:
            del sys.modules["blockbuster"]
    assert (result["gaps"], answer_of(result)) == ([], "two words")
