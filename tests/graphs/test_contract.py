"""The public contract, as users write it."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter
from bursar.state.money import ZERO
from bursar.testing import ScriptedModel
from tests.support.graphs import answer_of, ask, build, session, specialist
from tests.support.provider import Provider, Reply

LOG = [
    "lease",
    "request_opened",
    "decided",
    "decided",
    "planned",
    "run_started",
    "call_held",
    "call_settled",
    "run_ended",
    "request_closed",
    "lease",
    *["lease"] * 2,  # the session was resumed, and gave its answer again
]


def test_the_contract_as_it_is_written(tmp_path: Path, provider: Provider) -> None:
    """The documented program answers with a real client, and its result, books and log agree with the provider's."""
    url = f"sqlite:///{tmp_path}/genie.db"
    provider.default = Reply(text="212.40 of it for food")
    ledger = Ledger(url)
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key=lambda: "none", base_url=provider.url))

    async def spending(task: Task) -> Report:
        reply = await model.ainvoke([("user", task.text)])
        return Report(answer=reply.text, confidence=0.9)

    @deterministic
    def spending_rules(task: Task) -> Report:
        return Report(answer="by rule")

    app: Any = build_supervisor(
        [
            Specialist(
                name="spending",
                description="Where the money goes",
                handler=spending,
                ceiling="0.01",
                timeout=20,
                max_turns=8,
                fallbacks=[spending_rules],
                examples=["how much did I spend on food", "where did my money go"],
            )
        ],
        budget=Budget(per_request="0.03", per_session="1.00", per_tenant_day="50"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(url, lease_seconds=30),
    )

    result = app.invoke(
        {"messages": [("user", "Where did my money go in March?")]},
        {"configurable": {"thread_id": "s-1", "tenant": "acme"}},
    )

    assert result["messages"][-1].text == "212.40 of it for food"
    assert [(decision.kind, decision.chosen) for decision in result["decisions"]] == [
        ("route", ("spending",)),
        ("admit", ("spending",)),
    ]
    assert result["spend"].spent.nanos == provider.billed > 0
    assert result["spend"].budget is not None
    assert result["spend"].budget.dollars == Decimal("0.03")
    assert result["ending"] == "answered"
    assert app.invoke(None, {"configurable": {"thread_id": "s-1"}})["messages"][-1].text == "212.40 of it for food"
    assert ledger.spend("s-1").spent == result["spend"].spent
    assert [row.kind for row in ledger.audit("s-1")] == LOG
    assert ledger.verify("s-1")
    assert ledger.open_holds() == []
    assert len(provider.requests) == 1
    ledger.database.close()


def test_the_contract_reconciles_a_call_whose_end_nobody_saw(ledger: Ledger, provider: Provider) -> None:
    """A cut answer stays charged at its hold under its name, until somebody books what it cost."""
    provider.will(Reply(cut_after=0))
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key=lambda: "none", base_url=provider.url))
    result = ask(build(ledger, [specialist("spending", model)]))
    [hold] = ledger.open_holds()
    assert (hold.state, hold.amount) == ("unknown", result["spend"].spent)
    ledger.reconcile(hold.call_id, "0.000002")
    assert ledger.open_holds() == []
    assert ledger.spend("s-1").spent.nanos == 2_000


def _sync_function(model: Any) -> Any:
    def handler(task: Task) -> Report:
        return Report(answer=model.invoke([("user", task.text)]).text)

    return handler


def _async_function(model: Any) -> Any:
    async def handler(task: Task) -> str:
        return (await model.ainvoke([("user", task.text)])).text

    return handler


def _lambda_that_returns_a_coroutine(model: Any) -> Callable[[Task], Any]:
    return lambda task: model.ainvoke([("user", task.text)])


def _runnable(model: Any) -> Any:
    def messages(task: Task) -> list[tuple[str, str]]:
        return [("user", task.text)]

    return RunnableLambda(messages) | model


def _chat_model(model: Any) -> Any:
    return model


def _state_graph(model: Any) -> Any:
    def reply(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("reply", reply)
    builder.add_edge(START, "reply")
    builder.add_edge("reply", END)
    return builder.compile()


HANDLERS = [_sync_function, _async_function, _lambda_that_returns_a_coroutine, _runnable, _chat_model, _state_graph]


@pytest.mark.parametrize("make", HANDLERS, ids=lambda make: make.__name__.strip("_"))
def test_a_handler_may_be(make: Any, ledger: Ledger) -> None:
    """Functions, Runnables, chat models and compiled graphs are handlers, and each one's call is in the books."""
    with ScriptedModel(replies=["12.50 for food"]) as model:
        result = ask(build(ledger, [specialist("spending", make(meter(model)))]))
    assert answer_of(result) == "12.50 for food"
    assert result["runs"][0].outcome == "completed"
    assert result["runs"][0].cost == result["spend"].spent == ledger.spend("s-1").spent > ZERO
    assert list(result["spend"].by_agent) == ["spending"]


@tool
def total(category: str) -> str:
    """The total of a category."""
    return f"{category}: 12.50"


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_a_prebuilt_agent_may_take_as_many_turns_as_its_specialist_allows(ledger: Ledger) -> None:
    """Twelve tool calls are twelve turns, whatever the supervisor's own graph has left of its steps."""
    from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportUnknownVariableType, reportDeprecated]

    steps = [
        AIMessage("", tool_calls=[{"name": "total", "args": {"category": str(n)}, "id": f"t{n}"}]) for n in range(12)
    ]
    with ScriptedModel(replies=[*steps, "12.50 for each"]) as model:
        agent: Any = create_react_agent(meter(model), [total])  # pyright: ignore[reportUnknownVariableType, reportDeprecated]
        result = ask(build(ledger, [specialist("spending", agent, max_turns=13, ceiling="0.03")]))
    assert answer_of(result) == "12.50 for each"
    assert result["spend"].calls == 13


def test_the_app_is_a_compiled_graph_that_draws_its_fallbacks(ledger: Ledger) -> None:
    """Users get LangGraph's own type, and its picture shows specialists and fallbacks as conditional edges."""
    app = build(ledger, [specialist("spending", lambda task: "x"), specialist("saving", lambda task: "x")])
    assert isinstance(app, CompiledStateGraph)
    picture = app.get_graph().draw_mermaid()
    for edge in (
        "supervisor -.-> spending;",
        "supervisor -.-> saving;",
        "spending -.-> spending\\2erules;",
        "spending -.-> report;",
        "spending\\2erules -.-> report;",
        "supervisor -.-> report;",
        "report -.-> supervisor;",
    ):
        assert edge in picture, picture


def test_amounts_of_money_are_never_floats(ledger: Ledger) -> None:
    """A result's amounts are exact, and a float budget is refused in one line."""
    with pytest.raises(ValueError, match="per_request: an amount is a str, int or Decimal"):
        Budget(0.03)  # pyright: ignore[reportArgumentType]
    with ScriptedModel(replies=["a b c"]) as model:
        result = ask(build(ledger, [specialist("spending", meter(model))]))
    assert result["spend"].spent.nanos == ledger.spend("s-1").spent.nanos
    assert session()["configurable"]["tenant"] == ledger.sessions()[0].tenant  # pyright: ignore[reportTypedDictNotRequiredAccess]
