"""A user's interrupt at any instant of work on SQLite: nobody waits for ever, and each is told what is true."""

import asyncio
import dis
import inspect
import itertools
import sqlite3
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

import pytest
from sqlalchemy import Connection, text

from bursar import checkpoints
from bursar.checkpoints.database.connections import DriverConnection
from bursar.checkpoints.database.database import Database, Work
from bursar.checkpoints.database.job import Wakeup
from bursar.state.errors import DatabaseError
from tests.support.notes import Busy, add, notes, noting

pytestmark = pytest.mark.slow

SECONDS = 20  # within which a thread that does not wait for ever has ended
INSTANTS = 250  # more than there are
OURS = str(Path(checkpoints.__file__).parent)


class Interrupt:
    """Interrupts the block at the given one of the instants at which CPython looks for signals, in Bursar's own code.

    They are after each call and at the start of each function; those at the end of a loop's round are left out, for not
    every Python traces all instructions there.
    """

    def __init__(self, at: int) -> None:
        self.left = at
        self._behind: dict[FrameType, int] = {}  # the instruction behind the call that is going on

    @property
    def raised(self) -> bool:
        return self.left == 0

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS) or frame.f_code.co_flags & inspect.CO_GENERATOR:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "call":
            self._look()
        elif event == "exception":  # from a call: one does not look for signals on the way to a handler
            self._behind.pop(frame, None)
        elif event == "opcode":
            if self._behind.pop(frame, None) == frame.f_lasti:
                self._look()
            if (behind := _behind_calls(frame.f_code).get(frame.f_lasti)) is not None:
                self._behind[frame] = behind
        return self._trace

    def _look(self) -> None:
        self.left -= 1
        if self.raised:
            raise KeyboardInterrupt


@cache
def _behind_calls(code: CodeType) -> dict[int, int]:
    return {
        one.offset: behind.offset
        for one, behind in itertools.pairwise(dis.get_instructions(code))
        if one.opname.startswith("CALL")
    }


class Other:
    """Another thread's work, which adds note b, and what that thread is told of it."""

    def __init__(self, database: Database, work: Work[str] | None = None) -> None:
        self.told: str | None = None
        self._database, self._work = database, work or noting("b")
        self.thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        try:
            self.told = self._database.run(self._work)
        except DatabaseError:
            self.told = "refused"

    def beside(self, connection: Connection) -> str:
        """Work of the main thread, which adds note a when the other has asked: it joins the same transaction."""
        if self.thread.ident is None:  # else it is done again
            self.thread.start()
            while not self._database._queue:  # pyright: ignore[reportPrivateUsage]
                time.sleep(0)
        return add("a", connection)

    def check(self, at: int) -> None:
        """It was told in time, and the truth; interrupted work is done once at most. Afterwards the table is empty."""
        # Interrupted work is done again by another thread, which may start this one: what is asked now comes after it.
        self._database.run(lambda _: None)
        if self.thread.ident is not None:
            self.thread.join(SECONDS)
            assert self.told is not None, f"waits for ever after an interrupt at instant {at}"
        kept = notes(self._database)
        assert kept.count("b") == (1 if self.told == "b" else 0), f"told {self.told} after an interrupt at {at}"
        assert kept.count("a") <= 1, f"done twice after an interrupt at {at}"
        self._database.run(lambda connection: connection.execute(text("DELETE FROM notes")))


@pytest.mark.parametrize("commits", ["commits", "fails"])
def test_an_interrupt_while_leading(lite: Database, monkeypatch: pytest.MonkeyPatch, commits: str) -> None:
    """The main thread does another's work with its own, whether the commit is made or not."""
    failing: list[str] = []

    def commit(held: DriverConnection) -> None:
        if failing and threading.current_thread() is threading.main_thread():
            failing.clear()
            drivers[0].execute("ROLLBACK")  # at one stroke, as a full disk does
            raise sqlite3.OperationalError("database or disk is full")
        committed(held)

    committed = DriverConnection.commit
    drivers: list[Any] = [lite.run(lambda connection: connection.connection.driver_connection)]
    monkeypatch.setattr(DriverConnection, "commit", commit)
    raised = 0
    for at in range(1, INSTANTS):
        other = Other(lite)
        failing[:] = ["once"] * (commits == "fails")
        with Interrupt(at) as interrupt, suppress(DatabaseError):
            lite.run(other.beside)
        failing.clear()
        other.check(at)
        raised += interrupt.raised
    assert raised > 20


def test_an_interrupt_while_waiting(lite: Database) -> None:
    """The main thread waits for a third one that has the connection, with another behind it or before it."""
    queue = lite._queue  # pyright: ignore[reportPrivateUsage]
    raised = 0
    for at in range(1, INSTANTS):
        other, begun, over = Other(lite), threading.Event(), threading.Event()

        def work(connection: Connection, other: Other = other, begun: Any = begun, over: Any = over) -> None:
            begun.set()
            while not (queue or over.is_set()):  # until the main thread has asked, or was interrupted before
                time.sleep(0)
            other.thread.start()
            while len(queue) < 2 and not (queue and over.is_set()):
                time.sleep(0)

        third = threading.Thread(target=partial(lite.run, work, readonly=True))
        third.start()
        begun.wait(SECONDS)
        with Interrupt(at) as interrupt:
            lite.run(noting("a"))
        over.set()
        third.join(SECONDS)
        other.check(at)
        raised += interrupt.raised
    assert raised > 20


def test_an_interrupt_on_an_event_loop(lite: Database) -> None:
    """Brief work is done on the loop, in the main thread, while another thread waits for the connection."""
    lite.run(noting())  # it is open now: brief work waits for no disk
    raised = 0
    for at in range(1, INSTANTS):
        other = Other(lite)
        asked = lite.arun(other.beside, durable=False, brief=True)
        with Interrupt(at) as interrupt, suppress(StopIteration):
            asked.send(None)
        asked.close()
        other.check(at)
        raised += interrupt.raised
    assert raised > 20


def test_an_interrupted_caller_holds_nobody_up(lite: Database) -> None:
    """Who is interrupted while it waits leaves its turn to those behind it."""
    done: list[str] = []
    other = threading.Thread(target=lambda: done.append(lite.run(noting("b"))))

    class Interrupting(Wakeup):
        def wait(self) -> None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, Busy(lite) as busy:
        patch.setattr("bursar.checkpoints.database.database.Wakeup", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            lite.run(noting("a"))
        patch.undo()
        other.start()
        busy.go_on()
    other.join(20)
    assert done == ["b"]


def test_an_interrupt_ends_its_own_work_only(lite: Database) -> None:
    """A user's interrupt in the middle of shared work undoes it; the work of others is done in its turn."""

    def interrupt(connection: Connection) -> str:
        raise KeyboardInterrupt

    def ask(done: list[str]) -> None:
        done.append(asyncio.run(lite.arun(noting("b"))))

    for _ in range(10):
        done: list[str] = []
        lite.run(lambda connection: connection.execute(text("DELETE FROM notes")))
        thread = threading.Thread(target=ask, args=(done,))
        with Busy(lite) as busy:
            thread.start()
            threading.Thread(target=busy.go_on).start()
            with pytest.raises(KeyboardInterrupt):
                lite.run(interrupt)
        thread.join(20)
        assert done == ["b"]
        assert notes(lite) == ["b"]


def test_an_interrupt_in_anothers_work_is_not_told_to_its_caller(lite: Database) -> None:
    """The user interrupts the main thread while it does what another thread waits for: that is done all the same."""
    times: list[threading.Thread] = []

    def work(connection: Connection) -> str:
        times.append(threading.current_thread())
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return add("b", connection)

    other = Other(lite, work)
    with pytest.raises(KeyboardInterrupt):
        lite.run(other.beside)
    other.thread.join(SECONDS)
    assert other.told == "b"
    assert threading.main_thread() in times
    assert "b" in notes(lite)


class Interrupted(deque[Any]):
    """A queue whose first job is asked for by the main thread, which the user interrupts while it takes that."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when
        self.asked = [threading.Event(), threading.Event()]
        self.interrupted = False

    def append(self, job: object, /) -> None:
        super().append(job)
        self.asked[len(self) - 1].set()

    def popleft(self) -> object:
        if self.interrupted:
            return super().popleft()
        self.interrupted = True
        assert threading.current_thread() is threading.main_thread()
        if self.when == "after":
            super().popleft()
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_loses_nothing_that_is_being_taken(lite: Database, when: str) -> None:
    """Who is interrupted on the way from the queue to the transaction leaves the work of others, and leaves it once."""
    queue, done, begun = Interrupted(when), list[str](), list[str]()

    def counted(name: str) -> Work[str]:
        def work(connection: Connection) -> str:
            begun.append(name)
            return add(name, connection)

        return work

    def ask() -> None:
        assert queue.asked[0].wait(60)
        done.append(lite.run(counted("b")))

    def free() -> None:
        assert queue.asked[1].wait(60)
        busy.go_on()

    threads = [threading.Thread(target=ask), threading.Thread(target=free)]
    with Busy(lite) as busy:
        lite._queue = queue  # pyright: ignore[reportPrivateUsage]
        for thread in threads:
            thread.start()
        with pytest.raises(KeyboardInterrupt):
            lite.run(counted("a"))
    for thread in threads:
        thread.join(20)
    assert done == ["b"]
    assert begun == notes(lite) == ["a", "b"]
