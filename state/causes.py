"""The causes of an exception: what it was raised from, one after the other."""

from collections.abc import Iterator

MAX_CAUSES = 20  # a chain may be a ring


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception itself, then the exception that it was raised from or while handling, and so on."""
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
