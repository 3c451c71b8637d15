"""What stops work, in whole graphs: open breakers and pauses refuse before anything is spent, and fallbacks answer."""

from datetime import timedelta
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Paused, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, meter
from bursar.state.circuit_breaker import RULE
from tests.support.clock import NOON, Clock
from tests.support.graphs import App, RouteTo, rules
from tests.support.provider import DEAR_MODEL, MODEL, Provider, Reply

DOWN = Reply(status=500, headers={"x-should-retry": "false"})


def chat(provider: Provider, model: str = MODEL) -> ChatOpenAI:
    return ChatOpenAI(model=model, api_key="sk-test", base_url=provider.url, timeout=10)  # pyright: ignore[reportArgumentType]


def build(ledger: Ledger, handler: Any, clock: Clock, **settings: Any) -> App:
    return build_supervisor(
        [Specialist(name="tax", description="Taxes", handler=handler, ceiling="0.02", fallbacks=[rules])],
        budget=Budget(per_request="0.03"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(ledger.database),
        router=RouteTo(),
        clock=clock,
        **settings,
    )


def answers(task: Task) -> Report:
    return Report(answer="an answer")


def ask(app: App, session: str, tenant: str = "acme") -> Any:
    config = {"configurable": {"thread_id": session, "tenant": tenant}}
    return app.invoke({"messages": [("user", "How much tax?")]}, config)


def test_a_provider_that_is_down_is_left_alone_until_a_probe_finds_it_up(
    any_ledger: Ledger, provider: Provider
) -> None:
    """Three sessions open the breaker; the fourth sends nothing and its rules answer; then one probe closes it."""
    clock = Clock()
    model = meter(chat(provider))

    async def handler(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    app = build(any_ledger, handler, clock)
    provider.default = DOWN
    for number in range(3):
        ask(app, f"s-{number}")
    sent = len(provider.requests)
    result = ask(app, "s-3")
    assert len(provider.requests) == sent == 3
    assert result["messages"][-1].text.startswith("tax by rule")
    first = result["runs"][0]
    assert (first.outcome, first.fault) == ("failed", "provider")
    assert "no call is sent to it until" in first.reason
    assert any_ledger.open_holds() == []
    assert any_ledger.spend("s-3").spent.nanos == 0
    provider.default = Reply()
    clock.now = NOON + timedelta(seconds=RULE.rest_seconds)
    assert ask(app, "s-4")["messages"][-1].text == "all is well"
    assert any_ledger.breakers() == []


def test_a_cheaper_model_answers_while_the_breaker_is_open(ledger: Ledger, provider: Provider) -> None:
    """Its own breaker is closed, so the call is made all the same, and the answer says whom it replaces."""
    clock = Clock()
    model = meter(chat(provider, DEAR_MODEL), cheaper=[chat(provider)])

    async def handler(task: Task) -> Report:
        reply = await model.ainvoke(task.text)
        return Report(answer=str(reply.response_metadata.get("instead_of")))

    app = build(ledger, handler, clock)
    provider.will(*[DOWN] * 3)
    for number in range(3):
        ask(app, f"s-{number}")
    assert DEAR_MODEL in ask(app, "s-3")["messages"][-1].text
    assert provider.requests[-1]["model"] == MODEL


@pytest.mark.parametrize("status", [400, 401, 422, 429])
def test_refusals_open_no_breaker(ledger: Ledger, provider: Provider, status: int) -> None:
    """What the provider refuses, or a budget does, is no fault of the provider."""
    clock = Clock()
    model = meter(chat(provider))

    async def handler(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    provider.default = Reply(status=status, headers={"x-should-retry": "false"})
    for number in range(3):
        ask(build(ledger, handler, clock), f"s-{number}")
    assert [row.name for row in ledger.breakers() if row.name.startswith("model:")] == []


def test_an_agent_that_fails_for_several_sessions_starts_with_its_fallback(any_ledger: Ledger) -> None:
    """The decision says so; one request probes; a success lets it start by itself again."""
    clock, calls, broken = Clock(), list[str](), [True]

    def handler(task: Task) -> Report:
        calls.append(task.session_id)
        if broken[0]:
            raise RuntimeError("a bug")
        return Report(answer="mended")

    app = build(any_ledger, handler, clock)
    for _ in range(5):
        ask(app, "s-0")  # one session alone opens it for nobody
    for number in range(1, 3):
        ask(app, f"s-{number}")
    assert len(calls) == 7
    result = ask(app, "s-3")
    assert len(calls) == 7
    assert result["messages"][-1].text.startswith("tax by rule")
    [admitted] = [decision for decision in result["decisions"] if decision.kind == "admit"]
    assert "failed in several sessions" in admitted.candidates[0].reason
    broken[0] = False
    clock.now = NOON + timedelta(seconds=RULE.rest_seconds)
    assert ask(app, "s-4")["messages"][-1].text == "mended"
    assert any_ledger.breakers() == []
    assert ask(app, "s-5")["messages"][-1].text == "mended"


def test_a_paused_tenant_is_refused_before_anything_is_opened(any_ledger: Ledger) -> None:
    """Other tenants go on; unpaused, the very request is answered."""
    app = build(any_ledger, answers, Clock())
    any_ledger.pause("tenant:acme", note="unpaid")
    with pytest.raises(Paused, match=r"tenant acme is paused \(unpaid\)"):
        ask(app, "s-1")
    assert any_ledger.sessions() == []
    assert ask(app, "s-2", "beta")["messages"][-1].text == "an answer"
    any_ledger.unpause("tenant:acme")
    assert ask(app, "s-1")["messages"][-1].text == "an answer"


def test_a_paused_agent_is_not_dispatched(any_ledger: Ledger) -> None:
    """Its free fallback answers, and the answer names the pause."""
    calls: list[str] = []

    def handler(task: Task) -> Report:
        calls.append(task.session_id)
        return Report(answer="mine")

    app = build(any_ledger, handler, Clock())
    any_ledger.pause("agent:tax", note="wrong rates")
    text = ask(app, "s-1")["messages"][-1].text
    assert calls == []
    assert text.startswith("tax by rule")
    assert "it is paused (wrong rates)" in text


def test_a_running_request_pays_nothing_more_once_all_is_paused(any_ledger: Ledger, provider: Provider) -> None:
    """The call after the pause is refused; what was sent before it is booked; the request ends with an answer."""
    model = meter(chat(provider))

    async def handler(task: Task) -> Report:
        await model.ainvoke("before")
        any_ledger.pause("all", by="ann")
        return Report(answer=(await model.ainvoke("after")).text)

    result = ask(build(any_ledger, handler, Clock()), "s-1")
    assert len(provider.requests) == 1
    assert result["messages"][-1].text.startswith("tax by rule")
    assert "everything is paused" in result["runs"][0].reason
    assert any_ledger.spend("s-1").spent.nanos == provider.billed
    assert any_ledger.open_holds() == []


@pytest.mark.parametrize("node", ["supervisor", "tax"])
def test_a_session_waits_out_a_pause(any_ledger: Ledger, node: str) -> None:
    """Paused before it is opened or its agent starts, the request is refused and kept; resumed, it is answered."""
    config = {"configurable": {"thread_id": "s-1", "tenant": "acme"}}
    app = build(any_ledger, answers, Clock())
    app.invoke({"messages": [("user", "How much tax?")]}, config, interrupt_before=[node])
    any_ledger.pause()
    with pytest.raises(Paused, match="everything is paused"):
        app.invoke(None, config)
    any_ledger.unpause()
    assert app.invoke(None, config)["messages"][-1].text == "an answer"
