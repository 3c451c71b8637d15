"""Who was chosen or refused, why, by which rule and at what cost."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bursar.state.money import USD

DecisionKind = Literal["route", "admit", "policy", "fallback", "answer", "fork"]


class Considered(BaseModel):
    """One specialist as the decision saw it: `score` is its value for this request, `expected_cost` in US dollars.

    `verdict` is `chosen`, or why the specialist was not chosen: `unfit`, `budget`, `policy`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    score: Annotated[float, Field(allow_inf_nan=False)]
    expected_cost: USD
    verdict: Literal["chosen", "unfit", "budget", "policy"]
    reason: str = ""


class Decision(BaseModel):
    """A choice of the coordinator, as it stands in state and in the audit log."""

    model_config = ConfigDict(frozen=True)

    kind: DecisionKind
    by: str
    rule: str
    chosen: tuple[str, ...] = ()
    candidates: tuple[Considered, ...] = ()
    left: USD
    note: str = ""

    @property
    def cut(self) -> tuple[str, ...]:
        """The specialists that fitted the request and were not admitted, for want of budget or by policy."""
        return tuple(c.name for c in self.candidates if c.verdict in {"budget", "policy"})
