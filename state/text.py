"""Functions that make others' text fit to keep and to show: on one line, cut, free of what databases refuse."""

MAX_REASON_CHARACTERS = 1_000


def cut(text: str, limit: int) -> str:
    """Return the text itself, or its beginning and an ellipsis, `limit` characters in all."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int | None = None) -> str:
    """Return the text with its white space folded, cut to `limit` characters if there is a limit."""
    folded = " ".join(text.split())
    return folded if limit is None else cut(folded, limit)


def excerpt(text: str, limit: int) -> str:
    """Return the text itself, or its first and last `limit / 2` characters: a question is before or after a paste."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def clean(text: str) -> str:
    """Return `text` as both databases can keep it: no NUL, no lone surrogate, and cut to `MAX_REASON_CHARACTERS`.

    Reasons are often the words of somebody else's exception; recording one must not fail.
    """
    return cut(text, MAX_REASON_CHARACTERS).replace("\x00", "�").encode("utf-8", "replace").decode()
