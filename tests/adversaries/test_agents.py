"""Agents that try to overspend: each within a whole graph, and the provider's own books say what it cost."""

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.tools import tool

from bursar import Report, Task
from bursar.nodes.gateway.paid_calls.scope import charged_as
from bursar.state.decision import Decision
from bursar.state.errors import BursarError
from bursar.state.events import Decided
from bursar.state.refusals import BudgetExceeded
from tests.adversaries.conftest import Bench, Court
from tests.support.provider import MODEL, Reply

LONG = "word " * 20_000
WAIT_SECONDS = 10


def outcomes(result: dict[str, Any]) -> list[str]:
    """How each run ended."""
    return [run.outcome.value for run in result["runs"]]


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_an_agent_that_calls_tools_for_ever_ends_at_its_turns(court: Court) -> None:
    """The provider asks for a tool in every answer; after five paid calls the run is exhausted."""
    from langgraph.prebuilt import create_react_agent  # pyright: ignore[reportUnknownVariableType, reportDeprecated]

    @tool
    def again(number: int) -> str:
        """Ask again."""
        return "once more"

    court.provider.default = Reply(tool="again", arguments={"number": 1})
    agent: Any = create_react_agent(court.model(), [again])  # pyright: ignore[reportUnknownVariableType, reportDeprecated]
    result = court.ask(court.app(agent, max_turns=5, max_repeats=9))
    assert outcomes(result) == ["exhausted", "completed"]
    assert len(court.provider.bills) == 5
    assert court.charged == court.provider.billed


def test_ten_agents_at_once_stay_within_the_request(court: Court) -> None:
    """Ten agents that each call as long as they may, side by side: the provider bills at most the request's budget."""
    court.provider.default = Reply(text=LONG)
    model = court.model()

    async def spend(task: Task) -> str:
        answers = [await model.ainvoke(f"{task.specialist} {number}") for number in range(8)]
        return answers[-1].text

    result = court.ask(court.app(*[spend] * 10, budget="0.004", ceiling="0.004"))
    assert 0 < court.provider.billed <= court.charged <= 4_000_000
    assert "exhausted" in outcomes(result)
    assert result["messages"][-1].text


def test_exhausted_then_resumed_pays_nothing_more_and_goes_on_after_a_top_up(court: Court) -> None:
    """What was paid is replayed without money; a top-up lets the run go on from there."""
    model, attempts = court.model(), list[str]()

    def spend(task: Task) -> str:
        attempts.append(task.request_id)
        answers = [model.invoke("one", max_tokens=100).text, model.invoke("two " * 50, max_tokens=300).text]
        if len(attempts) < 3:
            raise KeyboardInterrupt  # a leg that is cut off before its node ends
        return " / ".join(answers)

    app = court.app(spend, budget="0.00009", ceiling="0.00009")
    court.provider.will(Reply(text="first"), Reply(text="second"))
    result = court.ask(app)
    assert outcomes(result) == ["exhausted", "completed"]
    billed = court.provider.billed
    assert len(court.provider.bills) == 1
    fork = next(s for s in app.get_state_history(court.config) if "agent0" in s.next)
    court.ledger.top_up(attempts[0], "0.02")
    court.ledger.top_up(f"agent:{attempts[0]}:agent0", "0.02")
    with pytest.raises(KeyboardInterrupt):
        app.invoke(None, fork.config)
    assert court.provider.billed > billed
    paid = court.provider.billed
    result = app.invoke(None, court.config)
    assert outcomes(result) == ["completed"]
    assert court.provider.billed == paid


def test_a_fork_pays_again_and_its_decision_says_so(court: Court) -> None:
    """Invoked from an earlier checkpoint the agent pays for a second answer; state and log tell why."""
    model = court.model()

    def spend(task: Task) -> str:
        return model.invoke(task.text).text

    app = court.app(spend)
    court.ask(app)
    first = court.provider.billed
    earlier = next(snapshot for snapshot in app.get_state_history(court.config) if "agent0" in snapshot.next)
    result = app.invoke(None, earlier.config)
    assert len(court.provider.bills) == 2
    assert court.charged == court.provider.billed == 2 * first
    (fork,) = [decision for decision in result["decisions"] if decision.kind == "fork"]
    assert isinstance(fork, Decision)
    assert "1 paid calls" in fork.note
    decided = [row.event.decision for row in court.ledger.audit("s-1") if isinstance(row.event, Decided)]
    assert [decision.kind for decision in decided if decision.kind == "fork"] == ["fork"]


def test_a_handler_that_swallows_every_exception_is_still_exhausted(court: Court) -> None:
    """It asks on after each refusal and says that all is well; the run counts as exhausted, and paid what it could."""
    court.provider.default = Reply(text=LONG)
    model = court.model()

    def spend(task: Task) -> str:
        for number in range(20):
            with suppress(BaseException):
                model.invoke(f"question {number}", max_tokens=500)
        return "all is well"

    result = court.ask(court.app(spend, budget="0.001", ceiling="0.001", max_turns=50))
    assert outcomes(result) == ["exhausted", "completed"]
    assert 0 < court.provider.billed <= court.charged <= 1_000_000


def test_a_handler_that_starts_threads_pays_for_them_and_not_after_it(court: Court) -> None:
    """Threads are charged to their handler while it runs; one that outlives it is refused."""
    model, ended, refused = court.model(), threading.Event(), threading.Event()
    late: list[threading.Thread] = []

    def outlive() -> None:
        ended.wait(WAIT_SECONDS)
        try:
            model.invoke("late")
        except BursarError:
            refused.set()

    def spend(task: Task) -> str:
        inside = [threading.Thread(target=model.invoke, args=(f"thread {number}",)) for number in range(3)]
        late.append(threading.Thread(target=outlive))
        for thread in [*inside, *late]:
            thread.start()
        for thread in inside:
            thread.join()
        return "done"

    result = court.ask(court.app(spend))
    ended.set()
    late[0].join()
    assert refused.is_set()
    assert outcomes(result) == ["completed"]
    assert court.agents() == ["agent0"] * 3
    assert court.charged == court.provider.billed
    assert len(court.provider.bills) == 3


def test_a_nested_model_that_is_not_metered_is_vetoed(court: Court) -> None:
    """Deep inside a chain of a handler, a bare model sends nothing."""
    bare = court.chat()

    async def spend(task: Task) -> str:
        return (await (bare | (lambda message: message)).ainvoke(task.text)).text  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType, reportUnknownMemberType]

    result = court.ask(court.app(spend))
    assert outcomes(result)[0] != "completed"
    assert court.provider.requests == []


def test_streaming_the_graph_bills_once(court: Court) -> None:
    """`stream_mode="messages"` turns the call into a stream; its pieces come, its usage is asked for and booked."""
    model = court.model()

    async def spend(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    app = court.app(spend)

    async def main() -> list[str]:
        stream = app.astream({"messages": [("user", "hello")]}, court.config, stream_mode="messages")
        return [piece[0].text async for piece in stream if piece[1]["langgraph_node"] == "agent0"]

    assert [piece for piece in asyncio.run(main()) if piece] == ["all", " is", " well"]
    assert court.provider.requests[0]["stream"] is True
    assert court.charged == court.provider.billed > 0


def test_three_cents_serve_normal_calls_of_a_model_that_may_write_sixteen_thousand_tokens(court: Court) -> None:
    """Eight calls side by side under $0.03, none with a cap of its own: all are sent and none is starved."""
    model = court.model()
    assert model.profile is not None
    assert model.profile.get("max_output_tokens") == 16_384

    async def spend(task: Task) -> str:
        answers = await asyncio.gather(*(model.ainvoke(f"question {number}") for number in range(8)))
        return answers[0].text

    result = court.ask(court.app(spend))
    assert outcomes(result) == ["completed"]
    assert len(court.provider.bills) == 8
    assert all(body["model"] == MODEL and body["max_completion_tokens"] >= 512 for body in court.provider.requests)
    assert court.charged == court.provider.billed


def test_an_agent_stays_within_its_own_ceiling(court: Court) -> None:
    """Beside an agent that spends little, one that spends all it can is stopped at its own account."""
    court.provider.default = Reply(text=LONG)
    model = court.model()

    def spend(task: Task) -> str:
        return " ".join(model.invoke(f"question {number}", max_tokens=500).text for number in range(20))

    result = court.ask(court.app(spend, budget="0.03", ceiling="0.001", max_turns=50))
    assert outcomes(result) == ["exhausted", "completed"]
    assert court.provider.billed == court.charged <= 1_000_000
    assert result["runs"][0].cost.nanos == court.charged


def test_a_run_again_with_other_prompts_gets_no_fresh_turns(bench: Bench) -> None:
    """Calls that the books have of earlier runs count, those of helpers too, and what is replayed counts once."""
    for prompts in (("one", "two"), ("one", "two", "three"), ("four", "five")):
        with bench.scope(max_turns=3).enter():
            for prompt in prompts:
                with suppress(BudgetExceeded), charged_as("helper"):
                    bench.model().invoke(prompt)
    assert [body["messages"][0]["content"] for body in bench.provider.requests] == ["one", "two", "three"]
    assert bench.kinds()[-2:] == ["call_refused"] * 2
    assert bench.charged == bench.provider.billed
