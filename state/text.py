"""Functions that make foreign text fit to store and to show: on one line, cut, without characters databases refuse."""

MAX_REASON_CHARACTERS = 1_000


def cut(text: str, limit: int) -> str:
    """Return the text. If it is longer than `limit` characters, cut it to `limit`, with an ellipsis at its end."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int | None = None) -> str:
    """Return the text on one line, with each run of white space as one space. If `limit` is given, `cut` the text."""
    folded = " ".join(text.split())
    return folded if limit is None else cut(folded, limit)


def excerpt(text: str, limit: int) -> str:
    """Return the text. If it is longer than `limit` characters, return its first and last `limit // 2` characters.

    So a question before or after a long pasted text is kept.
    """
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def clean(text: str) -> str:
    """Return `text`, such as the reason of a failure, as SQLite and PostgreSQL can store it.

    The result has no NUL and no lone surrogate, and is cut to `MAX_REASON_CHARACTERS`. A reason is often the message of
    somebody else's exception, and recording a reason must not fail.
    """
    return cut(text, MAX_REASON_CHARACTERS).replace("\x00", "�").encode("utf-8", "replace").decode()
