"""The events of the audit log: one small frozen model per kind. Those of paid calls are in `call_events`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from bursar.state.call_events import (
    CallHeld,
    CallHoldRaised,
    CallRefused,
    CallSettled,
    CallUnknown,
    CallVoided,
    LoggedEvent,
    Reason,
    Reconciled,
)
from bursar.state.decision import Decision, Step
from bursar.state.money import USD
from bursar.state.run import Fault, Limit, Outcome


class RequestOpened(LoggedEvent):
    """A request was opened with its accounts. `budget` is the cap of the request's own account, None if it has no cap.

    `caps` has the caps that the configuration gave to the session, the tenant's day and the ledger, by account.
    `parent` is the request whose run made this one, None if a user did. When the supervisor's node runs again after a
    crash, it reads `tenant` and `deadline` here.
    """

    since: ClassVar[Mapping[str, int]] = {"caps": 2, "parent": 3, "tenant": 4, "deadline": 4}

    version: int = Field(default=4, ge=1, le=4)
    kind: Literal["request_opened"] = "request_opened"
    request_id: str
    text_hash: str
    budget: USD | None = None
    caps: Mapping[str, USD | None] = Field(default_factory=dict)
    parent: str | None = None
    tenant: str = ""
    deadline: datetime | None = None


class Decided(LoggedEvent):
    """A decision was made for a request; one about a plan has its `round`, and the `place` in the graph.

    One of a cascade or a choice has the `place` of its run, and the `step` in that run by which a run that is repeated
    finds the decision again.
    """

    version: int = Field(default=3, ge=1, le=3)
    kind: Literal["decided"] = "decided"
    request_id: str
    decision: Decision
    round: int = 1
    place: str = ""
    step: str = ""

    def canonical(self) -> str:  # version 1 has no rounds, version 2 no cascades
        rounds, plan = {"round": True, "place": True}, {"order": True, "done": True, "has_texts": True}
        value = {"rung": True, "accepted": True, "cost": True, "stake": True, "gain": True, "segment": True}
        match self.version:
            case 1:
                return self.model_dump_json(exclude={**rounds, "step": True, "decision": {**plan, **value}})
            case 2:
                return self.model_dump_json(exclude={"step": True, "decision": value})
            case _:
                return self.model_dump_json()


class Planned(LoggedEvent):
    """A round's `steps` were planned `by` guardian or gate, at a `place`. `denied` do not run, each with why."""

    kind: Literal["planned"] = "planned"
    request_id: str
    by: Reason
    round: int
    place: str = ""
    steps: tuple[Step, ...]
    denied: tuple[tuple[Reason, Reason], ...] = ()


class RunStarted(LoggedEvent):
    """A run for `step` began that may pay, or that is a fallback's after a failure. Others are logged when they end."""

    since: ClassVar[Mapping[str, int]] = {"step": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["run_started"] = "run_started"
    request_id: str
    specialist: str
    handler: str
    level: int
    step: str = ""


class RunEnded(LoggedEvent):
    """One handler's run ended. If it was exhausted, `limit` names the limit; if it failed, `fault` names the fault.

    `turns` is the number of its paid calls. If it is `unsure`, its confidence was too low.
    """

    since: ClassVar[Mapping[str, int]] = {"limit": 2, "fault": 2, "turns": 2, "unsure": 2, "step": 3}

    version: int = Field(default=3, ge=1, le=3)
    kind: Literal["run_ended"] = "run_ended"
    request_id: str
    specialist: str
    handler: str
    level: int
    outcome: Outcome
    reason: Reason
    cost: USD
    milliseconds: int
    limit: Limit | None = None
    fault: Fault | None = None
    turns: int = 0
    unsure: bool = False
    step: str = ""


class FallbackTaken(LoggedEvent):
    """The handler `failed` did not complete, so its fallback `next` runs."""

    since: ClassVar[Mapping[str, int]] = {"step": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["fallback_taken"] = "fallback_taken"
    request_id: str
    specialist: str
    failed: str
    next: str
    step: str = ""


class PolicyVerdict(LoggedEvent):
    """The gate of the name `gate` reviewed a plan or an answer. `action` is `allow`, `allow_with_changes` or `deny`.

    `rules` are the rules that decided, and `policy_hash` is the hash of their policy.
    """

    kind: Literal["policy_verdict"] = "policy_verdict"
    request_id: str
    gate: str
    action: str
    rules: tuple[str, ...]
    policy_hash: str


class Approval(LoggedEvent):
    """An approval changed its state to `verdict`. `subject_hash` is the SHA-256 of what the person was shown.

    The states are asked, then approved, then used by the one run, action or raise of a budget that was approved. If the
    approval is denied, expires, or is refused for the `reason`, nothing is done. `action` is the action to be approved,
    `raise the budget` for a raise; None if the specialist's run is to be approved.
    """

    since: ClassVar[Mapping[str, int]] = {"approval_id": 2, "action": 2, "reason": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["approval"] = "approval"
    request_id: str
    specialist: str
    verdict: Literal["asked", "approved", "used", "denied", "expired", "refused"]
    subject_hash: str
    by: Reason = ""
    approval_id: str = ""
    action: str | None = None
    reason: Reason = ""


class ActionIntended(LoggedEvent):
    """An action is about to be done, once, under this key. `arguments_hash` is the SHA-256 of its arguments' JSON."""

    kind: Literal["action_intended"] = "action_intended"
    key: str
    request_id: str
    agent: str
    name: str
    arguments_hash: str
    irreversible: bool


class ActionChanged(LoggedEvent):
    """An action's `state` changed. If a person changed the state, `by` is that person.

    `done`: the action was done, and `result_hash` is the hash of its result. `void`: the action was not done.
    `in_doubt`: nobody knows whether the action was done. `undoing`: its compensation has begun. `undone`: the
    compensation has ended. `intended`: the action is tried again.
    """

    kind: Literal["action_changed"] = "action_changed"
    key: str
    state: Literal["intended", "done", "void", "in_doubt", "undoing", "undone"]
    result_hash: str | None = None
    reason: Reason = ""
    by: Reason = ""


class LeaseChanged(LoggedEvent):
    """The session's lease was taken, taken over or released. Writes under an `epoch` below the newest are refused."""

    kind: Literal["lease"] = "lease"
    action: Literal["taken", "taken_over", "released"]
    owner: Reason
    epoch: int


class Drained(LoggedEvent):
    """A run ended before its next step, because its process drains. The session is free, and can be resumed."""

    kind: Literal["drained"] = "drained"
    reason: Reason


class Incident(LoggedEvent):
    """Something happened that must not happen, such as a cost above a hold. A person must look at it.

    If `closes`, no paid call of the session is sent until a person has acknowledged the incident.
    """

    since: ClassVar[Mapping[str, int]] = {"closes": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["incident"] = "incident"
    call_id: str | None = None
    what: Reason
    closes: bool = False


class Acknowledged(LoggedEvent):
    """A person has seen the session's incidents so far. If an incident had closed the session, it is open again."""

    kind: Literal["acknowledged"] = "acknowledged"
    note: Reason


class ToppedUp(LoggedEvent):
    """A person raised the cap of the account `scope` by `amount`."""

    kind: Literal["topped_up"] = "topped_up"
    scope: str
    amount: USD
    note: Reason = ""


class Erased(LoggedEvent):
    """The kept answers of the session's calls so far, and the contents of its ended actions and approvals, were erased.

    `answers` is how many rows lost contents. The costs of the calls stay.
    """

    kind: Literal["erased"] = "erased"
    answers: int
    note: Reason = ""


class PauseSet(LoggedEvent):
    """A person paused `scope`: `all`, `tenant:NAME` or `agent:NAME`."""

    kind: Literal["pause_set"] = "pause_set"
    scope: Reason
    by: Reason
    note: Reason = ""


class PauseLifted(LoggedEvent):
    """A person ended the pause of `scope`."""

    kind: Literal["pause_lifted"] = "pause_lifted"
    scope: Reason
    by: Reason
    note: Reason = ""


class BreakerChanged(LoggedEvent):
    """A call or run of this session changed a breaker.

    `change` says how: the call or run `opened` or `closed` the breaker, became its only probe while it was half open
    (`probed`), or gave the probe back (`released`). An opened breaker lets nobody through before `until`; if `alone`,
    it does so for this session only.
    """

    since: ClassVar[Mapping[str, int]] = {"alone": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["breaker_changed"] = "breaker_changed"
    breaker: Reason
    change: Literal["opened", "probed", "released", "closed"]
    until: datetime | None = None
    alone: bool = False


class RequestClosed(LoggedEvent):
    """A request has its answer. `spent` is what was charged for it; a call whose end nobody saw counts at its hold."""

    kind: Literal["request_closed"] = "request_closed"
    request_id: str
    outcome: Reason
    spent: USD


Event = Annotated[
    RequestOpened
    | Decided
    | Planned
    | CallHeld
    | CallHoldRaised
    | CallSettled
    | CallVoided
    | CallUnknown
    | CallRefused
    | RunStarted
    | RunEnded
    | FallbackTaken
    | PolicyVerdict
    | Approval
    | ActionIntended
    | ActionChanged
    | LeaseChanged
    | Drained
    | Incident
    | Acknowledged
    | Reconciled
    | ToppedUp
    | Erased
    | PauseSet
    | PauseLifted
    | BreakerChanged
    | RequestClosed,
    Field(discriminator="kind"),
]

EVENTS: TypeAdapter[Event] = TypeAdapter(Event, config=ConfigDict(defer_build=True))
