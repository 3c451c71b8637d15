"""What an agent of Genie is.

To add one: a folder in `genie/agents/` with `agent.py` and `examples.toml`, a line in `genie/roster.py`, and an entry
in the compliance checker's `rules.toml`, which denies agents that it does not list.
"""

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis


class Analyse(Protocol):
    """Answers a question over the household's data, as they stand on a given day, by functions alone."""

    def __call__(self, source: Source, text: str, /, *, today: date) -> Analysis: ...


@dataclass(frozen=True, slots=True)
class Agent:
    """One of Genie's routed agents.

    The router chooses by `description`, one line on what the agent answers, and by `examples` of such questions.
    `analyse` computes the answer. A `tool_only` agent never has a model to word its answer, and nothing stands in for
    it: where it fails, the failure is told.
    """

    name: str
    description: str
    examples: tuple[str, ...]
    analyse: Analyse
    tool_only: bool = False

    @classmethod
    def in_folder(cls, folder: Path, *, analyse: Analyse, tool_only: bool = False) -> "Agent":
        """The agent named as its folder, whose `examples.toml` holds the description and the examples."""
        taught = _Taught.model_validate(tomllib.loads((folder / "examples.toml").read_text("utf-8")))
        return cls(folder.name, taught.description, taught.examples, analyse, tool_only)


class _Taught(BaseModel):
    description: str
    examples: tuple[str, ...]
