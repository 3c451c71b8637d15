"""Rebinding: replaces a wrapped model by its metered form in a chain that the wrapped model built.

A chain in which the wrapped model can still be reached is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from bursar.state.errors import ConfigurationError

MAX_OBJECTS = 10_000  # a chain has a few dozen objects
R = TypeVar("R", bound="Runnable[Any, Any]")


def rebind(runnable: R, inner: BaseChatModel, outer: BaseChatModel) -> R:
    """Return a copy of `runnable` that calls the metered model `outer` in place of the model `inner`.

    `outer` is the metered form of `inner`.
    Raises `ConfigurationError` if `inner` can still be reached, because a call through `inner` would not be metered.
    """
    rebound = cast(R, _swap(runnable, inner, outer))
    if _reaches(rebound, inner, outer):
        raise ConfigurationError(
            f"{type(inner).__name__} hides itself in what it returned, where its calls would not be metered; "
            "build the chain yourself from the metered model"
        )
    return rebound


def _swap(value: object, inner: BaseChatModel, outer: BaseChatModel) -> object:
    if value is inner:
        return outer
    if isinstance(value, list):
        return [_swap(item, inner, outer) for item in cast("list[object]", value)]
    if isinstance(value, tuple) and type(cast(object, value)) is tuple:
        return tuple(_swap(item, inner, outer) for item in cast("tuple[object, ...]", value))
    if isinstance(value, dict):
        return {key: _swap(item, inner, outer) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, Runnable) and isinstance(value, BaseModel) and not isinstance(value, BaseChatModel):
        fields = {name: _swap(item, inner, outer) for name, item in value.__dict__.items()}
        return value.model_copy(update=fields)
    return cast(object, value)


def _reaches(root: object, inner: BaseChatModel, outer: BaseChatModel) -> bool:
    """Whether `inner` can be reached from `root` without going through `outer`.

    The search follows fields, closures, partials and methods. After `MAX_OBJECTS` objects the search ends, and the
    result is True.
    """
    pending, seen = [root], {id(outer)}
    while pending:
        value = pending.pop()
        if value is inner or len(seen) > MAX_OBJECTS:
            return True
        if id(value) not in seen:
            seen.add(id(value))
            pending.extend(_parts(value))
    return False


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple | set | frozenset):
        yield from cast("tuple[object, ...]", value)
    elif isinstance(value, Mapping):
        yield from cast("Mapping[object, object]", value).values()
    elif isinstance(value, partial):
        bound = cast("partial[object]", value)
        yield from (bound.func, bound.args, bound.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        yield from _captured(value)
    elif isinstance(value, Runnable):
        yield dict(value.__dict__)


def _captured(function: Callable[..., object]) -> Iterator[object]:
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a cell that was not filled yet
            continue
    yield getattr(function, "__defaults__", None)
    yield getattr(function, "__kwdefaults__", None)
