"""The end of a piece of work as a value: what it returned, or what it raised, exits included."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Captured(Generic[T]):
    """The value of some work, or the error that it raised, exits and interrupts included.

    When a task raises an exit, `asyncio` stops its event loop, and with it all other work on that loop. So foreign code
    is called through this class, and the caller decides what an error means. As a context manager it keeps whatever the
    block raises; the block sets `value`.
    """

    __slots__ = ("error", "value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    def __enter__(self) -> "Captured[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return True

    def result(self) -> T:
        """Return the value; if the work raised an error, raise that error."""
        if self.error is not None:
            raise self.error
        return cast(T, self.value)


def capture_call(function: Callable[..., T], *arguments: object) -> Captured[T]:
    """Call the function, and return its value or the error that it raised. Nothing is raised here."""
    with Captured[T]() as captured:
        captured.value = function(*arguments)
    return captured


async def capture(work: Callable[[], Awaitable[T]]) -> Captured[T]:
    """Await the work, and return its value or the error that it raised. Nothing is raised here."""
    with Captured[T]() as captured:
        captured.value = await work()
    return captured
