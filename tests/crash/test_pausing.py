"""`bursar pause` from another process: whatever it is doing, a busy process holds no other call from then on."""

import subprocess
import sys
import threading

import pytest

from bursar import Paused
from bursar.state.events import CallHeld, PauseLifted, PauseSet
from tests.crash.programs import paused
from tests.crash.programs.lines import ENVIRONMENT, WAIT_SECONDS, running
from tests.support.graphs import NANOS_PER_WORD, ask


def bursar(*arguments: str) -> None:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "bursar", *arguments]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=WAIT_SECONDS, stdout=subprocess.DEVNULL)


def test_from_its_return_on_nothing_is_dispatched(url: str) -> None:
    """Calls on their way finish and are booked, the next are refused, so are new requests; also after a restart."""
    with running("tests.crash.programs.paused", url) as busy:
        busy.says("sent", paused.MANY)
        bursar("pause", "--database", url, "--by", "ann", "--note", "audit")
        busy.go_on()
        busy.says("answered by rule", paused.MANY)
        busy.says("paused")
        app, ledger = paused.program(url, threading.Event())  # another process, which was not there at the pause
        with pytest.raises(Paused, match=r"everything is paused \(audit\)"):
            ask(app, name="elsewhere")
        bursar("unpause", "--database", url, "--by", "bob")
        busy.go_on()
        busy.says("sent", 2)
        busy.says("answered by itself")
        assert busy.ends() == 0
    [pause, lifted] = ledger.audit("bursar:pauses")
    assert (pause.event, lifted.event) == (
        PauseSet(scope="all", by="ann", note="audit"),
        PauseLifted(scope="all", by="bob"),
    )
    for number in range(paused.MANY):
        [held] = [row for row in ledger.audit(f"s-{number}") if isinstance(row.event, CallHeld)]
        assert held.at < pause.at
        assert ledger.spend(f"s-{number}").spent.nanos == NANOS_PER_WORD
    assert ledger.open_holds() == []
    assert ledger.verify(), str(ledger.verify())
    ledger.database.close()


def test_what_was_not_begun_waits_for_the_end_of_the_pause(url: str) -> None:
    """A request that is stopped before its agent keeps its place, however often it is tried."""
    go = threading.Event()
    go.set()
    app, ledger = paused.program(url, go)
    config = {"configurable": {"thread_id": "s-1", "tenant": "acme"}}
    app.invoke({"messages": [("user", "how much?")]}, config, interrupt_before=["a"])
    bursar("pause", "--database", url)
    for _ in range(2):
        again, books = paused.program(url, go)
        with pytest.raises(Paused):
            again.invoke(None, config)
        books.database.close()
    bursar("unpause", "--database", url)
    assert app.invoke(None, config)["messages"][-1].text.startswith("yesyes")
    assert [row.kind for row in ledger.audit("s-1")].count("request_opened") == 1
    assert ledger.verify()
    ledger.database.close()
