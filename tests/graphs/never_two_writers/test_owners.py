"""A supervisor's run owns its session: other runs are told so, here and in other processes, and take over the dead."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from bursar import LeaseLost, Ledger, Report, SessionBusy, SQLAlchemySaver, Task
from bursar.state.money import USD
from tests.graphs.never_two_writers.owner_program import SESSION, plain
from tests.support.graphs import answer_of, ask, build, free, priced, scripted, session, specialist

ROOT = Path(__file__).parents[3]
RUNS = int(os.environ.get("BURSAR_TEST_RUNS", "30"))  # of each of the two processes


def url_of(ledger: Ledger) -> str:
    """The URL that another process opens."""
    return ledger.database.url.render_as_string(hide_password=False)


@contextmanager
def process(ledger: Ledger, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """`tests.graphs.never_two_writers.owner_program` in a process of its own, which does not outlive the test."""
    command = [sys.executable, "-m", "tests.graphs.never_two_writers.owner_program", url_of(ledger), *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def leases(ledger: Ledger, name: str = SESSION) -> list[str]:
    """What the log says of the session's leases."""
    return [row.event.action for row in ledger.audit(name) if row.event.kind == "lease"]


def test_a_running_session_is_busy_for_every_other_run(any_ledger: Ledger) -> None:
    """By every way in, from the run itself and from another thread; other sessions go on; then it is free again."""
    told: list[BaseException] = []

    def attempts(task: Task) -> Report:
        asked: Any = {"messages": [("user", "me too")]}

        async def run() -> None:
            await app.ainvoke(asked, session())

        async def read() -> None:
            async for _ in app.astream(asked, session()):
                pass

        def update() -> None:
            app.update_state(session(), {"gaps": ["mine"]}, as_node="report")

        ways = (
            lambda: app.invoke(asked, session()),
            lambda: list(app.stream(asked, session())),
            lambda: asyncio.run(run()),
            lambda: asyncio.run(read()),
            update,
        )

        def all_ways() -> None:
            for way in ways:
                try:
                    way()
                except SessionBusy as busy:
                    told.append(busy)

        if not told:  # the run in the other session asks nobody
            thread = threading.Thread(target=all_ways)
            thread.start()
            thread.join()
            ask(app, name="s-2")
        return Report(answer="one")

    app = build(any_ledger, [free("a", attempts)])
    assert answer_of(ask(app)) == "one"
    assert len(told) == 5
    assert answer_of(ask(app, "again")) == "one"
    assert leases(any_ledger) == ["taken", "released"] * 2


def test_who_asks_to_wait_waits(ledger: Ledger) -> None:
    """`wait_seconds` in the run's config, or as the saver's own setting."""
    inside, leave = threading.Event(), threading.Event()

    def slow(task: Task) -> Report:
        inside.set()
        leave.wait()
        return Report(answer="one")

    app = build(ledger, [free("a", slow)])
    first = threading.Thread(target=ask, args=(app,))
    first.start()
    inside.wait()
    patient = build(ledger, [free("a", slow)], checkpointer=SQLAlchemySaver(ledger.database, wait_seconds=60))
    waiting = [
        threading.Thread(target=ask, args=(patient,)),
        threading.Thread(target=app.invoke, args=({"messages": [("user", "x")]}, session(wait_seconds=60))),
    ]
    for thread in waiting:
        thread.start()
    leave.set()
    for thread in (first, *waiting):
        thread.join()
    assert leases(ledger) == ["taken", "released"] * 3
    [state] = [app.get_state(session()).values]
    assert len(state["messages"]) == 6


def test_a_stream_that_is_left_early_lets_go(ledger: Ledger) -> None:
    """Closed, or forgotten: the session is free, and can be resumed."""
    app = build(ledger, [free("a", lambda task: Report(answer="one"))])
    asked: Any = {"messages": [("user", "x")]}
    stream = app.stream(asked, session())
    next(stream)
    with pytest.raises(SessionBusy):
        app.invoke(None, session())
    stream.close()

    async def read() -> None:
        chunks = app.astream(None, session())
        await anext(chunks)
        await chunks.aclose()

    asyncio.run(read())
    assert answer_of(app.invoke(None, session())) == "one"


def test_a_run_that_fails_lets_go(ledger: Ledger) -> None:
    """A keyboard interrupt in the middle of a node."""

    def handler(task: Task) -> Report:
        if not done:
            done.append(1)
            raise KeyboardInterrupt
        return Report(answer="one")

    done: list[int] = []
    app = build(ledger, [free("a", handler)])
    with pytest.raises(KeyboardInterrupt):
        ask(app)
    assert answer_of(app.invoke(None, session())) == "one"


def test_two_processes_run_one_session(any_ledger: Ledger) -> None:
    """Nothing is lost, nothing forked, and every refusal is clean."""
    with process(any_ledger, "count", "a", str(RUNS)) as one, process(any_ledger, "count", "b", str(RUNS)) as two:
        for running in (one, two):
            out, errors = running.communicate()
            assert running.returncode == 0, errors
            json.loads(out)
    saver = SQLAlchemySaver(any_ledger.database)
    app = plain(saver)
    wanted = sorted(f"{name} {run}{done}" for name in "ab" for run in range(RUNS) for done in ("", " done"))
    state = app.get_state({"configurable": {"thread_id": SESSION}})
    assert sorted(state.values["notes"]) == wanted
    history = list(saver.list({"configurable": {"thread_id": SESSION}}))
    parents = [one.parent_config["configurable"]["checkpoint_id"] for one in history if one.parent_config]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    assert len(parents) == len(set(parents)) == len(history) - 1


def test_the_session_of_a_killed_process_is_taken_over_at_once(any_ledger: Ledger) -> None:
    """On its own host, within its lease; the log tells of it, and the request goes on under its budget."""
    app = build(any_ledger, [free("a", lambda task: Report(answer="mine"))])
    with process(any_ledger, "hang") as running:
        assert running.stdout
        assert running.stdout.readline() == "inside\n"
        with pytest.raises(SessionBusy, match=f"process {running.pid} "):
            app.invoke(None, session())
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert answer_of(app.invoke(None, session())) == "mine"
    assert leases(any_ledger) == ["taken", "taken_over", "released"]


def test_a_live_owner_is_superseded_on_purpose_only(any_ledger: Ledger) -> None:
    """With `take_over`; what the first owner still writes is refused, and nothing of it is in the answer."""
    app = build(any_ledger, [free("a", lambda task: Report(answer="mine"))])
    with process(any_ledger, "hang") as running:
        assert running.stdout
        assert running.stdout.readline() == "inside\n"
        assert answer_of(app.invoke(None, session(take_over=True))) == "mine"
        out, errors = running.communicate("")
        assert out == "lost\n", errors
    assert answer_of(app.invoke(None, session())) == "mine"
    assert "take_over" not in str([one.metadata for one in app.get_state_history(session())])


def test_a_superseded_owner_pays_for_nothing(any_ledger: Ledger) -> None:
    """Its next paid call is refused before it is held or sent; its hold in flight is of unknown end."""
    holding, sent = threading.Event(), threading.Event()

    def slow(messages: list[BaseMessage]) -> str:
        holding.set()
        sent.wait()
        return "one"

    def handler(task: Task) -> Report:
        said = priced(first).invoke(task.text).text
        return Report(answer=said + priced(first).invoke("more").text)

    with scripted(slow) as first, scripted("two") as second:
        superseded = build(any_ledger, [specialist("a", handler)])
        told: list[BaseException] = []

        def run() -> None:
            try:
                ask(superseded)
            except BaseException as error:  # noqa: BLE001 - looked at below
                told.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        holding.wait()
        app = build(any_ledger, [specialist("a", priced(second))])
        assert answer_of(app.invoke(None, session(take_over=True))) == "two"
        sent.set()
        thread.join()
        assert len(told) == 1
        assert len(first.calls) == 1
    assert [hold.state for hold in any_ledger.open_holds()] == ["unknown"]
    assert any_ledger.spend("s-1").spent == USD("0.006")


def test_other_checkpointers_are_not_fenced(ledger: Ledger) -> None:
    """A graph over LangGraph's own saver, or none, runs as any graph does."""
    for saver in (InMemorySaver(), None):
        app = build(ledger, [free("a", lambda task: Report(answer="one"))], checkpointer=saver)
        assert answer_of(ask(app, name=f"s-{saver is None}")) == "one"


def test_time_travel_and_forks_are_runs_like_any_other(ledger: Ledger) -> None:
    """From an earlier checkpoint, and from an update of state, under a lease each."""
    app = build(ledger, [free("a", lambda task: Report(answer="one"))])
    ask(app)
    [early] = [one for one in app.get_state_history(session()) if one.next == ("a",)]
    assert answer_of(app.invoke(None, early.config)) == "one"
    forked = app.update_state(early.config, {"gaps": ["edited"]}, as_node="supervisor")
    assert answer_of(app.invoke(None, forked)) == "one"


def test_lease_lost_is_a_refusal() -> None:
    """So that neither LangGraph retries it nor a tool node turns it into text."""
    assert issubclass(LeaseLost, Exception)
    assert LeaseLost.__mro__[1].__name__ == "Refused"
