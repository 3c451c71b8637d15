"""SIGTERM: steps in flight finish and are kept, nothing else begins, and every session is resumed for what is left."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from sqlalchemy import select

from bursar import Ledger, drain_on_sigterm
from bursar.checkpoints.schema.lease_table import leases
from bursar.genie.household.sample import sample_files
from bursar.state.errors import ConfigurationError
from bursar.state.events import Drained, RunEnded
from tests.crash.programs import drained, victim
from tests.crash.programs.lines import running
from tests.support.graphs import NANOS_PER_WORD, answer_of, ask, build, free, session
from tests.support.provider import Provider, Reply

WAIT_SECONDS = 60


def _drain(url: str, how: str, *, ended: int, inside: int = 1, goes_on: bool = True) -> None:
    """Tell the program to end while handlers run; so many of its runs then end as drained, and it by itself."""
    with running("tests.crash.programs.drained", url, how) as process:
        process.says("inside", inside)
        process.send_sigterm()
        process.says("told")
        if goes_on:
            process.go_on()
        process.says("drained SIGTERM", ended)
        assert process.ends() == 0


@contextmanager
def _resuming(url: str, how: str) -> Generator[tuple[Any, Ledger]]:
    """The program once more, whose handlers wait no longer; its books must verify."""
    go = threading.Event()
    go.set()
    app, ledger = drained.program(url, how, go)
    yield app, ledger
    assert ledger.verify()
    ledger.database.close()


def _kinds(ledger: Ledger, name: str) -> list[str]:
    return [row.kind for row in ledger.audit(name)]


def _owners(ledger: Ledger) -> list[str]:
    """Who owns a session, for each that somebody does."""
    query = select(leases.c.owner).where(leases.c.owner != "")
    return [owner for (owner,) in ledger.database.run(lambda connection: connection.execute(query).all())]


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_twenty_sessions_of_a_server_are_left_resumable(url: str, how: str) -> None:
    """Told to end while twenty handlers run: each ends, its run is booked, its fallback waits for the resume."""
    _drain(url, how, ended=drained.MANY + 1, inside=drained.MANY)
    with _resuming(url, how) as (app, ledger):
        assert _owners(ledger) == []
        for number in range(drained.MANY):
            name = f"s-{number}"
            assert [row.event.reason for row in ledger.audit(name) if isinstance(row.event, Drained)] == ["SIGTERM"]
            assert _kinds(ledger, name).count("run_ended") == 1
            assert app.get_state(session(name)).next == ("a.helps",)
            assert ledger.spend(name).spent.nanos == NANOS_PER_WORD
            assert answer_of(app.invoke(None, session(name))).startswith("helped: yes")
            assert ledger.spend(name).spent.nanos == 2 * NANOS_PER_WORD
            assert _kinds(ledger, name).count("call_held") == 2
            assert _kinds(ledger, name).count("request_opened") == 1


def test_a_request_that_comes_while_a_process_drains_is_kept(url: str) -> None:
    """Nothing of it begins; resumed elsewhere it is answered."""
    _drain(url, "one", ended=2)
    with _resuming(url, "one") as (app, ledger):
        assert "late" not in [row.session_id for row in ledger.sessions()]
        assert answer_of(app.invoke(None, session("late"))).startswith("helped: yes")


def test_a_handler_that_hangs_is_waited_for_until_its_deadline(url: str) -> None:
    """Then the process ends by itself, and the fallback is the next process's."""
    _drain(url, "hang", ended=2, goes_on=False)
    with _resuming(url, "hang") as (app, ledger):
        assert _owners(ledger) == []
        [ended] = [row.event for row in ledger.audit("s-0") if isinstance(row.event, RunEnded)]
        assert ended.limit == "deadline"
        assert answer_of(app.invoke(None, session("s-0"))).startswith("helped: yes")
        assert ledger.spend("s-0").spent.nanos == 2 * NANOS_PER_WORD


def test_the_second_sigterm_ends_the_process_at_once(url: str) -> None:
    """With a handler in flight and its session owned; the resume takes it over and pays nothing twice."""
    with running("tests.crash.programs.drained", url, "one") as process:
        process.says("inside")
        process.send_sigterm()
        process.says("told")
        process.send_sigterm()
        assert process.ends() == -signal.SIGTERM
    with _resuming(url, "one") as (app, ledger):
        assert len(_owners(ledger)) == 1
        assert answer_of(app.invoke(None, session("s-0"))).startswith("helped: yes")
        assert _owners(ledger) == []
        assert ledger.spend("s-0").spent.nanos == 2 * NANOS_PER_WORD
        assert _kinds(ledger, "s-0").count("call_held") == 2


def test_a_graph_that_is_a_handler_stops_between_its_steps(url: str) -> None:
    """Its run has not ended: resumed, it begins anew, and the call that it had paid for is not paid again."""
    _drain(url, "graph", ended=2)
    with _resuming(url, "graph") as (app, ledger):
        assert "run_ended" not in _kinds(ledger, "s-0")
        assert app.get_state(session("s-0")).next == ("a",)
        assert answer_of(app.invoke(None, session("s-0"))).startswith("stepped: yes")
        assert ledger.spend("s-0").spent.nanos == 2 * NANOS_PER_WORD
        assert _kinds(ledger, "s-0").count("call_held") == 2


def test_a_graph_of_ones_own_drains_by_its_control(url: str) -> None:
    """LangGraph's own code over the checkpointer: the second node is left to the resume."""
    _drain(url, "plain", ended=1)
    result = drained.plain(url, threading.Event(), None)
    assert [message.text for message in result["messages"]] == ["one", "two"]


def test_the_command_line_says_how_to_go_on(tmp_path: Path, provider: Provider, processes: ForkServerContext) -> None:
    """`bursar ask` told to end while a model writes: the answer that was paid for is kept, one line, 143."""
    output, database = tmp_path / "output", f"sqlite:///{tmp_path}/genie.db"
    settings = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": provider.url, "BURSAR_DATABASE": database}
    environment = {**settings, "COLUMNS": "200"}

    def bursar(*arguments: str) -> int | None:
        process = processes.Process(target=victim.command, args=([*arguments], environment, str(output)))
        process.start()
        process.join(WAIT_SECONDS)
        return process.exitcode

    assert bursar("import", *map(str, sample_files())) == 0, output.read_text()
    answered = threading.Event()
    provider.default = Reply(text="ok", waits_for=answered)
    asked = ["ask", "Is there anything suspicious on my accounts?", "--session", "s-1"]
    asking = processes.Process(target=victim.command, args=(asked, environment, str(output)))
    asking.start()
    assert provider.arrived.wait(WAIT_SECONDS)
    assert asking.pid is not None
    os.kill(asking.pid, signal.SIGTERM)
    answered.set()
    asking.join(WAIT_SECONDS)
    assert asking.exitcode == 143
    kept = "the step it was in is finished and kept"
    assert output.read_text().splitlines() == [f"bursar: told to end; {kept}; go on with: bursar resume s-1"]
    sent = len(provider.requests)
    assert bursar("resume", "s-1") in {0, 1}, output.read_text()
    ledger = Ledger(database)
    assert len(provider.requests) == sent
    assert ledger.open_holds() == []
    assert ledger.spend("s-1").spent.nanos == provider.billed
    assert "drained" in _kinds(ledger, "s-1")
    assert ledger.verify()
    ledger.database.close()


def test_after_the_block_all_is_as_before() -> None:
    """The handler that was there is there again, also where blocks are nested."""
    before = signal.getsignal(signal.SIGTERM)
    with drain_on_sigterm() as outer, drain_on_sigterm() as inner:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (outer.drain_reason, inner.drain_reason) == ("SIGTERM", "SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_with_a_control_of_its_own_listens_to_that(tmp_path: Path) -> None:
    """LangGraph's `control=` drains one run of a supervisor's graph; the process's own does not then."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    app = build(ledger, [free("a", lambda task: "one")])
    control = RunControl()
    control.request_drain("moved")
    with pytest.raises(GraphDrained, match="moved"):
        app.invoke({"messages": [("user", "how much?")]}, session(), control=control)
    assert answer_of(app.invoke(None, session())) == "one"
    with drain_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        found = app.invoke({"messages": [("user", "and now?")]}, session("s-2"), control=RunControl())
        assert answer_of(found) == "one"
        with pytest.raises(GraphDrained, match="SIGTERM"):
            ask(app, name="s-3")
    ledger.database.close()


def test_only_the_main_thread_can_listen() -> None:
    """Elsewhere it is told, and nothing is changed."""
    told: list[BaseException] = []

    def listen() -> None:
        try:
            with drain_on_sigterm():
                raise AssertionError
        except ConfigurationError as error:
            told.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert len(told) == 1
