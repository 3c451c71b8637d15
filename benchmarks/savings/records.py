"""The recorded runs: questions that two models answered, and agents' runs call by call."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "shared" / "data" / "savings"  # beside the repository, never in it
DEVELOPMENT = "development"
CHARACTERS_PER_TOKEN = 4  # as the recorded answers were counted


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and how a cheap and a dear model answered it.

    `source` is the collection. `segment` is the subject, `cheap_answer` the cheap model's answer; empty if that was not
    recorded. Tokens are characters by four, as the recording counted; an answer of one letter is one token.
    """

    source: str
    segment: str
    text: str
    cheap_right: bool
    dear_right: bool
    cheap_answer: str
    cheap_tokens: int
    dear_tokens: int

    @property
    def input_tokens(self) -> int:
        """The tokens of the question. Examples that stood before it were not recorded, and are not counted."""
        return -(-len(self.text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of an agent: tokens in and out, and the tool calls that the model asked for, as name and hash."""

    prompt_tokens: int
    completion_tokens: int
    tool_calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AgentRun:
    """A run of an agent, from its first call to its end, and whether it did what was asked.

    `agent` is which agent ran: runs of one agent are alike in instructions, tools and model.
    """

    name: str
    agent: str
    seller: str
    model: str
    calls: tuple[RecordedCall, ...]
    is_success: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """All that is played: questions, agents' runs, and runs that were made to loop."""

    questions: tuple[Question, ...]
    runs: tuple[AgentRun, ...]
    looping: tuple[AgentRun, ...] = ()

    def of(self, source: str) -> list[Question]:
        """Return the questions of one collection."""
        return [question for question in self.questions if question.source == source]


def is_there(folder: Path = DATA, half: str = DEVELOPMENT) -> bool:
    """Whether the folder has the three files of this half."""
    return all((folder / name).is_file() for name in _names(half))


def read(folder: Path = DATA, half: str = DEVELOPMENT) -> Recorded:
    """Return the recorded questions and runs of one half. Raises `FileNotFoundError` if a file is missing."""
    arithmetic, subjects, runs = (folder / name for name in _names(half))
    questions = [*map(_arithmetic, _rows(arithmetic)), *map(_choice, _rows(subjects))]
    with gzip.open(runs, "rt", encoding="utf-8") as file:
        recorded = [_run(run) for run in json.load(file)]
    return Recorded(tuple(questions), tuple(recorded))


def _names(half: str) -> tuple[str, str, str]:
    return f"gsm8k_{half}.csv.gz", f"mmlu_{half}.csv.gz", f"tau2_{half}.json.gz"


def _rows(file: Path) -> Iterator[Mapping[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def _arithmetic(row: Mapping[str, str]) -> Question:
    return Question(
        source="gsm8k",
        segment="",
        text=row["prompt"],
        cheap_right=row["cheap_right"] == "1",
        dear_right=row["dear_right"] == "1",
        cheap_answer=row["cheap_answer"],
        cheap_tokens=max(1, int(row["cheap_tokens"])),
        dear_tokens=max(1, int(row["dear_tokens"])),
    )


def _choice(row: Mapping[str, str]) -> Question:
    return Question(
        source="mmlu",
        segment=row["subject"],
        text=row["prompt"],
        cheap_right=row["cheap_right"] == "1",
        dear_right=row["dear_right"] == "1",
        cheap_answer="",
        cheap_tokens=1,
        dear_tokens=1,
    )


def _run(run: Mapping[str, Any]) -> AgentRun:
    seller, _, model = str(run["llm"]).rpartition("/")
    if not seller:
        seller = "anthropic" if model.startswith("claude") else "openai"
    calls = tuple(
        RecordedCall(
            prompt_tokens=call["prompt_tokens"],
            completion_tokens=call["completion_tokens"],
            tool_calls=tuple((str(name), str(arguments)) for name, arguments in call["tool_calls"]),
        )
        for call in run["calls"]
    )
    return AgentRun(str(run["id"]), str(run["src"]), seller, model, calls, bool(run["success"]))
