"""Functions that make foreign text fit to store and to show: on one line, cut, without characters databases refuse."""

from typing import TypeVar, cast

from pydantic import BaseModel

from bursar.state.errors import ConfigurationError

T = TypeVar("T")
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


def check_storable(what: str, text: str) -> None:
    """Raise `ConfigurationError`, which names `what`, if a database cannot keep `text`: for a NUL or half a character.

    Half a character is a lone surrogate. SQLite keeps a NUL and PostgreSQL does not, so neither is given one.
    """
    if "\x00" in text or (not text.isascii() and mended(text) is not text):
        raise ConfigurationError(f"{what} {text[:60]!r} holds a NUL or half a character, which no database keeps")


def mended(value: T) -> T:
    """Return `value` with `�` in place of each half character (a lone surrogate) in every text inside it.

    Two halves that belong together become their character. Lists, tuples, dicts and pydantic models, such as messages,
    are looked into; what has no half character is returned as it is, not as a copy.
    """
    return cast("T", _mended(value))


def _mended(value: object) -> object:
    if isinstance(value, str):
        try:
            _ = value.isascii() or value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif type(value) in (list, tuple):
        old = cast("list[object] | tuple[object, ...]", value)
        new = [_mended(one) for one in old]
        if any(one is not before for one, before in zip(new, old, strict=True)):
            return type(old)(new)
    elif type(value) is dict:
        pairs = list(cast("dict[object, object]", value).items())
        if (fresh := _mended(pairs)) is not pairs:
            return dict(cast("list[tuple[object, object]]", fresh))
    elif isinstance(value, BaseModel):
        fields = {name: vars(value)[name] for name in type(value).model_fields if name in vars(value)}
        if (fresh := _mended(fields)) is not fields:
            return value.model_copy(update=cast("dict[str, object]", fresh))
    return cast("object", value)
