"""The edge between sync and async: one background loop that nothing can take down."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bursar.nodes.isolation.sync_bridge import run_sync
from bursar.state.errors import BursarError

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


async def _thread() -> str:
    return threading.current_thread().name


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(2), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_raised_reaches_the_caller_and_no_one_else(error: BaseException) -> None:
    """Exits and interrupts too; the loop serves the next caller."""

    async def raises() -> None:
        raise error

    with pytest.raises(type(error)):
        run_sync(raises)
    assert run_sync(_thread) == "bursar-loop"


def test_the_callers_context_is_seen() -> None:
    """Context variables of the caller hold inside."""

    async def read() -> str:
        return word.get()

    word.set("mine")
    assert run_sync(read) == "mine"


def test_many_threads_share_one_loop() -> None:
    """Callers on any thread, inside or outside a running loop, are served by the same loop."""

    async def inside() -> str:
        return run_sync(_thread)

    def call(number: int) -> str:
        return asyncio.run(inside()) if number % 2 else run_sync(_thread)

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(call, range(32)))
    assert set(names) == {"bursar-loop"}


def test_waiting_for_itself_is_refused() -> None:
    """A sync call on the loop itself would wait for ever; it says what to do instead."""

    async def nested() -> str:
        return run_sync(_thread)

    with pytest.raises(BursarError, match="use ainvoke or astream there"):
        run_sync(nested)
