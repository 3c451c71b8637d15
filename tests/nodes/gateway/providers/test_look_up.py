"""A call whose end nobody saw is looked up at OpenAI before it is paid again, if its answer was stored."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from bursar.nodes.gateway.look_up.asking import LOOK_UP_SECONDS, seconds_for_look_up
from bursar.nodes.gateway.meter import Price, meter
from bursar.nodes.gateway.providers.openai import CALL_KEY
from bursar.state.events import Reconciled
from tests.support.bench import SESSION, Bench, make_bench
from tests.support.databases import any_url
from tests.support.look_up.lost_calls import QUESTION, lose
from tests.support.look_up.storing_provider import StoringProvider, storing
from tests.support.provider import DEAR_MODEL, MODEL, Reply

__all__ = ["any_url", "storing"]


@pytest.fixture
def bench(storing: StoringProvider, any_url: str) -> Iterator[Bench]:
    """A bench on both databases, whose provider stores completions."""
    yield from make_bench(storing, any_url)


def reconciled(bench: Bench) -> list[Reconciled]:
    """Return the events that tell of reconciled calls."""
    return [row.event for row in bench.ledger.audit(SESSION) if isinstance(row.event, Reconciled)]


def test_a_stored_answer_is_found_charged_and_not_paid_again(bench: Bench, storing: StoringProvider) -> None:
    """The repeated run gets the answer of the lost call, at what the provider billed for it, by one list."""
    model = bench.model(store=True)
    lose(bench, model)
    before = bench.charged
    with bench.scope().enter():
        answer = model.invoke(QUESTION)
    assert answer.text == "all is well"
    assert isinstance(answer, AIMessage)
    assert len(storing.requests) == len(storing.listings) == 1
    assert bench.charged == storing.billed < before
    assert bench.ledger.open_holds() == []
    (event,) = reconciled(bench)
    assert (event.by, event.cost.nanos) == ("look-up", storing.billed)
    assert event.input_tokens == storing.bills[0].input_tokens
    assert event.response_hash is not None
    with bench.scope().enter():
        assert model.invoke(QUESTION).text == "all is well"
    assert len(storing.requests) == len(storing.listings) == 1


def test_async_code_looks_up_too(bench: Bench, storing: StoringProvider) -> None:
    """`ainvoke` and `astream` get the stored answer, without a second payment."""
    model = bench.model(store=True)
    lose(bench, model)

    async def main() -> list[str]:
        with bench.scope().enter():
            whole = (await model.ainvoke(QUESTION)).text
        with bench.scope().enter():
            return [whole, "".join([chunk.text async for chunk in model.astream(QUESTION)])]

    assert asyncio.run(main()) == ["all is well"] * 2
    assert len(storing.requests) == 1
    assert bench.charged == storing.billed


def test_a_tool_call_is_found_as_it_was_asked_for(bench: Bench, storing: StoringProvider) -> None:
    """The kept answer has the tool call with its arguments."""
    storing.will(Reply(tool="search", arguments={"what": "food"}))
    model = bench.model(store=True)
    lose(bench, model)
    with bench.scope().enter():
        answer = model.invoke(QUESTION)
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("search", {"what": "food"})]
    assert bench.charged == storing.billed


def test_the_calls_id_is_sent_beside_the_callers_metadata(bench: Bench, storing: StoringProvider) -> None:
    """Metadata in `extra_body`, of model or call, stays, and a call of an answer that is not stored gets no id."""
    with bench.scope().enter():
        bench.model(store=True).invoke("one")
        bench.model(store=True).bind(extra_body={"metadata": {"team": "b"}}).invoke("two")
        bench.model(store=True, extra_body={"metadata": {"team": "c"}}).invoke("three")
        bench.model().invoke("four", store=True)
        bench.model(store=True).invoke("five", store=False)
        bench.model().invoke("six")
        full = {"metadata": {f"k{number}": "v" for number in range(16)}}
        bench.model(store=True, extra_body=full).invoke("seven")
    sent: list[Any] = [body.get("metadata") for body in storing.requests]
    assert sent[:4] == [
        {CALL_KEY: "c-1"},
        {"team": "b", CALL_KEY: "c-2"},
        {"team": "c", CALL_KEY: "c-3"},
        {CALL_KEY: "c-4"},
    ]
    assert sent[4:6] == [None, None]
    assert len(sent[6]) == 16  # full: the provider would refuse one more
    assert CALL_KEY not in sent[6]


def test_a_call_that_is_not_stored_is_not_looked_up(bench: Bench, storing: StoringProvider) -> None:
    """Without `store` nobody is asked: the call stays unknown at its hold, and the request is paid again."""
    model = bench.model()
    lose(bench, model)
    hold = bench.charged
    with bench.scope().enter():
        model.invoke(QUESTION)
    assert storing.listings == []
    assert len(storing.requests) == 2
    assert bench.charged == hold + storing.bills[1].nanos
    assert [one.state for one in bench.ledger.open_holds()] == ["unknown"]


@pytest.mark.parametrize("how", ["lags", "fails", "lists others", "has no usage", "lists it twice"])
def test_what_is_not_found_is_paid_again(how: str, bench: Bench, storing: StoringProvider) -> None:
    """No proof is no answer: the call stays charged at its hold, and the provider's fault is not the run's."""
    model = bench.model(store=True)
    if how == "has no usage":
        storing.will(Reply(usage=False))
    lose(bench, model)
    hold = bench.charged
    if how == "lags":
        storing.lags = True
    elif how == "fails":
        storing.list_status = 500
    elif how == "lists others":
        storing.ignores_filter = True
        storing.stored[0]["metadata"] = {CALL_KEY: "c-9"}
    elif how == "lists it twice":
        storing.stored *= 2
    with bench.scope().enter():
        assert model.invoke(QUESTION).text == "all is well"
    assert storing.listings
    assert len(storing.requests) == 2
    assert bench.charged == hold + storing.bills[1].nanos
    assert reconciled(bench) == []


def test_a_list_that_hangs_is_given_up_before_the_deadline(bench: Bench, storing: StoringProvider) -> None:
    """A look-up takes at most half of the time that is left, so the call is still sent."""
    model = bench.model(store=True, timeout=120)
    lose(bench, model)
    storing.lists.clear()
    with bench.scope(deadline=time.monotonic() + 120).enter(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("bursar.nodes.gateway.look_up.asking.LOOK_UP_SECONDS", 0.2)
        assert model.invoke(QUESTION).text == "all is well"
    storing.lists.set()
    assert len(storing.requests) == 2


def test_a_look_up_has_a_share_of_the_time_left() -> None:
    """Half of it at most, and never more than its own limit."""
    assert seconds_for_look_up(None) == LOOK_UP_SECONDS
    assert seconds_for_look_up(4 * LOOK_UP_SECONDS) == LOOK_UP_SECONDS
    assert seconds_for_look_up(LOOK_UP_SECONDS) == LOOK_UP_SECONDS / 2
    assert seconds_for_look_up(-1.0) < 0


def test_a_call_that_somebody_reconciled_meanwhile_is_not_booked_twice(bench: Bench, storing: StoringProvider) -> None:
    """Race: a person books the cost while the provider is asked. Their booking stands; the request is paid again."""
    model = bench.model(store=True)
    lose(bench, model)
    storing.lists.clear()
    asked: list[str] = []
    with bench.scope().enter():
        running = threading.Thread(target=lambda: asked.append(model.invoke(QUESTION).text))
        running.start()
    with storing.changed:
        assert storing.changed.wait_for(lambda: bool(storing.listings), 60)
    bench.ledger.reconcile("c-1", "0.001", by="ann")
    storing.lists.set()
    running.join(60)
    assert asked == ["all is well"]
    assert [event.by for event in reconciled(bench)] == ["ann"]
    assert bench.charged == 1_000_000 + storing.bills[1].nanos


def test_a_cheaper_models_lost_call_is_found_at_its_own_price(bench: Bench, storing: StoringProvider) -> None:
    """The call is billed by the model that was called, and its answer says which model it replaced."""
    model = meter(bench.chat(model=DEAR_MODEL, store=True), cheaper=[bench.chat(model=MODEL, store=True)])
    lose(bench, model, budget="0.0005")
    with bench.scope().enter():
        answer = model.invoke(QUESTION)
    assert answer.response_metadata["instead_of"] == DEAR_MODEL
    assert bench.charged == storing.billed
    assert storing.bills[0].model == MODEL


def test_a_call_that_was_held_at_another_price_stays_unknown(bench: Bench, storing: StoringProvider) -> None:
    """Nobody is asked what it cost at that price: it stays charged at its hold, and the request is paid again."""
    lose(bench, meter(bench.chat(store=True), price=Price("0.15", "0.60")))
    hold = bench.charged
    with bench.scope().enter():
        meter(bench.chat(store=True), price=Price("0.30", "1.20")).invoke(QUESTION)
    assert (len(storing.requests), storing.listings, reconciled(bench)) == (2, [], [])
    assert bench.charged >= hold + storing.bills[1].nanos


def test_a_call_that_was_held_at_the_same_price_by_hand_is_found(bench: Bench, storing: StoringProvider) -> None:
    """The bill is by that price."""
    model = meter(bench.chat(store=True), price=Price("0.15", "0.60"))
    lose(bench, model)
    with bench.scope().enter():
        model.invoke(QUESTION)
    assert bench.charged == storing.billed
    assert len(storing.requests) == 1
