"""An observer that raises or hangs costs nobody an answer."""

import asyncio
import logging
from typing import Any

import pytest

from bursar import Ledger
from bursar.nodes.observers import telling
from tests.nodes.observers.diaries import IN_A_REQUEST, Diary, Raising, Stuck, approved, approving, one_payer
from tests.support.graphs import answer_of, ask

SECRET = "sk-a-key-that-must-not-leak"
PATIENT_SECONDS = 60.0  # more than any busy machine needs for a method that returns


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that returns is waited for, however busy the machine is."""
    monkeypatch.setattr(telling, "MOST_SECONDS", PATIENT_SECONDS)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == telling.__name__]


def test_a_request_is_told_in_order(ledger: Ledger) -> None:
    """From before the graph starts until it has ended."""
    diary = Diary()
    assert answer_of(ask(one_payer(ledger, diary))) == "rice"
    assert diary.methods() == ["for_request", *IN_A_REQUEST]
    [end] = diary.of("request_ended")
    assert (end.ending, end.answer, end.spend.calls) == ("answered", "rice", 1)


@pytest.mark.parametrize("method", ["for_request", *IN_A_REQUEST])
@pytest.mark.parametrize("error", [ValueError(SECRET), SystemExit(SECRET), asyncio.CancelledError(SECRET)], ids=repr)
def test_an_observer_that_raises_costs_nobody_an_answer(
    method: str, error: BaseException, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, without its words, and the observer beside it hears everything."""
    alone, beside, raising = Diary(), Diary(), Raising(method, error)
    ask(one_payer(ledger, alone), name="s-0")
    with caplog.at_level(logging.WARNING):
        result = ask(one_payer(ledger, raising, beside))
    assert (answer_of(result), result["gaps"]) == ("rice", [])
    assert beside.methods() == alone.methods()
    assert raising.methods().count(method) == 1
    [line] = warnings_of(caplog)
    assert f"observer Raising failed in {method} " in line
    assert SECRET not in caplog.text


@pytest.mark.parametrize("method", ["run_stopped", "approval_asked", "approval_ended"])
def test_an_observer_that_raises_at_an_approval_costs_nobody_an_answer(method: str, ledger: Ledger) -> None:
    """Neither the question to the person nor the answer is lost."""
    beside, raising = Diary(), Raising(method, ValueError(SECRET))
    app = approving(ledger, raising, beside)
    assert answer_of(approved(app)) == "paid bob"
    assert raising.methods().count(method) == beside.methods().count(method) == 1


def lose_patience(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for what returns, and not at all for what does not."""
    in_patience = telling.Listener.ask

    def ask_it(listener: telling.Listener, asked: str, *what: object) -> object:
        hangs = asked == stuck.method and not stuck.released.is_set()
        monkeypatch.setattr(telling, "MOST_SECONDS", 0 if hangs else PATIENT_SECONDS)
        return in_patience(listener, asked, *what)

    monkeypatch.setattr(telling.Listener, "ask", ask_it)


@pytest.mark.parametrize("method", ["for_request", *IN_A_REQUEST])
def test_an_observer_that_hangs_is_left_alone_until_it_returns(
    method: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its request has its answer, and so has the next one, at whose start it is not called."""
    stuck = Stuck(method)
    app = one_payer(ledger, stuck, answers=3)
    lose_patience(stuck, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert answer_of(ask(app)) == "rice"
        assert "(ObserverHangs)" in warnings_of(caplog)[0]
        told = len(stuck.told)
        assert answer_of(ask(app)) == "rice"
    assert len(stuck.told) == told, "it was called while it hung"
    stuck.release()
    del stuck.told[:]
    assert answer_of(ask(app)) == "rice"
    assert stuck.methods()[0] == "for_request"
    assert stuck.methods()[-1] == "request_ended"


def test_one_that_hangs_for_a_request_is_not_asked_for_another_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each request would wait for it anew."""
    stuck = Stuck("run_started")

    class Making(Diary):
        def heard(self, method: str, *what: Any) -> Any:
            super().heard(method, *what)
            return stuck

    making = Making()
    app = one_payer(ledger, making, answers=2)
    lose_patience(stuck, monkeypatch)
    assert answer_of(ask(app)) == "rice"
    assert making.methods() == ["for_request"]
    assert answer_of(ask(app)) == "rice"
    assert making.methods() == ["for_request"]
    stuck.release()


def test_nobody_is_told_of_a_request_that_an_observer_declines(ledger: Ledger) -> None:
    """`for_request` returned None."""

    class Declining(Diary):
        def heard(self, method: str, *what: Any) -> Any:
            super().heard(method, *what)

    declining = Declining()
    assert answer_of(ask(one_payer(ledger, declining))) == "rice"
    assert declining.methods() == ["for_request"]
