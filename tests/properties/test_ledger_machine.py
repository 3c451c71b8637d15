"""The ledger as a machine: whatever happens to calls and caps, in whatever order, the books balance."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, left, open_account
from bursar.checkpoints.ledger.anchors import Anchor
from bursar.checkpoints.ledger.calls import Hold, Usage, turns
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.errors import LedgerError
from bursar.state.money import USD
from bursar.state.refusals import AccountClosed, BudgetExceeded

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = b"a key of the tests"
HOLDERS = 3
AGENTS = st.sampled_from(["tax", "tax → reader", "risk"])
AMOUNTS = st.integers(0, 40)
CAPS = st.none() | st.integers(0, 150)


@dataclass
class Call:
    """What the machine knows of a call."""

    request: str
    agent: str
    scopes: tuple[str, ...]
    amount: int
    state: str = "held"
    cost: int = 0
    sent: bool = False

    @property
    def charge(self) -> int:
        return {"held": self.amount, "unknown": self.amount, "settled": self.cost, "void": 0}[self.state]


@dataclass
class Model:
    """What accounts and calls must be: a few lines against which the ledger is held."""

    caps: dict[str, int | None] = field(default_factory=dict[str, int | None])
    granted: dict[str, int] = field(default_factory=dict[str, int])
    calls: dict[str, Call] = field(default_factory=dict[str, Call])

    def charged(self, scope: str) -> int:
        return sum(call.charge for call in self.calls.values() if scope in call.scopes)

    def overrun(self, scope: str) -> int:
        return sum(max(call.charge - call.amount, 0) for call in self.calls.values() if scope in call.scopes)

    def left(self, scope: str) -> int | None:
        cap = self.caps[scope]
        return None if cap is None else cap - self.charged(scope)

    def refuses(self, scopes: Sequence[str], amount: int) -> str | None:
        """The outermost account that has no room."""
        return next((s for s in scopes if (left := self.left(s)) is not None and left < amount), None)


class LedgerMachine(RuleBasedStateMachine):
    """One tenant's session, its requests, and everything that may happen to their money."""

    url = ""
    examples = 0

    @initialize()
    def begin(self) -> None:
        type(self).examples += 1
        self.name = f"s{self.examples}"
        self.model = Model()
        self.now = NOON
        self.requests: dict[str, tuple[str, ...]] = {}
        self.closed = False
        self.anchor: Anchor | None = None
        self.numbers = 0
        self.open_ledger()
        self.run_(requests.open_session, self.name, f"t{self.examples}", at=self.now)
        self.open_request(request_cap=60, agent_cap=50, session_cap=100, day_cap=200)

    def open_ledger(self) -> None:
        self.ledger = Ledger(self.url, key=KEY, clock=lambda: self.now)
        self.run_ = self.ledger.run

    def new_id(self) -> str:
        self.numbers += 1
        return f"{self.name}-{self.numbers}"

    @rule(request_cap=AMOUNTS, agent_cap=AMOUNTS, session_cap=CAPS, day_cap=CAPS)
    def open_request(self, request_cap: int, agent_cap: int, session_cap: int | None, day_cap: int | None) -> None:
        """A new request, under the configuration of the day; after midnight it counts against another day."""
        request = self.new_id()
        day, session = f"tenant:t{self.examples}:{self.now.date()}", f"session:{self.name}"
        own, agent = f"request:{request}", f"agent:{request}:tax"
        for scope, cap in ((day, day_cap), (session, session_cap)):
            self.model.caps[scope] = None if cap is None else cap + self.model.granted.get(scope, 0)
        self.model.caps[own], self.model.caps[agent] = request_cap, agent_cap
        self.requests[request] = (day, session, own, agent)
        accounts = [Account(day, day_cap), Account(session, session_cap), Account(own, request_cap)]
        self.run_(requests.open_request, self.name, request, accounts=accounts, text_hash="t", at=self.now)
        self.run_(open_account, Account(agent, agent_cap))

    @rule(data=st.data(), cap=CAPS)
    def resume(self, data: st.DataObject, cap: int | None) -> None:
        """A request opened again, whatever the configuration says now, is granted nothing."""
        request = data.draw(st.sampled_from([*self.requests]))
        accounts = [Account(scope, cap) for scope in self.requests[request][:3]]
        self.run_(requests.open_request, self.name, request, accounts=accounts, text_hash="t", at=self.now)
        self.run_(open_account, Account(self.requests[request][3], cap))

    def wanted(self, request: str, agent: str, amount: int) -> Hold:
        scopes = self.requests[request]
        return Hold(self.new_id(), self.name, request, agent, "ns", "h", 0, "gpt", "p", amount, scopes, self.now)

    @rule(data=st.data(), agent=AGENTS, amount=AMOUNTS)
    def hold(self, data: st.DataObject, agent: str, amount: int) -> None:
        hold = self.wanted(data.draw(st.sampled_from([*self.requests])), agent, amount)
        refusing = self.model.refuses(hold.scopes, amount)
        if refusing is None and not self.closed:
            self.run_(postings.hold, hold)
            self.model.calls[hold.call_id] = Call(hold.request_id, agent, hold.scopes, amount)
            return
        with pytest.raises(BudgetExceeded) as refused:
            self.run_(postings.hold, hold)
        assert isinstance(refused.value, AccountClosed) == (refusing is None)
        assert refused.value.scope == (refusing or f"session:{self.name}")
        self.run_(postings.refuse, hold, scope=refused.value.scope, reason=str(refused.value))

    @rule(data=st.data(), amount=st.integers(1, 40))
    def hold_at_once(self, data: st.DataObject, amount: int) -> None:
        """Holders that race for the same money get it as often as it fits, never once more."""
        request = data.draw(st.sampled_from([*self.requests]))
        holds = [self.wanted(request, "tax", amount) for _ in range(HOLDERS)]

        def ask(hold: Hold) -> bool:
            try:
                self.run_(postings.hold, hold)
            except BudgetExceeded:
                return False
            return True

        lefts = [left for scope in self.requests[request] if (left := self.model.left(scope)) is not None]
        room = 0 if self.closed else min([HOLDERS, *(max(left, 0) // amount for left in lefts)])
        with ThreadPoolExecutor(HOLDERS) as pool:
            granted = [hold for hold, got in zip(holds, pool.map(ask, holds), strict=True) if got]
        assert len(granted) == room
        self.model.calls.update({h.call_id: Call(request, "tax", h.scopes, amount) for h in granted})

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """A held call goes out: no sum changes, and what is written next may write that too."""
        call_id = data.draw(st.sampled_from([*self.model.calls, "none"]))
        if call_id in self.model.calls and self.model.calls[call_id].state == "held":
            self.ledger.in_flight.begin(call_id, self.now)
            self.model.calls[call_id].sent = True

    @rule(data=st.data(), how=st.sampled_from(["settle", "void", "unknown", "reconcile"]), share=st.integers(0, 6))
    def end(self, data: st.DataObject, how: str, share: int) -> None:
        """A call ends once, below its hold, at it (share 4) or above it; after that nothing ends it again."""
        call_id = data.draw(st.sampled_from([*self.model.calls, "none"]))
        call = self.model.calls.get(call_id)
        cost = 0 if call is None else call.amount * share // 4
        session = self.name if share % 2 else None
        work = {
            "settle": self.ledger.bind(
                postings.settle, call_id, session_id=session, cost=cost, usage=Usage(1, 2), response=b"x", at=self.now
            ),
            "void": self.ledger.bind(postings.void, call_id, reason="429", at=self.now),
            "unknown": self.ledger.bind(postings.mark_unknown, call_id, reason="cut off", at=self.now),
            "reconcile": self.ledger.bind(postings.reconcile, call_id, cost=cost, at=self.now),
        }[how]
        if call is None or call.state != ("unknown" if how == "reconcile" else "held"):
            with pytest.raises(LedgerError):
                self.ledger.database.run(work)
            return
        self.ledger.database.run(work)
        call.state = {"void": "void", "unknown": "unknown"}.get(how, "settled")
        call.cost = cost
        self.closed = self.closed or (call.state == "settled" and cost > call.amount)

    @rule()
    def crash(self) -> None:
        """The process is gone with all it knew; the next one recovers what it left held."""
        Database.at(self.url).close()
        self.open_ledger()
        held = [call for call in self.model.calls.values() if call.state == "held"]
        assert self.run_(postings.recover, self.name, at=self.now) == len(held)
        for call in held:
            call.state = "unknown"

    @rule(data=st.data(), amount=st.integers(1, 60))
    def top_up(self, data: st.DataObject, amount: int) -> None:
        request = data.draw(st.sampled_from([*self.requests]))
        scope = data.draw(st.sampled_from(self.requests[request]))
        cap = self.model.caps[scope]
        if cap is None or scope.startswith("tenant:"):
            with pytest.raises(LedgerError):
                self.ledger.top_up(scope, USD.from_nanos(amount))
            return
        assert self.ledger.top_up(scope, USD.from_nanos(amount)) == scope
        self.model.caps[scope] = cap + amount
        self.model.granted[scope] = self.model.granted.get(scope, 0) + amount

    @rule()
    def acknowledge(self) -> None:
        if not self.closed:
            with pytest.raises(LedgerError, match="is open"):
                self.ledger.acknowledge(self.name, "seen")
            return
        self.ledger.acknowledge(self.name, "seen")
        self.closed = False

    @rule(seconds=st.integers(-7200, 7200))
    def clock_steps(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def midnight(self) -> None:
        self.now = (self.now + timedelta(days=1)).replace(hour=0, minute=0, second=0)

    @rule()
    def keep_an_anchor(self) -> None:
        self.anchor = self.ledger.anchor(self.name)

    @rule()
    def erase(self) -> None:
        self.ledger.erase(self.name)

    @invariant()
    def no_account_is_above_its_cap(self) -> None:
        """Spent and held stay within the cap but for incidents, and for a cap that was lowered below them."""
        scopes = [*self.model.caps]
        lefts = self.run_(lambda transaction: [left(transaction, [scope]) for scope in scopes])
        assert lefts == [self.model.left(scope) for scope in scopes]
        for scope, cap in self.model.caps.items():
            if scope.startswith(("request:", "agent:")):
                assert self.model.charged(scope) <= (cap or 0) + self.model.overrun(scope)

    @invariant()
    def sums_agree(self) -> None:
        """Calls, spend, costs and turns tell the same as the model."""
        calls = self.model.calls.values()
        spend = self.ledger.spend(self.name)
        held = sum(call.charge for call in calls if call.state == "held")
        total = sum(call.charge for call in calls)
        assert (spend.spent.nanos, spend.held.nanos) == (total - held, held)
        for by in ("agent", "model", "day"):
            rows = self.ledger.costs(by, session=self.name)
            assert sum(row.spent.nanos + row.held.nanos for row in rows) == total
        names = [*self.requests]
        sent_turns = self.run_(lambda transaction: [turns(transaction, name, "tax") for name in names])
        sent = [call.request for call in calls if call.state != "void" and call.agent.startswith("tax")]
        assert sent_turns == [sent.count(request) for request in names]

    @invariant()
    def open_calls_are_shown_as_they_are(self) -> None:
        """Held, sent and unknown calls are listed, each in its state."""
        states = {
            call_id: "sent" if call.state == "held" and call.sent else call.state
            for call_id, call in self.model.calls.items()
            if call.state in {"held", "unknown"}
        }
        ours = [hold for hold in self.ledger.open_holds() if hold.session_id == self.name]
        assert {hold.call_id: hold.state for hold in ours} == states

    @invariant()
    def the_log_verifies(self) -> None:
        """Log, calls and accounts agree, also with an anchor of earlier."""
        found = self.ledger.verify(self.name, anchor=self.anchor)
        assert found, str(found)

    def teardown(self) -> None:
        if self.examples:
            assert self.ledger.verify()


def test_whatever_happens_the_books_balance(url: str) -> None:
    """After any sequence of what may happen to money, no cap is broken, all sums agree and the log verifies."""
    machine = type("Machine", (LedgerMachine,), {"url": url, "examples": 0})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    rules = settings(max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=rules)
