"""Spend as users see it: a display copy of the ledger, never the truth itself."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from bursar.state.money import USD, ZERO


class Spend(BaseModel):
    """What a request or a session was charged, in US dollars.

    `spent` is the cost of settled calls plus the holds of unknown calls, whose end nobody saw. `held` is reserved by
    calls in flight. `budget` is the cap on `spent` plus `held`, None if there is no cap. `calls` is the number of all
    calls but void ones, `unknown` the number of unknown calls. `by_agent`, `by_model` and `by_day` divide up `spent`; a
    call's day is the UTC date of its hold, such as `2026-11-23`.
    """

    model_config = ConfigDict(frozen=True)

    spent: USD = ZERO
    held: USD = ZERO
    budget: USD | None = None
    calls: int = 0
    unknown: int = 0
    by_agent: Mapping[str, USD] = Field(default_factory=dict)
    by_model: Mapping[str, USD] = Field(default_factory=dict)
    by_day: Mapping[str, USD] = Field(default_factory=dict)

    @property
    def left(self) -> USD | None:
        """What may still be spent; None if there is no cap."""
        return None if self.budget is None else self.budget - self.spent - self.held

    def __str__(self) -> str:
        of = "" if self.budget is None else f" of {self.budget}"
        return f"{self.spent}{of}"
