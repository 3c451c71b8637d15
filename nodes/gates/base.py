"""Extension point: a gate, which reviews the plan before anything runs and the answer before anyone reads it.

A gate that fails has denied what it reviews.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from bursar.state.run import Report
from bursar.state.session import Request

Action = Literal["allow", "allow_with_changes", "deny"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision of a gate.

    `denied` maps specialists to the reason that a user reads. `text` is the amended answer, None if the answer stays as
    it is. `rules` and `policy_hash` name what decided; the log keeps them.
    """

    action: Action
    rules: tuple[str, ...] = ()
    reason: str = ""
    denied: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str | None = None
    policy_hash: str = ""


class Gate(Protocol):
    """A deterministic reviewer of plans and answers.

    If a gate raises, it has denied what it reviews. The request then goes on to its answer, without what was denied.
    """

    @property
    def name(self) -> str:
        """The name of the gate: its node in the graph has this name, and the log names it so."""
        ...

    def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        """Return the verdict on the plan. Specialists in `denied` do not run; the action "deny" stops all of them."""
        ...

    def review_answer(self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime) -> Verdict:
        """Return the verdict on the answer.

        `text` replaces the answer. The action "deny" without `text` replaces the answer by the reason.
        """
        ...
