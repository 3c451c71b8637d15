"""A dead model is waited for twice by one session, not at each question: then its fallbacks answer at once."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Report, SQLAlchemySaver, Task, build_supervisor, meter
from bursar.checkpoints.ledger import circuit_breakers as breakers
from bursar.state.circuit_breaker import RULE
from bursar.state.events import BreakerChanged
from tests.support.clock import NOON, Clock
from tests.support.graphs import App, RouteTo, answer_of, ask, free, rules
from tests.support.provider import DEAR_MODEL, MODEL, Provider, Reply

DOWN = Reply(status=500, headers={"x-should-retry": "false"})
BUSY = Reply(status=503)  # sent again, up to three times in all
ANOTHER_PROCESS = """
import sys
from datetime import datetime
from bursar import Ledger
ledger = Ledger(sys.argv[1], clock=lambda: datetime.fromisoformat(sys.argv[2]))
[row] = [row for row in ledger.breakers() if row.name.startswith("model:")]
print(row.name.partition("@")[0], row.state, row.resting)
ledger.close()
"""


@pytest.fixture
def hanging(provider: Provider) -> Iterator[Reply]:
    """A reply that does not come before the test ends."""
    end = threading.Event()
    yield Reply(waits_for=end)
    end.set()


def chat(provider: Provider, model: str = MODEL, timeout: float = 10) -> ChatOpenAI:
    return ChatOpenAI(model=model, api_key="sk-test", base_url=provider.url, timeout=timeout)  # pyright: ignore[reportArgumentType]


def app_of(ledger: Ledger, model: Any, clock: Clock, *, timeout: float = 20) -> App:
    async def handler(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    return build_supervisor(
        [free("tax", handler, ceiling="0.02", timeout=timeout, fallbacks=[rules])],
        budget=Budget(per_request="0.03"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(ledger.database),
        router=RouteTo(),
        clock=clock,
    )


def models(ledger: Ledger, clock: Clock) -> list[breakers.BreakerRow]:
    """The breakers of models that saw faults lately."""
    return [row for row in ledger.run(breakers.listed, clock()) if row.name.startswith("model:")]


def by_rule(result: Any) -> bool:
    return answer_of(result).startswith("tax by rule")


def changes(ledger: Ledger, session: str = "s-1") -> list[tuple[str, bool]]:
    """What the session's log says of a model's breaker: the change, and whether it is for this session alone."""
    events = [row.event for row in ledger.audit(session)]
    told = [event for event in events if isinstance(event, BreakerChanged) and event.breaker.startswith("model:")]
    return [(event.change, event.alone) for event in told]


def test_the_third_question_does_not_wait(any_ledger: Ledger, provider: Provider) -> None:
    """Nothing is sent or held for it, its reason says why, others are served, and one probe finds the model up."""
    clock = Clock()
    app = app_of(any_ledger, meter(chat(provider)), clock)
    provider.will(DOWN, DOWN)
    assert by_rule(ask(app))
    assert by_rule(ask(app))
    third = ask(app)
    assert by_rule(third)
    assert len(provider.requests) == 2
    assert (third["runs"][0].fault, third["spend"].spent.nanos) == ("provider", 0)
    assert "has failed 2 times in a row in this session; no call is sent to it until" in third["runs"][0].reason
    assert answer_of(ask(app, name="s-2")) == "all is well"
    clock.now = NOON + timedelta(seconds=RULE.rest_seconds)
    assert answer_of(ask(app)) == "all is well"
    assert changes(any_ledger) == [("opened", True), ("probed", True), ("closed", True)]
    assert models(any_ledger, clock) == []
    assert any_ledger.verify()


def test_a_probe_that_fails_lets_the_session_rest_for_longer(any_ledger: Ledger, provider: Provider) -> None:
    """One call after the rest, none before the doubled rest is over."""
    clock = Clock()
    app = app_of(any_ledger, meter(chat(provider)), clock)
    provider.default = DOWN
    for _ in range(2):
        ask(app)
    for seconds, sent in ((0, 2), (RULE.rest_seconds, 3), (2 * RULE.rest_seconds, 3), (3 * RULE.rest_seconds, 4)):
        clock.now = NOON + timedelta(seconds=seconds)
        assert by_rule(ask(app))
        assert len(provider.requests) == sent


def test_another_process_sees_it(any_ledger: Ledger, provider: Provider) -> None:
    """It is in the database: another ledger's graph sends nothing, and a process that starts later finds it."""
    provider.will(DOWN, DOWN)
    for _ in range(2):
        ask(app_of(any_ledger, meter(chat(provider)), Clock()))
    url = any_ledger.url.render_as_string(hide_password=False)
    second = Ledger(url, clock=Clock(), key=any_ledger.key)
    assert by_rule(ask(app_of(second, meter(chat(provider)), Clock())))
    assert len(provider.requests) == 2
    second.close()
    command = [sys.executable, "-c", ANOTHER_PROCESS, url, NOON.isoformat()]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert listed.stdout == f"model:openai/{MODEL} closed 1\n"


def test_a_call_that_is_sent_again_counts_once(any_ledger: Ledger, provider: Provider) -> None:
    """Three attempts of one call are one fault; a call that succeeds at its second attempt is none."""
    app = app_of(any_ledger, meter(chat(provider)), Clock())
    provider.will(BUSY, BUSY, BUSY)
    assert by_rule(ask(app))
    assert len(provider.requests) == 3
    assert changes(any_ledger) == []
    provider.will(BUSY, Reply())
    assert answer_of(ask(app)) == "all is well"
    provider.will(BUSY, BUSY, BUSY)
    assert by_rule(ask(app))
    assert changes(any_ledger) == []
    provider.will(BUSY, BUSY, BUSY)
    assert by_rule(ask(app))
    assert changes(any_ledger) == [("opened", True)]
    assert by_rule(ask(app))
    assert len(provider.requests) == 11


def test_a_model_that_hangs_until_the_deadline_counts_for_its_session(
    any_ledger: Ledger, provider: Provider, hanging: Reply
) -> None:
    """The deadline may be to blame, so other sessions notice nothing; this one asks it no more."""
    app = app_of(any_ledger, meter(chat(provider, timeout=60)), Clock(), timeout=4)
    provider.will(hanging, hanging)
    for _ in range(2):
        assert ask(app)["runs"][0].limit == "deadline"
    third = ask(app)
    assert third["runs"][0].fault == "provider"
    assert len(provider.requests) == 2
    [row] = models(any_ledger, Clock())
    assert (row.failing, row.calling, row.resting) == (0, 0, 1)
    assert answer_of(ask(app, name="s-2")) == "all is well"


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
def test_a_refused_request_is_no_fault(ledger: Ledger, provider: Provider, status: int) -> None:
    """However often the server refuses what it is sent, it is asked again."""
    clock = Clock()
    app = app_of(ledger, meter(chat(provider)), clock)
    provider.default = Reply(status=status, headers={"x-should-retry": "false"})
    for _ in range(4):
        assert by_rule(ask(app))
    assert len(provider.requests) == 4
    assert models(ledger, clock) == []


def test_a_cheaper_model_answers_for_the_session(ledger: Ledger, provider: Provider) -> None:
    """Its own breaker is closed, so it is asked in place of the dead one."""
    app = app_of(ledger, meter(chat(provider, DEAR_MODEL), cheaper=[chat(provider)]), Clock())
    provider.will(DOWN, DOWN)
    for _ in range(2):
        assert by_rule(ask(app))
    assert answer_of(ask(app)) == "all is well"
    assert [sent["model"] for sent in provider.requests] == [DEAR_MODEL, DEAR_MODEL, MODEL]
