"""Extension point: a gate, which reviews the plan before anything runs and the answer before anyone reads it.

If a gate fails, this counts as a denial of what the gate reviews.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from bursar.state.run import Report
from bursar.state.session import Request

Action = Literal["allow", "allow_with_changes", "deny"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision of a gate on a plan or an answer.

    `action` is "deny" if the gate refuses all of it, and `reason` says why. `denied` maps each specialist that may not
    run to the reason that a user reads. `text` replaces the answer. If `text` is None, the answer stays as it is or, if
    `action` is "deny", `reason` stands in its place. `rules` names the rules that decided, and `policy_hash` is the
    hash of their policy; the log keeps both.
    """

    action: Action
    rules: tuple[str, ...] = ()
    reason: str = ""
    denied: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str | None = None
    policy_hash: str = ""


class Gate(Protocol):
    """A deterministic reviewer of plans and answers.

    If a gate raises, this counts as a denial of the plan or the answer that it reviews. The request then goes on to its
    answer, without what was denied. Its reviews are functions or coroutine functions.
    """

    @property
    def name(self) -> str:
        """The name of the gate, by which the log and its decisions name it."""
        ...

    def review_plan(
        self, request: Request, specialists: tuple[str, ...], *, now: datetime
    ) -> Verdict | Awaitable[Verdict]:
        """Return the verdict on the plan. `specialists` is empty if none fits the request.

        Specialists in the verdict's `denied` do not run. If its action is "deny", no specialist runs, and the answer is
        the reason.
        """
        ...

    def review_answer(
        self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime
    ) -> Verdict | Awaitable[Verdict]:
        """Return the verdict on the answer.

        If the verdict has a `text`, that text replaces the answer. If it has none and its action is "deny", its reason
        replaces the answer.
        """
        ...
