"""Defines an agent of Genie: its description, its examples, and the function that computes its answers.

To add an agent, write a folder in `genie/agents/` with `agent.py` and `examples.toml`, a line in `genie/roster.py`, and
an entry in the compliance checker's `rules.toml`: the checker denies agents that this file does not list.
"""

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.stakes import StakeOfAnalysis


class Analyse(Protocol):
    """A function that answers the question `text` from the household's data, with `today` as the present day.

    The function asks no model.
    """

    def __call__(self, source: Source, text: str, /, *, today: date) -> Analysis: ...


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that the router can choose.

    The router chooses by `description`, one line on what the agent answers, and by `examples` of such questions.
    `analyse` computes the answer. If the agent is `tool_only`, no model words its answer and the agent has no fallback:
    if `analyse` fails, the session's answer names the gap. `stake` says how much money depends on an analysis: then a
    model is asked only if there is some, and a dearer one where the first one's words do not hold.
    """

    name: str
    description: str
    examples: tuple[str, ...]
    analyse: Analyse
    tool_only: bool = False
    stake: StakeOfAnalysis | None = None

    @classmethod
    def in_folder(
        cls, folder: Path, *, analyse: Analyse, tool_only: bool = False, stake: StakeOfAnalysis | None = None
    ) -> "Agent":
        """Return the agent with the folder's name, and the description and examples in the folder's `examples.toml`."""
        taught = _Taught.model_validate(tomllib.loads((folder / "examples.toml").read_text("utf-8")))
        return cls(folder.name, taught.description, taught.examples, analyse, tool_only, stake)


class _Taught(BaseModel):
    description: str
    examples: tuple[str, ...]
