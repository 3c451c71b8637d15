"""What observers are told of one request stays with it: its variables, its runs, its end and its resume."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bursar import Ledger, RequestContext, Task
from bursar.nodes.observers import telling
from tests.nodes.observers.diaries import Diary, Saying, approved, approving, said
from tests.support.graphs import QUESTION, App, answer_of, ask, build, free, session

PATIENT_SECONDS = 60.0


@pytest.fixture
def anyio_backend() -> str:
    """Bursar needs asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that returns is waited for, however busy the machine is."""
    monkeypatch.setattr(telling, "MOST_SECONDS", PATIENT_SECONDS)


def one_listener(ledger: Ledger, *observers: Any, **settings: Any) -> App:
    """Return a supervisor of one specialist that answers with the context variable."""
    return build(ledger, [free("food", lambda task: said.get(), **settings)], observers=observers)


async def coroutine(task: Task) -> str:
    """A handler on an event loop."""
    return said.get()


def thread(task: Task) -> str:
    """A handler in a thread."""
    return said.get()


@pytest.fixture(params=["thread", "coroutine", "apart"])
def listener(request: pytest.FixtureRequest, ledger: Ledger) -> App:
    """A supervisor whose handler answers with the variable that the observer set, in each way of running it."""
    handler = {"thread": thread}.get(request.param, coroutine)
    return build(ledger, [free("food", handler, apart=request.param == "apart")], observers=[Saying()])


def test_handlers_see_what_an_observer_set(listener: App) -> None:
    """In sync code; the caller does not."""
    assert answer_of(ask(listener)) == "of s-1"
    assert said.get() == "nothing"


@pytest.mark.anyio
async def test_handlers_see_what_an_observer_set_under_a_loop(listener: App) -> None:
    """In async code; the caller does not."""
    assert answer_of(await listener.ainvoke(QUESTION, session())) == "of s-1"
    assert said.get() == "nothing"


def test_a_caller_does_not_see_it_between_two_chunks(ledger: Ledger) -> None:
    """The caller's own variables are as the caller set them, and the graph sees the observer's."""
    token, seen = said.set("the caller's"), list[str]()
    app = one_listener(ledger, Saying())
    for number, _ in enumerate(app.stream(QUESTION, session(), stream_mode="updates")):
        seen.append(said.get())
        said.set(f"chunk {number}")
    assert seen == ["the caller's", *[f"chunk {number}" for number in range(len(seen) - 1)]]
    assert len(seen) > 1
    assert answer_of(app.get_state(session()).values) == "of s-1"
    said.reset(token)


@pytest.mark.anyio
async def test_an_async_caller_does_not_see_it_between_two_chunks(ledger: Ledger) -> None:
    """As in sync code."""
    said.set("the caller's")
    app, seen = one_listener(ledger, Saying()), list[str]()
    async for _ in app.astream(QUESTION, session(), stream_mode="updates"):
        seen.append(said.get())
    assert set(seen) == {"the caller's"}
    assert answer_of((await app.aget_state(session())).values) == "of s-1"


def check_apart(saying: Saying) -> None:
    """Two requests were told to an observer each, from start to end."""
    first, second = (one for one in saying.made if one.told)
    assert first.methods() == second.methods()
    for one in (first, second):
        [context] = one.of("request_started")
        [opened] = [what[0] for name, what in one.told if name == "request_opened"]
        [run] = one.of("run_started")
        assert opened.id == run.request_id == one.of("request_ended")[0].request_id
        assert {run.session_id, *[head.session_id for head in one.of("run_ended")]} == {context.session_id}


def test_two_requests_at_once_do_not_mix(ledger: Ledger) -> None:
    """In two threads, each handler while the other runs."""
    both, saying = threading.Barrier(2, timeout=PATIENT_SECONDS), Saying()
    answers: dict[str, str] = {}

    def food(task: Task) -> str:
        both.wait()
        return said.get()

    app = build(ledger, [free("food", food)], observers=[saying])

    def work(name: str) -> None:
        answers[name] = answer_of(ask(app, name=name))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("s-1", "s-2")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert answers == {"s-1": "of s-1", "s-2": "of s-2"}
    check_apart(saying)


@pytest.mark.anyio
async def test_two_requests_at_once_on_a_loop_do_not_mix(ledger: Ledger) -> None:
    """On one event loop, each handler while the other runs."""
    begun, saying = [asyncio.Event(), asyncio.Event()], Saying()

    async def food(task: Task) -> str:
        begun[task.session_id == "s-2"].set()
        for one in begun:
            await one.wait()
        return said.get()

    app = build(ledger, [free("food", food)], observers=[saying])
    results = await asyncio.gather(*[app.ainvoke(QUESTION, session(name)) for name in ("s-1", "s-2")])
    assert [answer_of(result) for result in results] == ["of s-1", "of s-2"]
    check_apart(saying)


def test_a_supervisor_inside_another_is_a_request_of_its_own(ledger: Ledger) -> None:
    """It knows the agent that asked, ends before that agent's run does, and leaves that agent's variables alone."""
    saying = Saying()
    inner = build(ledger, [free("leaf", lambda task: said.get())], observers=[saying], checkpointer=None, name="inner")

    def boss(task: Task) -> str:
        below = answer_of(inner.invoke(QUESTION, session("below")))
        return f"{below}, {said.get()}"

    app = build(ledger, [free("boss", boss)], observers=[saying])
    assert answer_of(ask(app)) == "of below, of s-1"
    outer, nested = (one for one in saying.made if one.told)
    [above], [below] = outer.of("request_started"), nested.of("request_started")
    assert (above.graph, above.caller, below.graph, below.caller) == ("bursar", "", "inner", "boss")
    assert [run.specialist for run in outer.of("run_started")] == ["boss"]
    assert [run.specialist for run in nested.of("run_started")] == ["leaf"]
    assert nested.methods()[-1] == outer.methods()[-1] == "request_ended"


@pytest.fixture
def closed_early(ledger: Ledger) -> Iterator[Saying]:
    """An observer of a stream that its caller closes after the first chunk."""
    saying = Saying()
    yield saying
    [one] = [one for one in saying.made if one.told]
    assert one.methods()[:1] == ["request_started"]
    assert one.methods()[-1] == "request_ended"
    [end] = one.of("request_ended")
    assert (end.ending, type(end.error)) == ("stopped", GeneratorExit)
    assert len(one.of("run_started")) == len(one.of("run_ended")) + len(one.of("run_stopped"))
    assert said.get() == "nothing"


def test_a_stream_that_is_closed_early_ends_the_request(ledger: Ledger, closed_early: Saying) -> None:
    """As stopped; it can be resumed."""
    app = one_listener(ledger, closed_early)
    stream = app.stream(QUESTION, session(), stream_mode="updates")
    next(stream)
    stream.close()
    assert answer_of(one_listener(ledger).invoke(None, session())) == "nothing"


@pytest.mark.anyio
async def test_an_async_stream_that_is_closed_early_ends_the_request(ledger: Ledger, closed_early: Saying) -> None:
    """As stopped; it can be resumed."""
    app = one_listener(ledger, closed_early)
    stream = app.astream(QUESTION, session(), stream_mode="updates")
    await anext(stream)
    await stream.aclose()
    assert answer_of(await one_listener(ledger).ainvoke(None, session())) == "nothing"


def test_a_resume_after_an_interrupt_is_told_as_one(ledger: Ledger) -> None:
    """The same request: opened, interrupted, then resumed and answered; its run starts again."""
    diary = Diary()
    app = approving(ledger, diary)
    assert answer_of(approved(app)) == "paid bob"
    opened = [what for name, what in diary.told if name == "request_opened"]
    assert [resumed for _, resumed in opened] == [False, True]
    assert len({request.id for request, _ in opened}) == 1
    contexts: list[RequestContext] = diary.of("request_started")
    assert [context.resumes for context in contexts] == [False, True]
    assert [end.ending for end in diary.of("request_ended")] == ["interrupted", "answered"]
    assert [len(diary.of(method)) for method in ("run_started", "run_stopped", "run_ended")] == [2, 1, 1]
    [asked], [by] = diary.of("approval_asked"), diary.of("approval_ended")
    assert (asked.specialist, by) == ("bank", "ann")
