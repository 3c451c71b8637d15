"""`kill -9` of eight paid sessions with three calls in flight each, then a resume that looks the calls up."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

import pytest

from bursar import Ledger
from tests.support.graphs import answer_of, session
from tests.support.look_up import three_in_flight
from tests.support.look_up.storing_provider import WAIT_SECONDS, PatientEvent, StoringProvider, storing
from tests.support.provider import Reply

__all__ = ["storing"]

SESSIONS = [f"s-{number}" for number in range(8)]
IN_FLIGHT = len(SESSIONS) * len(three_in_flight.QUESTIONS)


@contextmanager
def _killed_with_all_in_flight(
    url: str, provider: StoringProvider, processes: ForkServerContext, *, store: bool
) -> Generator[None]:
    """Start a process for each session, and kill them all when the provider has all their calls and no answer is out.

    The block runs when the provider has finished all the answers, which nobody received.
    """
    answered = PatientEvent()
    provider.default = Reply(waits_for=answered)
    running: list[BaseProcess] = []
    for name in SESSIONS:
        process = processes.Process(target=three_in_flight.ask, args=(url, provider.url, name, store))
        process.start()
        running.append(process)
    assert provider.has(requests=IN_FLIGHT)
    for process in running:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    for process in running:
        process.join(WAIT_SECONDS)
        assert process.exitcode == -signal.SIGKILL
    provider.default = Reply()
    answered.set()
    assert provider.has(stored=IN_FLIGHT if store else 0)
    yield


def _charged(ledger: Ledger) -> int:
    return sum(ledger.spend(name).spent.nanos for name in SESSIONS)


@pytest.mark.slow
def test_after_a_kill_what_is_charged_is_what_was_billed(
    url: str, storing: StoringProvider, processes: ForkServerContext
) -> None:
    """The provider stored the answers after the kill. Each session is resumed by them: nothing is paid twice."""
    with _killed_with_all_in_flight(url, storing, processes, store=True):
        app, ledger = three_in_flight.program(url, storing.url, store=True)
        assert _charged(ledger) == 0
        assert len(ledger.open_holds()) == IN_FLIGHT

        answers = [answer_of(app.invoke(None, session(name))) for name in SESSIONS]

        assert answers == ["all is well; all is well; all is well"] * len(SESSIONS)
        assert len(storing.requests) == IN_FLIGHT
        assert _charged(ledger) == storing.billed > 0
        assert ledger.open_holds() == []
        assert [ledger.spend(name).held.nanos for name in SESSIONS] == [0] * len(SESSIONS)
        assert ledger.verify()
        ledger.database.close()


@pytest.mark.slow
def test_without_stored_answers_the_calls_stay_charged_at_their_holds(
    url: str, storing: StoringProvider, processes: ForkServerContext
) -> None:
    """Nobody can look such calls up: they stay unknown, by name, and each request is paid again."""
    with _killed_with_all_in_flight(url, storing, processes, store=False):
        app, ledger = three_in_flight.program(url, storing.url, store=False)
        held = {hold.call_id: hold.amount for hold in ledger.open_holds()}

        answers = [answer_of(app.invoke(None, session(name))) for name in SESSIONS]

        assert answers == ["all is well; all is well; all is well"] * len(SESSIONS)
        assert storing.listings == []
        assert len(storing.requests) == 2 * IN_FLIGHT
        assert {hold.call_id: hold.amount for hold in ledger.open_holds() if hold.state == "unknown"} == held
        assert len(held) == IN_FLIGHT
        assert _charged(ledger) > storing.billed > 0
        assert ledger.verify()
        ledger.database.close()
