"""Reads `mix.toml`, and refuses a file whose shares do not sum to 1."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIX = Path(__file__).parents[1] / "mix.toml"
BEHAVIOURS: frozenset[str] = frozenset(
    (
        "sound",
        "limited",
        "down",
        "failing",
        "silent",
        "cut",
        "loops",
        "wordy",
        "invents",
        "promises",
        "leaks",
        "garbled",
    )
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ask(_Strict):
    """A question with blanks, the name of the figure that its answer must state, and the rule that must deny it."""

    text: str
    truth: str | None = None
    denied_by: str | None = None


class RequestClass(_Strict):
    """A kind of request: its share, who may answer, the disclosure that must end the answer, and its questions."""

    share: Decimal
    paid: bool
    agents: tuple[str, ...]
    disclosure: str | None = None
    follows: str | None = None
    ask: tuple[Ask, ...]


class Tokens(_Strict):
    """The sizes of what the model reads and writes, in tokens."""

    bytes_each: int
    answer_median: float
    answer_sigma: float
    tool_call: int
    pasted: float


class Latency(_Strict):
    """How long the model takes, in seconds."""

    first_token_median: float
    first_token_sigma: float
    tokens_per_second: float
    silence: float


class Mix(_Strict):
    """The mix of requests. The shares of the classes sum to 1, and so do those of the model's behaviours."""

    seed: int
    budget: Decimal
    goal_mean: Decimal
    goal_compliance: float
    confidence: float
    minutes_between: int
    classes: Mapping[str, RequestClass] = Field(alias="class")
    behaviour: Mapping[str, Decimal]
    tokens: Tokens
    latency: Latency

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        for what, shares in (("classes", self.shares()), ("behaviours", self.behaviour)):
            if sum(shares.values()) != 1:
                raise ValueError(f"the shares of the {what} sum to {sum(shares.values())}, not to 1")
        if odd := BEHAVIOURS ^ set(self.behaviour):
            raise ValueError(f"unknown or missing behaviours: {', '.join(sorted(odd))}")
        for name, one in self.classes.items():
            if one.follows is not None and self.classes[one.follows].share < one.share:
                raise ValueError(f"{name} opens with {one.follows}, which has a smaller share")
        return self

    def shares(self, paid_times: int = 1) -> dict[str, Decimal]:
        """Return the share of each class among the requests, with the sum of the paid ones multiplied.

        The shares of the others shrink alike, so that all sum to 1. Raises `ValueError` if there is no room for that.
        """
        paid = sum((one.share for one in self.classes.values() if one.paid), Decimal(0))
        if not 0 < paid * paid_times < 1:
            raise ValueError(f"{paid_times} times the paid share of {paid} leaves nothing for the others")
        rest = (1 - paid * paid_times) / (1 - paid)
        return {name: one.share * (paid_times if one.paid else rest) for name, one in self.classes.items()}

    def conversations(self, paid_times: int = 1) -> dict[str, Decimal]:
        """Return the weight of each class among conversations, such that the requests have the shares of `shares`.

        A conversation of a class that follows another has a request of each.
        """
        weights = self.shares(paid_times)
        for name, one in self.classes.items():
            if one.follows is not None:
                weights[one.follows] -= weights[name]
        return weights


def read_mix(path: Path = MIX) -> Mix:
    """Return the mix in the file. Raises `ValueError` if it makes no sense."""
    return Mix.model_validate(tomllib.loads(path.read_text("utf-8")))
