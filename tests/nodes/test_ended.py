"""How foreign code ended, as a value."""

import asyncio

import pytest

from bursar.nodes.ended import Ended, ended, within


class Panic(BaseException):
    """Neither an Exception nor an exit."""


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), KeyboardInterrupt(), Panic(), GeneratorExit()])
def test_whatever_is_raised_is_kept(error: BaseException) -> None:
    """The block ends, the error is the value, and `result` raises it again."""
    end = Ended[int]()
    with end:
        raise error
    assert end.error is error
    with pytest.raises(type(error)):
        end.result()


def test_an_exit_in_a_task_leaves_the_loop_running() -> None:
    """Others on the loop go on."""

    async def exits() -> None:
        raise SystemExit(3)

    async def fine() -> str:
        return "fine"

    async def both() -> tuple[Ended[None], str]:
        one, other = await asyncio.gather(asyncio.create_task(ended(exits)), asyncio.create_task(fine()))
        return one, other

    end, other = asyncio.run(both())
    assert isinstance(end.error, SystemExit)
    assert other == "fine"


def test_the_deadline_ends_the_wait() -> None:
    """Work that is too long is cancelled, work that is done in time is given back."""

    async def forever() -> str:
        await asyncio.sleep(60)
        return "late"

    async def fine() -> str:
        return "fine"

    async def both() -> tuple[Ended[str] | None, Ended[str] | None]:
        return await within(0.01, forever), await within(60, fine)

    late, done = asyncio.run(both())
    assert late is None
    assert done is not None
    assert done.result() == "fine"


def test_cancelling_the_caller_cancels_the_work() -> None:
    """Nothing of it runs on."""
    cancelled: list[bool] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        caller = asyncio.create_task(within(60, work))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()} or {asyncio.create_task(asyncio.sleep(0))})

    asyncio.run(main())
    assert cancelled == [True]
