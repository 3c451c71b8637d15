"""What LangSmith is told by callers that have a tracer of their own, and by threads that a handler starts."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.context import tracing_v2_enabled

from bursar import Ledger, Report, Task, meter
from tests.observability.scenario import chat
from tests.observability.test_both import app_of
from tests.support.graphs import ask, build, free, session
from tests.support.provider import Provider
from tests.support.tracing.langsmith_client import TracedServer
from tests.support.tracing.received_runs import project_id

QUESTION: dict[str, Any] = {"messages": [("user", "how much?")]}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_callers_own_tracer_knows_the_run(
    asynchronous: bool, ledger: Ledger, provider: Provider, langsmith: TracedServer
) -> None:
    """`tracer.get_run_url()` needs the latest run. The caller's list of callbacks stays as it was."""
    import asyncio

    tracer, app = LangChainTracer(project_name="own"), app_of(ledger, provider)
    callbacks: list[Any] = [tracer]
    config: Any = {**session("s-1"), "callbacks": callbacks}
    _ = asyncio.run(app.ainvoke(QUESTION, config)) if asynchronous else app.invoke(QUESTION, config)
    [root] = langsmith.roots()
    assert tracer.latest_run is not None
    assert str(tracer.latest_run.id) == root.id
    assert root.project == project_id("own")
    assert callbacks == [tracer]


def test_the_tracer_of_a_block_knows_the_run(ledger: Ledger, provider: Provider, langsmith: TracedServer) -> None:
    """As `with tracing_v2_enabled() as tracer` is documented."""
    with tracing_v2_enabled(project_name="own") as tracer:
        ask(app_of(ledger, provider))
    [root] = langsmith.roots()
    assert tracer.latest_run is not None
    assert str(tracer.latest_run.id) == root.id


@pytest.mark.parametrize("how", ["pool", "thread", "stream"])
def test_calls_in_threads_of_a_handler_are_in_the_requests_trace(
    how: str, ledger: Ledger, provider: Provider, langsmith: TracedServer
) -> None:
    """Below the handler's agent, each once, with its cost: LangSmith has no call that it would price itself."""
    model = meter(chat(provider), max_output_tokens=100)

    def pay(text: str) -> str:
        return "".join(one.text for one in model.stream(text)) if how == "stream" else model.invoke(text).text

    def food(task: Task) -> Report:
        if how == "thread":
            threads = [threading.Thread(target=pay, args=(text,)) for text in ("a", "b")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            with ThreadPoolExecutor(2) as pool:
                assert all(pool.map(pay, ("a", "b")))
        return Report(answer="all are paid")

    result = ask(build(ledger, [free("food", food)]))
    assert len(langsmith.traces()) == 1, langsmith.tree()
    [agent] = langsmith.named("food")
    calls = langsmith.of_type("llm")
    assert [call.parent for call in calls] == [agent.id] * 2, langsmith.tree()
    assert langsmith.unpriced() == langsmith.pending() == []
    assert langsmith.cost() == result["spend"].spent.dollars > 0
