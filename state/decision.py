"""`Decision`: who was chosen or refused, why, by which rule and at what cost."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bursar.state.money import USD

DecisionKind = Literal["route", "admit", "policy", "fallback", "answer", "fork"]


class Considered(BaseModel):
    """One candidate of a decision. `score` says how well the specialist fits the request.

    `verdict` is `chosen`, or why the specialist was not chosen: `unfit`, `budget`, `policy`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    score: Annotated[float, Field(allow_inf_nan=False)]
    expected_cost: USD
    verdict: Literal["chosen", "unfit", "budget", "policy"]
    reason: str = ""


class Decision(BaseModel):
    """Who was chosen or refused for a request, as it is kept in the state and in the audit log.

    `by` names who decided, and `rule` the rule. `left` is the money that was left to be spent.
    """

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
        """The names of the candidates that fit the request but were refused, for want of budget or by policy."""
        return tuple(c.name for c in self.candidates if c.verdict in {"budget", "policy"})
