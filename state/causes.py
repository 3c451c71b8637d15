"""`causes`: an exception and the exceptions that led to it."""

from collections.abc import Iterator

MAX_CAUSES = 20  # a chain may be a ring


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, then the exception that led to `error` (its cause or context), and so on, at most `MAX_CAUSES`."""
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
