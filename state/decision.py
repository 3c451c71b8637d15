"""`Decision` and `Step`: who was chosen or refused, why, by which rule, at what cost, and what is planned."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bursar.state.money import USD, ZERO

PATH = " → "  # between an agent and the one that it calls
LEARNED = "rung"
_SUFFIX = re.compile(r"[@\[].*")  # what tells an agent's steps in one request apart

DecisionKind = Literal["route", "admit", "policy", "fallback", "answer", "fork", "cascade", "choose"]


class Considered(BaseModel):
    """One candidate of a decision. `score` says how well the specialist fits the request.

    `verdict` is `chosen`, or why the specialist was not chosen: `unfit`, `budget`, `policy`. A candidate may also be a
    rung of a cascade: then `score` is the rung's gain, or the confidence of the answer that it gave.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    score: Annotated[float, Field(allow_inf_nan=False)]
    expected_cost: USD
    verdict: Literal["chosen", "unfit", "budget", "policy"]
    reason: str = ""


class Decision(BaseModel):
    """Who was chosen or refused for a request, as it is kept in the state and in the audit log.

    `by` names who decided, and `rule` the rule. `left` is the money that was left to be spent. `order` has what a
    router let steps wait for, beside their specialists' own needs. If it is `done`, no further round follows. If it
    `has_texts`, the router gave steps texts of their own, which the log does not keep.

    The rest is about value for money, for the kinds `cascade` and `choose`. `rung` is the rung whose answer was judged,
    `accepted` whether its check accepted that answer (None if it gave none that could be judged), and `cost` what it
    was charged. `stake` is what is at risk, and `gain` the probability with which the next rung's answer is accepted.
    `segment` is the kind of task for which gains are learned.
    """

    model_config = ConfigDict(frozen=True)

    kind: DecisionKind
    by: str
    rule: str
    chosen: tuple[str, ...] = ()
    candidates: tuple[Considered, ...] = ()
    left: USD
    note: str = ""
    order: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    done: bool = False
    has_texts: bool = False
    rung: str = ""
    accepted: bool | None = None
    cost: USD | None = None
    stake: USD | None = None
    gain: Decimal | None = None
    segment: str = ""

    @property
    def learned_as(self) -> str | None:
        """The name under which the judged rung's cost is learned, None if nothing is to be learned."""
        if self.kind != "cascade" or self.accepted is None or self.cost is None:
            return None
        return learned_name(self.by, self.segment, self.rung, accepted=self.accepted)

    @property
    def cut(self) -> tuple[str, ...]:
        """The names of the candidates that fit the request but were refused, for want of budget or by policy."""
        return tuple(c.name for c in self.candidates if c.verdict in {"budget", "policy"})


def learned_name(by: str, segment: str, rung: str, *, accepted: bool) -> str:
    """Return the name under which the costs of a rung's answers are learned: those that were accepted, or the others.

    `by` is the path of the cascade's agent. Its steps in one request are one agent: `tax@2` learns as `tax`.
    """
    agent = PATH.join(_SUFFIX.sub("", name) for name in by.split(PATH))
    return json.dumps([LEARNED, agent, segment, rung, accepted], ensure_ascii=False, separators=(",", ":"))


class Step(BaseModel):
    """One planned run of a specialist. `chain_index` is the handler that starts: 0 is the specialist's own.

    Above 0 it is a fallback; then `skip_reason` says why the specialist's own handler does not start. `name` is unique
    in the request: the specialist's name, with a suffix if the specialist runs more than once. `round` is the round
    that planned the step. The step runs after the steps that it `needs`; it runs even if one of `optional` gave no
    report. `allowance` is the most that the step may spend, and `expects` what the specialist's own handler is expected
    to cost. A step that is not `wanted` was added because others need it. If `watched`, the specialist failed lately,
    so its breaker counts how the run ends.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    specialist: str
    round: int = 1
    needs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    chain_index: int = 0
    allowance: USD
    expects: USD
    skip_reason: str = ""
    wanted: bool = True
    watched: bool = False

    @property
    def suffix(self) -> str:
        """What tells this step from the specialist's other steps in the request; "" for its first."""
        return self.name.removeprefix(self.specialist)


class QuotedStep(BaseModel):
    """What a quote says of one step. `starts` is the handler that starts: the specialist's own or, if the step is
    `cut` for a reason, its fallback; it is empty if none starts, and then `wave` is 0.

    `expected` is what that handler is expected to cost, and `worst` the most that it and its fallbacks can spend.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    needs: tuple[str, ...] = ()
    wave: int = 0
    starts: str = ""
    expected: USD = ZERO
    worst: USD = ZERO
    cut: str = ""


class Quote(BaseModel):
    """What a request would do and cost if it came now: the steps of its first round, in the order of the plan.

    The request would spend at most `worst`, which is no more than is `left` in each of its accounts. `kept_back` is for
    what composes the answer. `rule` is how the router chose, `gaps` what would be missing, and `paid` what the quote
    itself has cost: nothing, unless the router asks a model.
    """

    model_config = ConfigDict(frozen=True)

    steps: tuple[QuotedStep, ...] = ()
    expected: USD = ZERO
    worst: USD = ZERO
    left: USD
    kept_back: USD = ZERO
    rule: str = ""
    gaps: tuple[str, ...] = ()
    paid: USD = ZERO

    def __str__(self) -> str:
        rows = [("wave", "step", "expected", "at most", "after"), *map(_quoted_row, self.steps)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if self.steps else ["nothing would run"]
        )
        lines += [f"{step.name}: {step.cut}" for step in self.steps if step.cut]
        lines += [f"missing: {gap}" for gap in self.gaps]
        kept = f"; {self.kept_back} kept back for the composer" if self.kept_back else ""
        paid = f"; this quote cost {self.paid}" if self.paid else ""
        return "\n".join([*lines, f"expected {self.expected}, at most {self.worst} of {self.left} left{kept}{paid}"])


def _quoted_row(step: QuotedStep) -> tuple[str, str, str, str, str]:
    name = step.name if not step.cut else f"{step.name} → {step.starts or 'nothing'}"
    return str(step.wave or "-"), name, str(step.expected), str(step.worst), ", ".join(step.needs)
