"""`kill -9` in the middle of a request, then a resume: nothing is lost, paid twice, or granted anew."""

import os
import re
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import select

from bursar import Ledger
from bursar.checkpoints.schema.ledger_tables import accounts
from bursar.genie.household.sample import sample_files
from bursar.state.events import CallHeld, RunEnded
from bursar.state.money import ZERO
from tests.crash.programs import victim
from tests.support.graphs import answer_of, session
from tests.support.provider import Provider, Reply

ANSWER = "Faller\nhelped: all is well\n\nTalker\nall is well; all is well; all is well"
CALLS = ["faller 1", "helper 1", "talker 1", "talker 2", "talker 3"]
WAIT_SECONDS = 60
E = TypeVar("E", CallHeld, RunEnded)


def _caps(ledger: Ledger) -> dict[str, int | None]:
    rows = ledger.database.run(lambda connection: connection.execute(select(accounts.c.scope, accounts.c.cap)).all())
    return {scope: cap for scope, cap in rows}  # noqa: C416 - a row is no pair to the type checker


@contextmanager
def _closing(ledger: Ledger) -> Generator[Ledger]:
    yield ledger
    ledger.database.close()


def _events(ledger: Ledger, kind: type[E]) -> list[E]:
    return [row.event for row in ledger.audit("s-1") if isinstance(row.event, kind)]


def _sent(provider: Provider) -> list[str]:
    return sorted(body["messages"][-1]["content"] for body in provider.requests)


def _run(processes: ForkServerContext, *arguments: str) -> int | None:
    process = processes.Process(target=victim.ask, args=arguments)
    process.start()
    process.join(WAIT_SECONDS)
    return process.exitcode


@pytest.mark.parametrize("place", ["handler", "fallback", "report"])
def test_what_was_settled_before_the_kill_is_not_sent_again(
    place: str, url: str, provider: Provider, processes: ForkServerContext
) -> None:
    """Killed in a handler, a fallback or the report, the resumed request gives the whole answer for one payment."""
    assert _run(processes, url, provider.url, place) == -signal.SIGKILL
    before = _sent(provider)
    app, ledger = victim.program(url, provider.url)
    with _closing(ledger):
        billed, caps, paid = provider.billed, _caps(ledger), ledger.spend("s-1")
        assert paid.spent.nanos + paid.held.nanos >= billed > 0

        result = app.invoke(None, session())

        assert answer_of(result).startswith(ANSWER)
        sent = _sent(provider)
        # The sibling's call may have been in flight when the process died; what was settled was sent once.
        in_flight = [name for name in CALLS if before.count(name) > 0 and sent.count(name) > 1]
        unknown = [hold for hold in ledger.open_holds() if hold.state == "unknown"]
        assert len(in_flight) == len(unknown) == len(ledger.open_holds())
        assert sorted(set(sent)) == CALLS
        assert result["spend"].spent == ledger.spend("s-1").spent
        assert result["spend"].held == ZERO
        assert provider.billed <= result["spend"].spent.nanos <= 30_000_000
        after = _caps(ledger)
        assert {scope: after[scope] for scope in caps} == caps
        runs = [("faller", 0), ("faller", 1), ("talker", 0)]
        assert sorted((run.specialist, run.level) for run in result["runs"]) == runs
        # A run whose end was booked and not yet checkpointed runs again, for nothing, and the log says so.
        assert {(e.specialist, e.level) for e in _events(ledger, RunEnded)} == set(runs)
        assert [row.kind for row in ledger.audit("s-1")].count("request_opened") == 1
        assert [row.kind for row in ledger.audit("s-1")].count("request_closed") == 1
        assert ledger.verify()


def test_a_call_in_flight_at_the_kill_stays_charged_by_name(
    url: str, provider: Provider, processes: ForkServerContext
) -> None:
    """Killed between hold and settlement, the call is unknown and charged at its hold; a new one is paid."""
    answered = threading.Event()
    provider.default = Reply(waits_for=answered)
    process = processes.Process(target=victim.ask, args=(url, provider.url, ""))
    process.start()
    assert provider.arrived.wait(WAIT_SECONDS)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(WAIT_SECONDS)
    provider.default = Reply()
    answered.set()
    first = set(_sent(provider))
    app, ledger = victim.program(url, provider.url)
    with _closing(ledger):
        held = {hold.call_id: hold.amount for hold in ledger.open_holds()}
        assert held

        result = app.invoke(None, session())

        assert answer_of(result).startswith(ANSWER)
        unknown = {hold.call_id: hold.amount for hold in ledger.open_holds() if hold.state == "unknown"}
        assert unknown == held
        assert first <= {"faller 1", "talker 1"}
        assert provider.billed <= result["spend"].spent.nanos
        assert result["spend"].unknown == len(held)
        assert len(_events(ledger, CallHeld)) == len(CALLS) + len(held)
        for call_id in unknown:
            ledger.reconcile(call_id, 0)
        assert ledger.open_holds() == []
        assert ledger.verify()


def test_the_command_line_resumes_a_killed_request(
    tmp_path: Path, provider: Provider, processes: ForkServerContext
) -> None:
    """`bursar ask` killed while a model writes, then `bursar resume`: the answer, and the call under its name."""
    output, database = str(tmp_path / "output"), f"sqlite:///{tmp_path}/genie.db"
    environment = {
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": provider.url,
        "BURSAR_DATABASE": database,
        "COLUMNS": "200",
    }

    def bursar(*arguments: str) -> int | None:
        process = processes.Process(target=victim.command, args=([*arguments], environment, output))
        process.start()
        process.join(WAIT_SECONDS)
        return process.exitcode

    assert bursar("import", *map(str, sample_files())) == 0, Path(output).read_text()
    answered = threading.Event()
    provider.default = Reply(waits_for=answered)
    question = "Is there anything suspicious on my accounts?"
    asking = processes.Process(target=victim.command, args=(["ask", question, "--session", "s-1"], environment, output))
    asking.start()
    assert provider.arrived.wait(WAIT_SECONDS)
    assert asking.pid is not None
    os.kill(asking.pid, signal.SIGKILL)
    asking.join(WAIT_SECONDS)
    provider.default = Reply(text="ok")
    answered.set()

    assert bursar("resume", "s-1") in {0, 1}, Path(output).read_text()

    shown = Path(output).read_text()
    assert re.search(r"suspicious|charge|duplicate", shown), shown
    with _closing(Ledger(database)) as ledger:
        assert [hold.state for hold in ledger.open_holds()] == ["unknown"]
        kinds = [row.kind for row in ledger.audit("s-1")]
        assert kinds.count("request_opened") == kinds.count("request_closed") == kinds.count("call_unknown") == 1
        assert ledger.spend("s-1").spent.nanos >= provider.billed
        assert ledger.verify()
