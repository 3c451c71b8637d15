"""The questions that Genie's agents answer: what its router learns from."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from pydantic import BaseModel, TypeAdapter

from bursar.nodes.routers.base import Candidate

OUT_OF_SCOPE = "out_of_scope"


class _Entry(BaseModel):
    description: str = ""
    examples: tuple[str, ...]


@cache
def _entries() -> dict[str, _Entry]:
    text = resources.files("bursar.genie").joinpath("examples.toml").read_text("utf-8")
    return TypeAdapter(dict[str, _Entry]).validate_python(tomllib.loads(text))


@cache
def examples() -> Mapping[str, tuple[str, ...]]:
    """Example questions by the agent's name."""
    return MappingProxyType({n: e.examples for n, e in _entries().items() if n != OUT_OF_SCOPE})


@cache
def descriptions() -> Mapping[str, str]:
    """One line per agent: what it answers."""
    return MappingProxyType({n: e.description for n, e in _entries().items() if n != OUT_OF_SCOPE})


def out_of_scope() -> tuple[str, ...]:
    """Requests near Genie's subject that none of its agents serves, such as orders to pay."""
    return _entries()[OUT_OF_SCOPE].examples


def candidates() -> tuple[Candidate, ...]:
    """Genie's routed agents, as a router sees them."""
    return tuple(Candidate(name, descriptions()[name], asked) for name, asked in examples().items())
