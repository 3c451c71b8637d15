"""How a piece of work ended, as a value: what it returned, or what it raised, whatever that is."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Captured(Generic[T]):
    """Takes what its block raises, exits and interrupts included; `value` is for the block to set.

    An exit that is raised out of a task stops the whole event loop, and with it everybody else's work; so foreign
    code runs in here, and whoever asked for it decides what goes on.
    """

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None

    def __enter__(self) -> "Captured[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return True

    def result(self) -> T:
        """The value, or what was raised, raised again."""
        if self.error is not None:
            raise self.error
        return cast(T, self.value)


async def capture(work: Callable[[], Awaitable[T]]) -> Captured[T]:
    """Do the work and return how it ended."""
    end = Captured[T]()
    with end:
        end.value = await work()
    return end
