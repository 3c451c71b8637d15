"""The events of the audit log: one small frozen model per kind. They hold facts and hashes, never content.

If a kind gains a field, it gets a new version. Payloads of earlier versions stay readable, and `canonical` gives them
back as they were. A field is never renamed or removed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from bursar.state.decision import Decision, Step
from bursar.state.money import USD
from bursar.state.run import Fault, Limit, Outcome
from bursar.state.text import clean


def _clean_text(value: object) -> object:
    return clean(value) if isinstance(value, str) else value


Reason = Annotated[str, BeforeValidator(_clean_text)]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)  # made on first use: importing is not using

    since: ClassVar[Mapping[str, int]] = {}  # fields that version 1 did not have, each with its first version

    version: int = Field(default=1, ge=1, le=1)

    def canonical(self) -> str:
        """Return the event's JSON text. A stored payload with any other text was forged, even if it means the same."""
        later = {name for name, version in self.since.items() if version > self.version}
        return self.model_dump_json(exclude=later)


class RequestOpened(_Event):
    """A request was opened with its accounts. `budget` is the cap of the request's own account, None if it has no cap.

    `caps` has the caps that the configuration gave to the session, the tenant's day and the ledger, by account.
    `parent` is the request whose run made this one, None if a user did. When the supervisor's node runs again after a
    crash, it reads `tenant` and `deadline` here.
    """

    since = {"caps": 2, "parent": 3, "tenant": 4, "deadline": 4}

    version: int = Field(default=4, ge=1, le=4)
    kind: Literal["request_opened"] = "request_opened"
    request_id: str
    text_hash: str
    budget: USD | None = None
    caps: Mapping[str, USD | None] = Field(default_factory=dict)
    parent: str | None = None
    tenant: str = ""
    deadline: datetime | None = None


class Decided(_Event):
    """A decision was made for a request; one about a plan has its `round`, and the `place` in the graph."""

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["decided"] = "decided"
    request_id: str
    decision: Decision
    round: int = 1
    place: str = ""

    def canonical(self) -> str:  # version 1 has no rounds
        later = {"round": True, "place": True, "decision": {"order": True, "done": True, "has_texts": True}}
        return self.model_dump_json(exclude=later if self.version == 1 else None)


class Planned(_Event):
    """A round's `steps` were planned `by` guardian or gate, at a `place`. `denied` do not run, each with why."""

    kind: Literal["planned"] = "planned"
    request_id: str
    by: Reason
    round: int
    place: str = ""
    steps: tuple[Step, ...]
    denied: tuple[tuple[Reason, Reason], ...] = ()


class CallHeld(_Event):
    """A paid call may be sent: `amount`, its worst case, is reserved in every account of `scopes`."""

    kind: Literal["call_held"] = "call_held"
    call_id: str
    request_id: str
    agent: str
    model: str
    amount: USD
    scopes: tuple[str, ...]


class CallSettled(_Event):
    """A call was charged its actual cost in place of its hold. `response_hash` is the SHA-256 of the kept answer."""

    kind: Literal["call_settled"] = "call_settled"
    call_id: str
    cost: USD
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    response_hash: str | None = None


class CallVoided(_Event):
    """A call's whole hold was freed, because the provider bills nothing for the call."""

    kind: Literal["call_voided"] = "call_voided"
    call_id: str
    reason: Reason


class CallUnknown(_Event):
    """A call became unknown: nobody saw its end. It stays charged at its hold, `amount`, until it is reconciled."""

    kind: Literal["call_unknown"] = "call_unknown"
    call_id: str
    amount: USD
    reason: Reason


class CallRefused(_Event):
    """A paid call was not sent, because the account `scope` had no room for `amount`, its worst case."""

    kind: Literal["call_refused"] = "call_refused"
    request_id: str
    agent: str
    model: str
    amount: USD
    scope: str
    reason: Reason


class RunStarted(_Event):
    """A run for `step` began that may pay, or that is a fallback's after a failure. Others are logged when they end."""

    since = {"step": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["run_started"] = "run_started"
    request_id: str
    specialist: str
    handler: str
    level: int
    step: str = ""


class RunEnded(_Event):
    """One handler's run ended. If it was exhausted, `limit` names the limit; if it failed, `fault` names the fault.

    `turns` is the number of its paid calls. If it is `unsure`, its confidence was too low.
    """

    since = {"limit": 2, "fault": 2, "turns": 2, "unsure": 2, "step": 3}

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


class FallbackTaken(_Event):
    """The handler `failed` did not complete, so its fallback `next` runs."""

    since = {"step": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["fallback_taken"] = "fallback_taken"
    request_id: str
    specialist: str
    failed: str
    next: str
    step: str = ""


class PolicyVerdict(_Event):
    """The gate of the name `gate` reviewed a plan or an answer. `action` is `allow`, `allow_with_changes` or `deny`.

    `rules` are the rules that decided, and `policy_hash` is the hash of their policy.
    """

    kind: Literal["policy_verdict"] = "policy_verdict"
    request_id: str
    gate: str
    action: str
    rules: tuple[str, ...]
    policy_hash: str


class Approval(_Event):
    """An approval changed its state to `verdict`. `subject_hash` is the SHA-256 of what the person was shown.

    The states are asked, then approved, then used by the one run, action or raise of a budget that was approved. If the
    approval is denied, expires, or is refused for the `reason`, nothing is done. `action` is the action to be approved,
    `raise the budget` for a raise; None if the specialist's run is to be approved.
    """

    since = {"approval_id": 2, "action": 2, "reason": 2}

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


class ActionIntended(_Event):
    """An action is about to be done, once, under this key. `arguments_hash` is the SHA-256 of its arguments' JSON."""

    kind: Literal["action_intended"] = "action_intended"
    key: str
    request_id: str
    agent: str
    name: str
    arguments_hash: str
    irreversible: bool


class ActionChanged(_Event):
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


class LeaseChanged(_Event):
    """The session's lease was taken, taken over or released. Writes under an `epoch` below the newest are refused."""

    kind: Literal["lease"] = "lease"
    action: Literal["taken", "taken_over", "released"]
    owner: Reason
    epoch: int


class Drained(_Event):
    """A run ended before its next step, because its process drains. The session is free, and can be resumed."""

    kind: Literal["drained"] = "drained"
    reason: Reason


class Incident(_Event):
    """Something happened that must not happen, such as a cost above a hold. A person must look at it.

    If `closes`, no paid call of the session is sent until a person has acknowledged the incident.
    """

    since = {"closes": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["incident"] = "incident"
    call_id: str | None = None
    what: Reason
    closes: bool = False


class Acknowledged(_Event):
    """A person has seen the session's incidents so far. If an incident had closed the session, it is open again."""

    kind: Literal["acknowledged"] = "acknowledged"
    note: Reason


class Reconciled(_Event):
    """A call whose end nobody saw was charged its actual cost in place of its hold."""

    kind: Literal["reconciled"] = "reconciled"
    call_id: str
    cost: USD


class ToppedUp(_Event):
    """A person raised the cap of the account `scope` by `amount`."""

    kind: Literal["topped_up"] = "topped_up"
    scope: str
    amount: USD
    note: Reason = ""


class Erased(_Event):
    """The kept answers of the session's calls so far, and the contents of its ended actions and approvals, were erased.

    `answers` is how many rows lost contents. The costs of the calls stay.
    """

    kind: Literal["erased"] = "erased"
    answers: int
    note: Reason = ""


class PauseSet(_Event):
    """A person paused `scope`: `all`, `tenant:NAME` or `agent:NAME`."""

    kind: Literal["pause_set"] = "pause_set"
    scope: Reason
    by: Reason
    note: Reason = ""


class PauseLifted(_Event):
    """A person ended the pause of `scope`."""

    kind: Literal["pause_lifted"] = "pause_lifted"
    scope: Reason
    by: Reason
    note: Reason = ""


class BreakerChanged(_Event):
    """A call or run of this session changed a breaker.

    `change` says how: the call or run `opened` or `closed` the breaker, became its only probe while it was half open
    (`probed`), or gave the probe back (`released`). An opened breaker lets nobody through before `until`; if `alone`,
    it does so for this session only.
    """

    since = {"alone": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["breaker_changed"] = "breaker_changed"
    breaker: Reason
    change: Literal["opened", "probed", "released", "closed"]
    until: datetime | None = None
    alone: bool = False


class RequestClosed(_Event):
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
