"""The tracer for LangSmith: whose place it takes, what it changes, and what it leaves alone."""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.errors import GraphInterrupt
from langsmith import Client
from pydantic import BaseModel

from bursar import USD, Budget, Ledger, Report, Specialist, Task, as_tool, build_supervisor, deterministic, meter
from bursar.nodes.observers.base import CallContext, CallEnd, RequestContext
from bursar.nodes.observers.langsmith import LangSmithObserver
from bursar.nodes.observers.langsmith_tracer import GovernedTracer, TracedRequest, dollars, hide_keys_in_logs, masked
from bursar.nodes.observers.summaries import MOST_CHARACTERS, MOST_ITEMS, entered, shortened
from bursar.state.refusals import BudgetExceeded
from bursar.testing import ScriptedModel

pytestmark = pytest.mark.slow  # the SDK starts `uname` once
KEY = "lsv2_pt_Kx3v-abcdefghijkl-Zq7wYp"


def tracer_of(client: Any = None) -> LangChainTracer:
    return LangChainTracer(
        client=client or MagicMock(spec=Client), project_name="mine", tags=["t"], metadata={"m": "1"}
    )


def replaced(given: Any) -> Any:
    request = RequestContext(graph="bursar", session_id="s-1", tenant="acme", callbacks=given)
    observer = LangSmithObserver().for_request(request)
    assert observer is not None
    return observer.callbacks(given)


def test_it_takes_the_place_of_langchains_in_a_list() -> None:
    """With its client, project, tags, metadata and open runs. The caller's list stays as it is."""
    other, plain = BaseCallbackHandler(), tracer_of()
    given = [other, plain]
    first, ours = replaced(given)
    assert given == [other, plain]
    assert first is other
    assert isinstance(ours, GovernedTracer)
    assert (ours.client, ours.project_name, ours.tags) == (plain.client, "mine", ["t"])
    assert ours.tracing_metadata == {"m": "1"}
    assert ours.run_map is plain.run_map
    assert ours.order_map is plain.order_map


def test_it_takes_the_place_of_langchains_in_a_manager() -> None:
    """In both lists; LangChain has copied its tracer for each of them. The caller's manager stays as it is."""
    plain = tracer_of()
    given = CallbackManager([plain], inheritable_handlers=[plain.copy_with_metadata_defaults()])
    made = replaced(given)
    [handler], [inherited] = made.handlers, made.inheritable_handlers
    assert isinstance(handler, GovernedTracer)
    assert inherited is handler
    assert given.handlers == [plain]
    assert type(given.inheritable_handlers[0]) is LangChainTracer


def test_a_copy_tells_of_the_same_request() -> None:
    """LangChain copies a tracer when a graph has metadata."""
    ours = GovernedTracer(TracedRequest(), client=MagicMock(spec=Client))
    copy = ours.copy_with_metadata_defaults(metadata={"a": "b"})
    assert isinstance(copy, GovernedTracer)
    assert copy.traced is ours.traced
    assert copy.run_map is ours.run_map


def test_nobody_is_told_where_nothing_traces() -> None:
    """Then a request costs nothing more."""
    assert LangSmithObserver().for_request(RequestContext(graph="", session_id="s", tenant="t", callbacks=[])) is None


def food(task: Task) -> Report:
    """A handler that pays."""
    return Report(answer=meter(ScriptedModel(replies=["plenty"]), max_output_tokens=50).invoke(task.text).text)


@deterministic
def rules(task: Task) -> Report:
    return Report(answer="by rules")


@pytest.mark.parametrize("where", ["config", "graph", "both"])
def test_each_run_is_posted_once_wherever_the_tracer_was_given(where: str, tmp_path: Any) -> None:
    """LangGraph adds a graph's own callbacks to those of a call. Costs are on the runs, and in no message."""
    client = MagicMock(spec=Client)
    specialist = Specialist(
        name="food", description="food", handler=food, fallbacks=[rules], examples=["what do I eat"]
    )
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    app: Any = build_supervisor([specialist], budget=Budget("0.03"), ledger=ledger)
    tracer = tracer_of(client)
    if where != "config":
        app = app.with_config({"callbacks": [tracer]})
    config = {"configurable": {"thread_id": "s-1"}, **({} if where == "graph" else {"callbacks": [tracer]})}
    result = app.invoke({"messages": [("user", "food")]}, config)
    posted = [call.kwargs["id"] for call in client.create_run.call_args_list]
    assert len(posted) == len(set(posted)) == 7
    costs = [call.kwargs["extra"]["metadata"].get("usage_metadata") for call in client.update_run.call_args_list]
    told = [Decimal(str(usage["total_cost"])) for usage in costs if usage]
    assert told == [result["spend"].spent.dollars]
    assert "total_cost" not in str(result["messages"])
    ledger.close()


def test_an_interrupt_is_no_error_and_a_refusal_is_one() -> None:
    """A refusal passes through graphs as an interrupt does. An error is one line, without what looks like a secret."""
    ours = GovernedTracer(client=MagicMock(spec=Client))
    refusal = BudgetExceeded("too dear", scope="request:1")
    assert ours._get_stacktrace(refusal) == "BudgetExceeded: too dear"  # pyright: ignore[reportPrivateUsage]
    run: Any = ours.on_chain_start({}, {}, run_id=UUID(int=1), name="node")
    ours.on_chain_error(GraphInterrupt(()), run_id=run.id)
    assert run.error is None
    assert run.extra["metadata"]["ls_is_error_interrupt"] is True
    text = ours._get_stacktrace(ValueError("password=hunter2\nat home"))  # pyright: ignore[reportPrivateUsage]
    assert text == "ValueError: password=*** at home"


def test_a_mask_covers_keys_models_and_messages_and_no_numbers() -> None:
    """Of everything that the client would write as JSON."""

    class Card(BaseModel):
        number: str
        limit: int

    given = {"4111": [Card(number="4111", limit=4111), HumanMessage("4111")], "n": (4111, 4.5, None, True)}
    made = masked(given, lambda text: text.replace("4111", "#"))
    assert made["#"][0] == {"number": "#", "limit": 4111}
    assert made["#"][1]["content"] == "#"
    assert made["n"] == [4111, 4.5, None, True]


def test_amounts_have_all_their_digits() -> None:
    """To the nano-dollar, as JSON writes them."""
    for nanos in (0, 1, 9900, 2_482_350, 123_456_789_123_456_789 // 10**6):
        assert Decimal(str(dollars(USD.from_nanos(nanos)))) == USD.from_nanos(nanos).dollars


def test_several_calls_of_one_run_are_added_up() -> None:
    """A call that was sent again: the ledger's calls of one run of a model."""
    ours, run_id = GovernedTracer(client=MagicMock(spec=Client)), UUID(int=7)
    ours.on_chain_start({}, {}, run_id=UUID(int=6), name="root")
    ours.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=run_id, parent_run_id=UUID(int=6), name="model")
    for number, cost in enumerate((5, 7)):
        call = CallContext(call_id=f"c-{number}", kind="chat", agent="a", model="m", began=datetime.now(UTC))
        end = CallEnd(state="settled", cost=USD.from_nanos(cost), of_input=USD.from_nanos(1))
        ours.traced.calls.setdefault(run_id, {})[call.call_id] = call, end
    run: Any = ours.run_map[str(run_id)]
    ours.close(run, "nobody saw it")
    usage = run.extra["metadata"]["usage_metadata"]
    assert (usage["total_cost"], usage["input_cost"], usage["output_cost"]) == (1.2e-08, 2e-09, 1e-08)
    assert run.extra["metadata"]["bursar.attempts"] == 2


def test_no_key_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK logs the ends of its key when its server cannot be reached, in messages and in errors."""
    logger = logging.getLogger("langsmith.client")
    hide_keys_in_logs()
    shown = f"API Key: {KEY[:5]}{'*' * 20}{KEY[-2:]}"
    logger.warning("failed\n%s", shown)
    error = ValueError(shown)
    logger.warning("again", exc_info=(ValueError, error, None))
    text = caplog.text + "".join(str(record.exc_text) for record in caplog.records)
    assert "API Key: ***" in text
    assert KEY[:5] not in text


def test_summaries_are_short() -> None:
    """Whatever the state holds."""
    made: Any = shortened({"facts": list(range(200)), "text": "x" * 100_000, "deep": [[[[[[[["down"]]]]]]]]})
    assert len(made["facts"]) == MOST_ITEMS + 1
    assert made["facts"][-1] == "… 180 more"
    assert len(made["text"]) < MOST_CHARACTERS + 10
    assert "down" not in str(made["deep"])
    assert shortened(object()) == "<object>"
    history = [HumanMessage("old"), AIMessage("older"), *[HumanMessage(f"{number}") for number in range(5)]]
    seen: Any = entered({"messages": history})
    assert [one["content"] for one in seen["messages"]] == ["0", "1", "2", "3", "4"]


def test_a_supervisor_inside_another_has_its_mask_too(tmp_path: Any) -> None:
    """Nobody gave the inner one an observer; an agent that is asked as a tool is such a one."""
    client, ledger = MagicMock(spec=Client), Ledger(f"sqlite:///{tmp_path}/books.db")
    tool = as_tool(Specialist(name="inner", description="inner", handler=food, fallbacks=[rules]))

    def outer(task: Task) -> Report:
        return Report(answer=tool.invoke({"request": "of the account 4111"}))

    specialist = Specialist(name="outer", description="outer", handler=outer, fallbacks=[rules])
    mask = LangSmithObserver(mask=lambda text: text.replace("4111", "#"))
    app: Any = build_supervisor([specialist], budget=Budget("0.03"), ledger=ledger, observers=[mask])
    config = {"configurable": {"thread_id": "s-1"}, "callbacks": [tracer_of(client)]}
    app.invoke({"messages": [("user", "outer 4111")]}, config)
    texts = [
        str([call.kwargs.get(name) for name in ("inputs", "outputs", "error", "events")])
        for call in client.create_run.call_args_list + client.update_run.call_args_list
    ]
    assert any("of the account #" in text for text in texts)
    assert not any("4111" in text for text in texts)
    ledger.close()
