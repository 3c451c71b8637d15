"""A specialist that spends where no ledger sees it has a price: held in full before each run, charged in full after."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.budget import Budget
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD, ZERO
from bursar.state.run import Report, Task
from tests.crash.programs.langgraph_server import LangGraphServer, RemoteRun, langgraph_server
from tests.support.graphs import (
    RouteTo,
    answer_of,
    ask,
    billed,
    build,
    first_run,
    free,
    priced,
    rules,
    scripted,
    session,
    specialist,
    words,
)

PRICE = USD("0.01")

# The client of LangGraph's SDK is the user's, and an event loop that ends does not close its connections.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a test left of that client is gone with the test, and warns in no other one."""
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[LangGraphServer]:
    """A LangGraph server on loopback."""
    with langgraph_server() as made:
        yield made


def remote(name: str, server: LangGraphServer, price: str = "0.01", **settings: Any) -> Any:
    """A specialist whose handler is the server's graph."""
    return specialist(name, server.graph, price=price, **settings)


def in_graph(graph: Any, **settings: Any) -> Any:
    """A compiled graph with the graph as its only node."""
    builder: Any = StateGraph(MessagesState)
    builder.add_node("remote", graph, **settings)
    builder.add_edge(START, "remote")
    return builder.compile()


def identity(given: Any) -> Any:
    """The first and the last step of a sequence."""
    return given


WAYS = ("itself", "with_config", "bind", "first of a sequence", "last of a sequence", "in a graph")


def wrapped(way: str, graph: Any) -> Any:
    """The graph as a handler, in one of `WAYS`."""
    match way:
        case "itself":
            return graph
        case "with_config":
            return graph.with_config(tags=["mine"])
        case "bind":
            return graph.bind()
        case "first of a sequence":
            return graph | RunnableLambda(identity)
        case "last of a sequence":
            return RunnableLambda(_messages_of) | graph
        case _:
            return in_graph(graph)


def _messages_of(task: Task) -> Any:
    return {"messages": [{"role": "user", "content": task.text}]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_is_given_the_conversation_and_charged_its_price(
    any_ledger: Ledger, server: LangGraphServer, way: str, asynchronous: bool
) -> None:
    """However it is wrapped, the server gets the messages, its answer is read, and its price is in every account."""
    app = build(
        any_ledger, [specialist("a", wrapped(way, server.graph), price="0.01")], budget=Budget("0.02", total="1")
    )
    question: Any = {"messages": [("user", "hello")]}
    result = asyncio.run(app.ainvoke(question, session())) if asynchronous else ask(app, "hello")
    assert answer_of(result) == "remote answer"
    assert [message["content"] for message in server.inputs[0]["messages"]] == ["hello"]
    assert first_run(result).cost == result["spend"].spent == any_ledger.spend("s-1").spent == PRICE
    assert any_ledger.costs("agent")[0].spent == PRICE
    assert any_ledger.verify()


def test_it_knows_the_turns_before(ledger: Ledger, server: LangGraphServer) -> None:
    """The server gets earlier questions and answers too."""
    app = build(ledger, [remote("a", server)])
    for text in ("first", "second"):
        assert answer_of(ask(app, text)) == "remote answer"
    assert server.inputs[1]["messages"] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "remote answer"},
        {"role": "user", "content": "second"},
    ]


def test_it_is_given_what_was_sent(ledger: Ledger, server: LangGraphServer) -> None:
    """Rules, an image and a name reach the server as they were sent."""
    image: Any = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    app = build(ledger, [remote("a", server)])
    app.invoke({"messages": [("system", "be brief"), HumanMessage(image, name="ann")]}, session())
    assert server.inputs[0]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": image, "name": "ann"},
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_remote_graph_without_a_price_is_refused(server: LangGraphServer, way: str) -> None:
    """When the specialist is made, wherever the RemoteGraph stands in the handler, deterministic or not."""
    handler = wrapped(way, server.graph)
    with pytest.raises(ConfigurationError, match="'a': a RemoteGraph spends where no ledger sees it; declare"):
        specialist("a", handler)
    with pytest.raises(ConfigurationError, match="a RemoteGraph is no fallback by itself"):
        specialist("a", identity, fallbacks=[handler])
    assert specialist("a", handler, price="0.01").run_price == PRICE


@pytest.mark.parametrize("way", ["with_retry", "a sequence", "a node's policy"])
def test_retries_of_a_remote_graph_are_refused(server: LangGraphServer, way: str) -> None:
    """Each would be another bill; a local step may retry."""
    graph: Any = server.graph
    match way:
        case "with_retry":
            retried = graph.with_retry()
        case "a sequence":
            retried = (RunnableLambda(_messages_of) | graph).with_retry()
        case _:
            retried = in_graph(graph, retry_policy=RetryPolicy())
    with pytest.raises(ConfigurationError, match="each retry of a RemoteGraph is another bill"):
        specialist("a", retried, price="0.01")
    assert specialist("a", RunnableLambda(_messages_of).with_retry() | graph, price="0.01").run_price == PRICE


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"price": "0.02", "ceiling": "0.01"}, r"its price \$0.02 is above its ceiling \$0.01"),
        ({"price": "-1"}, "price is negative"),
        ({"price": "0.01", "expected_cost": "0.001"}, "costs its price, so it takes no expected_cost"),
        ({"price": "0.01", "handler": rules}, "it takes no price"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(settings: dict[str, Any], why: str) -> None:
    """In one sentence, when the specialist is made."""
    with pytest.raises(ConfigurationError, match=f"'a': .*{why}"):
        specialist("a", settings.pop("handler", identity), **settings)


def test_the_price_is_the_ceiling_unless_a_ceiling_is_given(ledger: Ledger, server: LangGraphServer) -> None:
    """The default ceiling does not stand in the way of a dearer run; the request's budget does."""
    dear = remote("a", server, "0.02")
    assert (dear.cap, dear.expects) == (USD("0.02"), USD("0.02"))
    assert remote("a", server, "0.02", ceiling="0.03").cap == USD("0.03")
    with pytest.raises(ConfigurationError, match=r"its ceiling \$0.02 exceeds the request budget \$0.01"):
        build(ledger, [dear], budget=Budget("0.01"))


@pytest.mark.parametrize(
    ("planned", "outcome"),
    [
        (RemoteRun(status=500), "failed"),
        (RemoteRun(error="out of memory"), "failed"),
        (RemoteRun(more={"__interrupt__": [{"value": "really?"}]}), "failed"),
        (None, "exhausted"),
    ],
    ids=["status", "error", "interrupt", "late"],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_without_an_answer_stays_charged(
    any_ledger: Ledger, server: LangGraphServer, planned: RemoteRun | None, outcome: str, asynchronous: bool
) -> None:
    """Nobody saw what it spent: its price is unknown until a person reconciles it, and the fallback answers."""
    over = threading.Event()
    server.coming.append(planned or RemoteRun(waits_for=over))
    app = build(any_ledger, [remote("a", server, timeout=60 if planned else 4)])
    question: Any = {"messages": [("user", "hello")]}
    result = asyncio.run(app.ainvoke(question, session())) if asynchronous else ask(app)
    over.set()
    assert str(first_run(result).outcome) == outcome
    assert answer_of(result).startswith("a by rule")
    assert len(server.inputs) == 1
    [hold] = any_ledger.open_holds()
    assert (hold.state, hold.amount, result["spend"].spent) == ("unknown", PRICE, PRICE)
    any_ledger.reconcile(hold.call_id, "0.004")
    assert any_ledger.spend("s-1").spent == USD("0.004")
    assert any_ledger.verify()


@pytest.mark.parametrize("caps", [{"per_session": "0.02"}, {"per_tenant_day": "0.02"}, {"total": "0.02"}], ids=str)
def test_it_is_not_called_if_its_price_does_not_fit(
    any_ledger: Ledger, server: LangGraphServer, caps: dict[str, str]
) -> None:
    """Two runs fit the cap; the third is answered by the fallback, and the server hears nothing of it."""
    app = build(any_ledger, [remote("a", server)], budget=Budget("0.01", **caps))
    answers = [answer_of(ask(app, str(number))) for number in range(3)]
    assert answers[:2] == ["remote answer"] * 2
    assert "a by rule" in answers[2]
    assert len(server.inputs) == 2
    assert any_ledger.verify()


def test_of_three_at_once_those_run_that_fit(any_ledger: Ledger, server: LangGraphServer) -> None:
    """With room for two prices, the third is named with what it would have cost."""
    app = build(any_ledger, [remote(name, server) for name in "abc"], budget=Budget("0.025"))
    result = ask(app)
    assert answer_of(result).count("remote answer") == 2
    assert any("expects $0.01, $0.005 left" in gap for gap in result["gaps"])
    assert (len(server.inputs), result["spend"].spent) == (2, USD("0.02"))
    assert any_ledger.verify()


@pytest.mark.parametrize(("budget", "runs"), [("0.03", 1), ("0.012", 0)])
def test_a_fallback_has_its_price_too(any_ledger: Ledger, server: LangGraphServer, budget: str, runs: int) -> None:
    """It runs if its price fits what the first handler left."""
    model = priced(scripted(words(5)))

    def fails(task: Task) -> Report:
        model.invoke("what?")
        raise ValueError("no idea")

    app = build(
        any_ledger,
        [free("a", fails, fallbacks=["b"]), remote("b", server)],
        budget=Budget(budget),
        router=RouteTo(("a",)),
    )
    result = ask(app)
    assert len(server.inputs) == runs
    assert ("remote answer" if runs else "b by rule") in answer_of(result).replace("a by rule", "b by rule")
    assert result["spend"].spent == USD("0.005") + (PRICE if runs else ZERO)
    assert any_ledger.verify()


def test_a_price_of_zero_is_a_price(any_ledger: Ledger, server: LangGraphServer) -> None:
    """Its run is in the books, at nothing."""
    result = ask(build(any_ledger, [remote("a", server, "0")]))
    assert answer_of(result) == "remote answer"
    assert (result["spend"].spent, any_ledger.spend("s-1").calls) == (ZERO, 1)
    assert any_ledger.verify()


def test_a_function_may_have_a_price_and_pay_for_more_within_its_ceiling(any_ledger: Ledger) -> None:
    """Its metered calls are charged beside the price."""
    double = scripted(*[words(5)] * 9)
    model = priced(double)

    def service(task: Task) -> Report:
        for number in range(9):
            model.invoke(f"one {number}")
        return Report(answer="done")

    result = ask(build(any_ledger, [specialist("a", service, price="0.01", ceiling="0.02")]))
    assert (billed(double), result["spend"].spent) == (USD("0.01").nanos, USD("0.02"))
    assert any_ledger.verify()
