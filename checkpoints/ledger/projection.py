"""The state that a session's events add up to: its requests, calls, caps, actions, approvals and incidents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import Connection, select

from bursar.checkpoints.ledger.hash_chain import run_of
from bursar.checkpoints.schema.ledger_tables import events
from bursar.state.events import (
    EVENTS,
    Acknowledged,
    ActionChanged,
    ActionIntended,
    Approval,
    CallHeld,
    CallHoldRaised,
    CallSettled,
    CallUnknown,
    CallVoided,
    Erased,
    Event,
    Incident,
    Reconciled,
    RequestClosed,
    RequestOpened,
    ToppedUp,
)
from bursar.state.rules.calls import balance
from bursar.state.rules.pricing import Usage

ROWS_AT_ONCE = 500


@dataclass(slots=True)
class CallProjection:
    """A call as its events describe it; amounts in nano-dollars."""

    request_id: str
    agent: str
    model: str
    amount: int
    scopes: tuple[str, ...]
    state: str = "held"
    cost: int | None = None
    usage: Usage | None = None
    whole: bool | None = None
    response_hash: str | None = None
    cache_saved: int | None = None
    erased: bool = False

    @property
    def spent(self) -> int:
        """What the call was charged, in nano-dollars; 0 before the call has ended."""
        return balance(self.state, self.amount, self.cost or 0).spent

    @property
    def held(self) -> int:
        """What the call reserves, in nano-dollars; 0 if the call is not held any more."""
        return balance(self.state, self.amount, self.cost or 0).held


@dataclass(slots=True)
class ActionProjection:
    """An action as its events describe it."""

    request_id: str
    agent: str
    name: str
    arguments_hash: str
    irreversible: bool
    state: str = "intended"
    result_hash: str | None = None
    erased: bool = False


# The states that each event may follow. An approval's first event is "asked", before which it has no state ("").
ACTION_FOLLOWS = {
    "intended": {"void", "in_doubt"},
    "done": {"intended", "in_doubt", "void", "undoing"},
    "void": {"intended", "in_doubt"},
    "in_doubt": {"intended"},
    "undoing": {"done", "undoing"},
    "undone": {"undoing"},
}
APPROVAL_FOLLOWS = {
    "asked": {""},
    "approved": {"asked"},
    "used": {"approved"},
    "denied": {"asked"},
    "expired": {"asked", "approved"},
    "refused": {"asked", "approved"},
}


@dataclass(frozen=True, slots=True)
class LogTotals:
    """The totals of a log's calls up to one event: nano-dollars `spent` and `held`, and the number of `calls`.

    `hash` is the hash of that event.
    """

    hash: str
    spent: int
    held: int
    calls: int


class SessionProjection:
    """The state that one session's events add up to. It is complete after `rows` was read to its end.

    `totals` are the totals up to the event whose sequence is `mark`; None if the log has no such event.
    """

    def __init__(self, connection: Connection, session_id: str, *, mark: int | None = None) -> None:
        self.connection = connection
        self.session_id = session_id
        self.mark = mark
        self.totals: LogTotals | None = None
        self.count = 0
        self.calls: dict[str, CallProjection] = {}
        self.actions: dict[str, ActionProjection] = {}
        self.approvals: dict[str, tuple[str, str]] = {}  # the verdict, and the hash of what was shown
        self.unreadable: list[str] = []
        self.requests: dict[str, tuple[str, str | None]] = {}  # hash of the text, and the outcome once it is closed
        self.budgets: dict[str, int | None] = {}  # caps that accounts of this session were opened with
        self.caps: dict[str, list[int | None]] = {}  # caps that the configuration gave wider accounts, the newest last
        self.granted: dict[str, int] = {}
        self.erased = 0
        self.closed = False

    def rows(self) -> Iterator[Sequence[object]]:
        """Yield `(sequence, at, kind, payload, previous, hash)` of every event, in order.

        Before it yields an event, it updates the attributes by that event.
        """
        columns = (events.c.sequence, events.c.at, events.c.kind, events.c.payload, events.c.previous, events.c.hash)
        columns += (events.c.run_of, events.c.run_cost)
        query = select(*columns).where(events.c.session_id == self.session_id).order_by(events.c.sequence)
        for row in self.connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
            self.count += 1
            self._take(row[0], row[2], row[3], (row[6], row[7]))
            if row[0] == self.mark:
                self.totals = self._totals(str(row[5]))
            yield tuple(row)[:6]

    def _totals(self, kept: str) -> LogTotals:
        told = self.calls.values()
        return LogTotals(kept, sum(call.spent for call in told), sum(call.held for call in told), len(told))

    def _take(self, sequence: object, kind: object, payload: object, run: tuple[object, object]) -> None:
        where = f"session {self.session_id}: event {sequence}"
        try:
            event = EVENTS.validate_json(payload if isinstance(payload, str | bytes) else repr(payload))
        except ValidationError:
            self.unreadable.append(f"{where} cannot be read")
            return
        if event.canonical() != payload:
            self.unreadable.append(f"{where} is not written as Bursar writes it; two texts must not tell the same")
        if event.kind != kind:
            self.unreadable.append(f"{where} is called {kind} and is a {event.kind}")
        if run != run_of(event):
            self.unreadable.append(f"{where} has {run} as its completed run and cost, it tells of {run_of(event)}")
        match event:
            case CallHeld() | CallHoldRaised() | CallSettled() | CallVoided() | CallUnknown() | Reconciled():
                follows = self._call(event)
            case ActionIntended() | ActionChanged():
                follows = self._action(event)
            case Approval():
                follows = self._approval(event)
            case _:
                follows = True
                self._tell(event)
        if not follows:
            self.unreadable.append(f"{where} ({event.kind}) cannot follow what came before it")

    def _tell(self, event: Event) -> None:
        match event:
            case RequestClosed():
                opened = self.requests.get(event.request_id)
                if opened is not None:
                    self.requests[event.request_id] = (opened[0], event.outcome)
            case RequestOpened():
                self.requests[event.request_id] = (event.text_hash, None)
                self.budgets[f"request:{event.request_id}"] = None if event.budget is None else event.budget.nanos
                for scope, cap in event.caps.items():
                    given = self.caps.setdefault(scope, [])
                    if (nanos := None if cap is None else cap.nanos) not in given[-1:]:
                        given.append(nanos)
            case ToppedUp():
                self.granted[event.scope] = self.granted.get(event.scope, 0) + event.amount.nanos
            case Incident():
                self.closed = self.closed or event.closes
            case Acknowledged():
                self.closed = False
            case Erased():
                self.erased += event.answers
                for call in self.calls.values():
                    call.erased = call.erased or call.response_hash is not None
                for action in self.actions.values():
                    action.erased = action.erased or action.state in {"done", "void", "undone"}
            case _:
                pass

    def _action(self, event: ActionIntended | ActionChanged) -> bool:
        """Update `actions` by the event. Returns False if the event cannot follow the action's state."""
        if isinstance(event, ActionIntended):
            known = event.key in self.actions
            self.actions[event.key] = ActionProjection(
                event.request_id, event.agent, event.name, event.arguments_hash, event.irreversible
            )
            return not known
        action = self.actions.get(event.key)
        if action is None or action.state not in ACTION_FOLLOWS[event.state]:
            return False
        action.state = event.state
        if event.state == "done":
            action.result_hash = event.result_hash
        return True

    def _approval(self, event: Approval) -> bool:
        """Update `approvals` by the event. Returns False if the event cannot follow the approval's state.

        An event of version 1 names no approval and has no row, so it changes nothing.
        """
        if event.version == 1:
            return True
        before, _ = self.approvals.get(event.approval_id, ("", ""))
        self.approvals[event.approval_id] = (event.verdict, event.subject_hash)
        return before in APPROVAL_FOLLOWS[event.verdict]

    def _call(self, event: CallHeld | CallHoldRaised | CallSettled | CallVoided | CallUnknown | Reconciled) -> bool:
        """Update `calls` by the event. Returns False if the event cannot follow the call's state."""
        if isinstance(event, CallHeld):
            known = event.call_id in self.calls
            self.calls[event.call_id] = CallProjection(
                event.request_id, event.agent, event.model, event.amount.nanos, event.scopes
            )
            return not known
        call = self.calls.get(event.call_id)
        if call is None or call.state != ("unknown" if isinstance(event, Reconciled) else "held"):
            return False
        match event:
            case CallHoldRaised():
                is_higher = event.amount.nanos > call.amount
                call.amount = event.amount.nanos
                return is_higher
            case CallSettled():
                call.state, call.cost, call.response_hash = "settled", event.cost.nanos, event.response_hash
                tokens = (event.input_tokens, event.output_tokens, event.cache_read_tokens, event.cache_write_tokens)
                call.usage, call.whole = Usage(*tokens, event.reasoning_tokens), event.whole
                call.cache_saved = event.cache_saved.nanos
            case Reconciled():
                call.state, call.cost, call.response_hash = "settled", event.cost.nanos, event.response_hash
                if event.input_tokens is not None:
                    found = (event.input_tokens, event.output_tokens, event.cache_read_tokens, event.cache_write_tokens)
                    call.usage = Usage(*(count or 0 for count in (*found, event.reasoning_tokens)))
                    call.cache_saved = None if event.cache_saved is None else event.cache_saved.nanos
            case CallVoided():
                call.state = "void"
            case CallUnknown():
                call.state = "unknown"
        return True
