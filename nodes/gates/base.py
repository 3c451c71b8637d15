"""A gate reviews the plan before anything runs and the answer before anyone reads it. It fails closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from bursar.state.run import Report
from bursar.state.session import Request

Action = Literal["allow", "allow_with_changes", "deny"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate decided. `denied` maps specialists to the reason a user reads; `text` is the amended answer."""

    action: Action
    rules: tuple[str, ...] = ()
    reason: str = ""
    denied: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str | None = None
    policy_hash: str = ""


class Gate(Protocol):
    """A deterministic reviewer. Raising is a denial: the request goes on to its answer without what was reviewed."""

    @property
    def name(self) -> str:
        """Its node in the graph and its name in the audit log."""
        ...

    def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        """Whether the plan may run: `denied` specialists do not; `deny` stops all."""
        ...

    def review_answer(self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime) -> Verdict:
        """Whether the answer may be read: `text` replaces it; `deny` without a text replaces it by the reason."""
        ...
