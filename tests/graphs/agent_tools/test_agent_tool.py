"""A specialist as another agent's tool: the agent pays for it, within both ceilings."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportDeprecated, reportUnknownVariableType]

from bursar import ConfigurationError, Ledger, NoSession, Report, Specialist, Task, as_tool
from bursar.graphs.agent_tool import MAX_DEPTH
from bursar.state.money import USD
from bursar.state.run import Outcome
from tests.support.graphs import (
    answer_of,
    ask,
    billed,
    build,
    first_run,
    free,
    priced,
    rules,
    scripted,
    specialist,
    words,
)


def asks(tool: Any, *requests: str) -> Any:
    """A handler that asks another agent so often, and answers with all that it heard."""

    async def handler(task: Task) -> Report:
        heard = [await tool.ainvoke({"request": request}) for request in requests]
        return Report(answer=" | ".join(heard))

    return handler


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_agent_asks_another_and_pays_for_it(any_ledger: Ledger, asynchronous: bool) -> None:
    """A prebuilt agent calls the tool; the answer reaches its model, and the cost its account and the books."""
    double = scripted(words(3))
    model = priced(double)

    def research(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text, data={"found": 1})

    call: Any = {"name": "research", "args": {"request": "when was it built?"}, "id": "c-1"}
    boss = scripted(AIMessage("", tool_calls=[call]), "1883")
    agent: Any = create_react_agent(priced(boss), [as_tool(specialist("research", research))])  # pyright: ignore[reportDeprecated, reportUnknownVariableType]
    app = build(any_ledger, [specialist("boss", agent, ceiling="0.02")])
    message: Any = {"messages": [("user", "how old is it?")]}
    config: Any = {"configurable": {"thread_id": "s-1"}}
    result = asyncio.run(app.ainvoke(message, config)) if asynchronous else app.invoke(message, config)
    assert answer_of(result) == "1883"
    told = boss.calls[1].messages[-1]
    assert isinstance(told, ToolMessage)
    assert told.text == words(3)
    assert isinstance(told.artifact, Report)
    assert told.artifact.data == {"found": 1}
    assert result["spend"].spent.nanos == billed(double, boss) == first_run(result, "boss").cost.nanos
    assert set(result["spend"].by_agent) == {"boss", "research"}
    assert any_ledger.verify()


@pytest.mark.parametrize(
    ("own", "callers", "spent"), [("0.01", "0.02", "0.01"), ("0.02", "0.01", "0.01"), ("0.02", "0.02", "0.02")]
)
def test_both_ceilings_hold(any_ledger: Ledger, own: str, callers: str, spent: str) -> None:
    """Its own bounds one call of the tool, the caller's all of them; what it has until then is answered."""
    double = scripted(*[words(5)] * 9)
    model = priced(double)

    def burn(task: Task) -> Report:
        for number in range(9):
            model.invoke(f"{task.request_id} {number}")
        raise AssertionError("nobody has so much")

    tool = as_tool(free("leaf", burn, ceiling=own, max_turns=99))
    result = ask(build(any_ledger, [free("boss", asks(tool, "burn"), ceiling=callers)]))
    assert billed(double) == USD(spent).nanos == result["spend"].spent.nanos
    assert any_ledger.verify()


def test_its_fallback_answers_for_it(ledger: Ledger) -> None:
    """The caller reads what is missing, and goes on."""

    def fails(task: Task) -> Report:
        raise ValueError("no")

    result = ask(build(ledger, [specialist("boss", asks(as_tool(specialist("leaf", fails)), "one"))]))
    assert answer_of(result).startswith("leaf by rule\n\nMissing from this answer:\n- leaf: ")
    assert result["ending"] == "answered"  # the caller answered in full; what it heard is its answer


def test_each_call_is_a_request_of_its_own_and_a_repeated_run_pays_for_none_twice(any_ledger: Ledger) -> None:
    """The same request twice is asked twice; the run that a crash cut off finds both answers again."""
    double = scripted("one", "two", "three")
    model, crashes = priced(double), [True]

    def leaf(task: Task) -> Report:
        return Report(answer=model.invoke(task.text).text)

    tool = as_tool(specialist("leaf", leaf))

    async def handler(task: Task) -> Report:
        heard = [await tool.ainvoke({"request": "same"}) for _ in range(2)]
        if crashes.pop() if crashes else False:
            raise KeyboardInterrupt
        return Report(answer=" ".join(heard))

    app = build(any_ledger, [specialist("boss", handler)])
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    result = app.invoke(None, {"configurable": {"thread_id": "s-1", "tenant": "acme"}})
    assert answer_of(result) == "one two"
    assert len(double.calls) == 2
    assert result["spend"].spent.nanos == billed(double)
    assert any_ledger.verify()


def test_it_ends_with_its_caller(ledger: Ledger) -> None:
    """Its own deadline is later than the caller's; the caller's chain goes on at once."""

    async def hangs(task: Task) -> Report:
        await asyncio.Event().wait()
        raise AssertionError

    boss = specialist("boss", asks(as_tool(specialist("leaf", hangs, timeout=60)), "one"), timeout=0.5)
    result = ask(build(ledger, [boss]))
    assert first_run(result, "boss").outcome is Outcome.EXHAUSTED
    assert "boss by rule" in answer_of(result)


def test_agents_that_ask_each_other_end(ledger: Ledger) -> None:
    """Eight deep the next is refused; each answers by its fallback, and who asked goes on."""
    tools: list[Any] = []
    depths: list[int] = []

    async def asks_itself(task: Task) -> Report:
        depths.append(1)
        return Report(answer="> " + await tools[0].ainvoke({"request": task.text}))

    again = free("again", asks_itself, ceiling="0.01")
    tools.append(as_tool(again))
    result = ask(build(ledger, [again]))
    assert len(depths) == MAX_DEPTH + 1
    assert answer_of(result).startswith("> > > > > > > > again by rule")
    assert ledger.verify()


def test_a_tool_of_functions_alone_costs_nothing(ledger: Ledger) -> None:
    """Such a specialist runs inside an agent that may pay nothing."""
    tool = as_tool(Specialist(name="leaf", description="by rule", handler=rules))
    result = ask(build(ledger, [Specialist(name="boss", description="b", handler=asks(tool, "x"), fallbacks=[rules])]))
    assert answer_of(result) == "leaf by rule"


def test_it_needs_a_run_and_a_whole_chain() -> None:
    """Outside a run nobody pays for it, and without a last resort it may never end."""
    tool = as_tool(specialist("leaf", rules))
    assert (tool.name, set(tool.args)) == ("leaf", {"request"})
    with pytest.raises(NoSession, match="leaf is an agent's tool"):
        tool.invoke({"request": "x"})
    with pytest.raises(ConfigurationError, match="it has no fallbacks"):
        as_tool(Specialist(name="leaf", description="d", handler=lambda task: Report(answer="")))
    with pytest.raises(ConfigurationError, match="a person must approve its runs"):
        as_tool(specialist("leaf", lambda task: Report(answer=""), risk="high"))
