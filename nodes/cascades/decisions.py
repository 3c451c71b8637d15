"""The books of a cascade or a choice: what is learned, what is left, and what was decided before a crash."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from sqlalchemy import bindparam, select

from bursar.checkpoints.database.statement import Statement
from bursar.checkpoints.ledger.accounts import Account, charged, left, open_account
from bursar.checkpoints.ledger.gains import RungRecord, rung_records
from bursar.checkpoints.ledger.postings import record
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import events
from bursar.nodes.cascades.rungs import Rung
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.state.decision import Decision
from bursar.state.events import EVENTS, Decided
from bursar.state.money import USD
from bursar.state.run import Task


@dataclass(frozen=True, slots=True)
class Known:
    """What the books say when a cascade begins: the record of each rung, and what its run has left; None is no cap.

    `made` are the decisions of the same cascade in a run that was cut off, by their step.
    """

    records: Mapping[str, RungRecord] = field(default_factory=dict[str, RungRecord])
    left: USD | None = None
    made: Mapping[int, Decision] = field(default_factory=dict[int, Decision])


Decide = Callable[[USD | None, USD | None], Decision]


@dataclass(frozen=True, slots=True)
class Books:
    """The books of one call of a cascade or a choice.

    `key` names the call in its run: a run that is repeated calls with the same key, and finds its decisions by it.
    Outside any session there is no `scope`, nothing is known, and no decision is kept.
    """

    scope: Scope | None
    key: str
    left: USD

    @classmethod
    def of(cls, scope: Scope | None, name: str, task: Task) -> "Books":
        """Return the books of a call of the cascade `name` with the task, in the run of the scope."""
        if scope is None:
            return cls(None, "", task.left)
        asked = f"cascade\x1f{name}\x1f{scope.agent}\x1f{task.text}".encode("utf-8", "surrogatepass")
        key = sha256(asked).hexdigest()
        # Race: a handler may call the same cascade with the same question several times at once: each has its number.
        return cls(scope, f"{key[:16]}-{scope.next_occurrence(key)}", task.left)

    @property
    def agent(self) -> str:
        """The path of the agent that decides."""
        return "" if self.scope is None else self.scope.agent

    async def known(self, segment: str, rungs: Sequence[Rung] = ()) -> Known:
        """Return what the books say now. If the first rung is a specialist, its account is opened with its ceiling."""
        scope = self.scope
        if scope is None:
            return Known(left=self.left)
        names = [rung.name for rung in rungs]
        opens = [rung for rung in rungs[:1] if _has_ceiling(rung)]

        def read(transaction: Transaction) -> Known:
            for rung in opens:
                _open(transaction, scope, rung, ())
            records = rung_records(transaction, scope.agent, segment, names) if names else {}
            return Known(records, self._room(scope, transaction), _made(transaction, scope, self.key))

        work, only_reads = scope.ledger.bind(read), not opens
        return await scope.ledger.database.arun(work, readonly=only_reads, durable=False, brief=True, until=scope.until)

    async def write(
        self,
        step: int,
        decide: Decide,
        judged: Rung | None = None,
        *,
        opens: Sequence[Rung] = (),
        above: tuple[str, ...] = (),
    ) -> Decision:
        """Write the decision that `decide` returns to the log, tell the observers, and return it.

        `decide` gets what is left now, and what the `judged` rung was charged. The accounts of the specialists in
        `opens` are opened with their ceilings, on the path of the names `above` them. The commit survives the end of
        this process. Raises `LeaseLost` if another run owns the session by now.
        """
        scope = self.scope
        if scope is None:
            return decide(self.left, None)
        at = scope.clock()

        def post(transaction: Transaction) -> Decision:
            # Race: another run may own the session by now, and decide for itself.
            scope.check_lease(transaction)
            for rung in filter(_has_ceiling, opens):
                _open(transaction, scope, rung, above)
            cost = None if judged is None else self._cost(scope, judged, transaction)
            decision = decide(self._room(scope, transaction), cost)
            decided = Decided(
                request_id=scope.request_id, decision=decision, place=scope.checkpoint_ns, step=f"{self.key}/{step}"
            )
            record(transaction, scope.session_id, decided, at=at)
            return decision

        work = scope.ledger.bind(post)
        decision = await scope.ledger.database.arun(work, durable=False, brief=True, until=scope.until)
        self.tell(decision)
        return decision

    def tell(self, decision: Decision) -> None:
        """Add the decision to those of the run, and tell the observers. Called again for one that a crash cut off."""
        if self.scope is None:
            return
        self.scope.decisions.append(decision)
        if self.scope.observers is not None:
            self.scope.observers.decided(decision)

    def _room(self, scope: Scope, transaction: Transaction) -> USD | None:
        nanos = left(transaction, scope.scopes)
        return None if nanos is None else USD.from_nanos(max(nanos, 0))

    def _cost(self, scope: Scope, rung: Rung, transaction: Transaction) -> USD:
        """Return what the rung was charged, without what earlier decisions of the run have counted already."""
        counted = [d.cost.nanos for d in scope.decisions if (d.by, d.rung) == (scope.agent, rung.name) and d.cost]
        return USD.from_nanos(max(charged(transaction, _account(scope, rung)) - sum(counted), 0))


def _account(scope: Scope, rung: Rung, above: Sequence[str] = ()) -> str:
    for name in above:
        scope = scope.child(name)
    return scope.child(rung.name).scopes[-1]


def _has_ceiling(rung: Rung) -> bool:
    return rung.specialist is not None and not rung.free


def _open(transaction: Transaction, scope: Scope, rung: Rung, above: Sequence[str]) -> None:
    if rung.specialist is not None:
        open_account(transaction, Account(_account(scope, rung, above), rung.specialist.cap.nanos))


def _made(transaction: Transaction, scope: Scope, key: str) -> dict[int, Decision]:
    values = {"session": scope.session_id, "request": f"%{scope.request_id}%", "key": f"%{key}%"}
    found: dict[int, Decision] = {}
    for (payload,) in _decided(transaction.connection, **values):
        event = EVENTS.validate_json(payload)
        if not isinstance(event, Decided) or (event.request_id, event.place) != (scope.request_id, scope.checkpoint_ns):
            continue
        name, _, step = event.step.rpartition("/")
        if name == key and event.decision.by == scope.agent:
            found[int(step)] = event.decision
    return found


_decided = Statement(
    select(events.c.payload)
    .where(
        events.c.session_id == bindparam("session"),
        events.c.kind == "decided",
        events.c.payload.like(bindparam("request")),
        events.c.payload.like(bindparam("key")),
    )
    .order_by(events.c.sequence)
)
