"""How foreign code ended, as a value."""

import asyncio

import pytest

from bursar.nodes.isolation.captured import Captured, capture, capture_call


class Panic(BaseException):
    """Neither an Exception nor an exit."""


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), KeyboardInterrupt(), Panic(), GeneratorExit()])
def test_whatever_is_raised_is_kept(error: BaseException) -> None:
    """The block ends, the error is the value, and `result` raises it again."""
    end = Captured[int]()
    with end:
        raise error
    assert end.error is error
    with pytest.raises(type(error)):
        end.result()


@pytest.mark.parametrize("error", [ValueError(), SystemExit()])
def test_a_call_is_captured(error: BaseException) -> None:
    """The function gets its arguments; what it returns or raises is the value that comes back."""

    def raises() -> int:
        raise error

    assert capture_call(divmod, 7, 2).result() == (3, 1)
    assert capture_call(raises).error is error


def test_an_exit_in_a_task_leaves_the_loop_running() -> None:
    """Others on the loop go on."""

    async def exits() -> None:
        raise SystemExit(3)

    async def fine() -> str:
        return "fine"

    async def both() -> tuple[Captured[None], str]:
        one, other = await asyncio.gather(asyncio.create_task(capture(exits)), asyncio.create_task(fine()))
        return one, other

    end, other = asyncio.run(both())
    assert isinstance(end.error, SystemExit)
    assert other == "fine"
