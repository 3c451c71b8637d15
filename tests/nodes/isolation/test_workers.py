"""Where handlers run: apart, to their deadlines, and stopped when they go on without their run."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import pytest

from bursar.checkpoints.database.stop_guard import shielded
from bursar.nodes.isolation import workers as apart
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.handler_loop import HandlerStopped
from bursar.nodes.isolation.workers import TooManyAbandoned, abandoned_count, run_coroutine, run_in_thread
from bursar.state.errors import BursarError

T = TypeVar("T")
BEGUN_SECONDS = 2.0  # a deadline before which a thread has begun, on a busy machine too
PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    assert holds()


async def _either(deed: Callable[[], Any], *, plain: bool, seconds: float) -> Captured[Any] | None:
    """Run a plain function in a thread, or as a coroutine."""

    async def coroutine() -> Any:
        return deed()

    return await (
        run_in_thread("a", deed, seconds=seconds)
        if plain
        else run_coroutine("a", coroutine, seconds=seconds, apart=True)
    )


@pytest.mark.parametrize("plain", [True, False])
def test_work_runs_elsewhere_in_the_callers_context(plain: bool) -> None:
    """Another thread, the same context variables; what is raised comes back as a value."""
    PLACE.set("here")

    def looks() -> tuple[str, int]:
        return PLACE.get(), threading.get_ident()

    def raises() -> None:
        raise SystemExit(3)

    end = asyncio.run(_either(looks, plain=plain, seconds=20))
    assert end is not None
    place, thread = end.result()
    assert (place, thread == threading.get_ident()) == ("here", False)
    end = asyncio.run(_either(raises, plain=plain, seconds=20))
    assert end is not None
    assert isinstance(end.error, SystemExit)


@pytest.mark.parametrize("plain", [True, False])
def test_what_computes_for_ever_is_stopped(plain: bool) -> None:
    """At the deadline there is no value; soon after, the work has been stopped where it was."""
    ends: list[BaseException] = []

    def spins() -> None:
        until = time.monotonic() + 60
        try:
            while time.monotonic() < until:
                pass
        except BaseException as error:
            ends.append(error)
            raise

    assert asyncio.run(_either(spins, plain=plain, seconds=BEGUN_SECONDS)) is None
    _until(lambda: abandoned_count("a") == 0)
    assert [type(error) for error in ends] == [HandlerStopped]


def test_a_stop_hits_only_what_was_left_behind() -> None:
    """Also where the deadline passes before the thread has begun, and beside work that keeps Python busy."""

    def spins(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    async def one() -> list[object]:
        others: list[object] = []
        for number in range(60):
            await run_in_thread("spins", partial(spins, 0.008), seconds=0.001 * (number % 10))
            end = await run_in_thread("follows", lambda: 1, seconds=20)
            others.append(None if end is None else end.error or end.value)
        return others

    async def three() -> list[list[object]]:
        return list(await asyncio.gather(one(), one(), one()))

    assert asyncio.run(three()) == [[1] * 60] * 3
    _until(lambda: abandoned_count("spins") == abandoned_count("follows") == 0)  # not what other tests left


def test_no_stop_outlives_the_thread_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that a stop ends waits for another stop that is under way: a new thread may get its number."""
    struck, held = threading.Event(), threading.Event()

    class Struck(Captured[T]):
        def __init__(self) -> None:
            struck.set()
            held.wait(20)
            raise HandlerStopped  # the stop strikes here, when the function has not begun

    monkeypatch.setattr(apart, "Captured", Struck)

    async def made() -> Any:
        return apart._Thread("a", lambda: None)  # pyright: ignore[reportPrivateUsage]

    work = asyncio.run(made())
    work.start()
    assert struck.wait(20)
    with work._lock:  # as `stop_thread` holds it while it stops the thread
        held.set()
        work._thread.join(0.2)
        assert (work._thread.is_alive(), work.over) == (True, False)
    work._thread.join(20)
    assert (work._thread.is_alive(), work.over) == (False, True)


def test_a_shielded_section_is_not_stopped_in_its_middle() -> None:
    """It goes to its end, and the work is stopped after it."""
    reached: list[str] = []

    def works() -> None:
        until = time.monotonic() + 60
        with shielded():
            begun = time.monotonic()
            while time.monotonic() < begun + BEGUN_SECONDS + 0.3:
                pass
            reached.append("the end of the section")
        while time.monotonic() < until:
            pass
        reached.append("the end of the work")

    assert asyncio.run(run_in_thread("a", works, seconds=BEGUN_SECONDS)) is None
    _until(lambda: abandoned_count("a") == 0)
    assert reached == ["the end of the section"]


def test_cancelling_the_caller_cancels_the_work() -> None:
    """Nothing of it runs on."""
    begun, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def main() -> None:
        caller = asyncio.create_task(run_coroutine("a", work, seconds=60, apart=True))
        await asyncio.to_thread(begun.wait, 20)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(main())
    assert cancelled.wait(20)
    _until(lambda: abandoned_count("a") == 0)


def test_a_handler_that_is_stuck_is_counted_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit nothing more of that agent is started; of another it is."""
    monkeypatch.setattr(apart, "MAX_ABANDONED", 1)
    go = threading.Event()
    assert asyncio.run(run_in_thread("stuck", lambda: go.wait(60), seconds=BEGUN_SECONDS)) is None
    assert abandoned_count("stuck") == 1
    with pytest.raises(TooManyAbandoned, match="handlers of stuck hang"):
        asyncio.run(run_in_thread("stuck", lambda: None, seconds=20))
    other = asyncio.run(run_in_thread("other", lambda: "fine", seconds=20))
    assert other is not None
    assert other.result() == "fine"
    go.set()
    _until(lambda: abandoned_count("stuck") == 0)


def test_the_loop_of_handlers_is_no_place_to_wait_for_oneself() -> None:
    """A sync call of a graph inside an async handler is refused by name, not waited for until the deadline."""
    from bursar.nodes.isolation.sync_bridge import run_sync

    async def nothing() -> None:
        return None

    async def handler() -> None:
        run_sync(nothing)

    end = asyncio.run(run_coroutine("a", handler, seconds=20, apart=True))
    assert end is not None
    assert isinstance(end.error, BursarError)
    assert "use ainvoke" in str(end.error)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_begins_anew() -> None:
    """Threads are not inherited: a child has a loop for handlers of its own."""

    async def answers() -> str:
        return "fine"

    first = asyncio.run(run_coroutine("a", answers, seconds=20, apart=True))
    assert first is not None
    child = os.fork()
    if child == 0:
        end = asyncio.run(run_coroutine("a", answers, seconds=20, apart=True))
        os._exit(0 if end is not None and end.value == "fine" else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
