"""Books in memory, kept by the money rules alone. The world posts to them as gateway and nodes post to the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bursar.state.rules import calls as rules
from bursar.state.rules.calls import IN_FLIGHT, MAY_FOLLOW, CallState, CallStep, Movement, has_turn
from bursar.state.rules.pricing import Usage

INCIDENT, TURNS, TWICE = "incident", "turns", "twice"  # why a hold is refused, besides the account without room


@dataclass(frozen=True, slots=True)
class Key:
    """What a call is found again by: its session, its place in the graph, its request's hash, and which of equals."""

    session: str
    place: str
    hash: str
    nth: int


@dataclass(frozen=True, slots=True)
class NewHold:
    """A call that asks for its hold: `amount` nano-dollars in each of `scopes`, outermost first."""

    call: str
    request: str
    agent: str
    key: Key
    amount: int
    scopes: tuple[str, ...]
    max_turns: int | None


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to open, with the caps of its accounts, outermost first; `parent` is the request it is made in."""

    request: str
    session: str
    tenant: str
    caps: Mapping[str, int | None]
    parent: str | None = None


class Books(Protocol):
    """The postings that a world makes. Those that return a bool return whether anything was changed."""

    def open_request(self, new: NewRequest) -> None: ...
    def open_account(self, scope: str, cap: int | None) -> None: ...
    def left(self, scopes: Sequence[str]) -> int | None: ...
    def has_answer(self, key: Key) -> bool: ...
    def hold(self, new: NewHold) -> str:
        """Hold the amount, and return "". If it is refused, return why: a reason above, or the account's scope."""
        ...

    def settle(self, call: str, cost: int, usage: Usage, *, kept: bool) -> bool: ...
    def void(self, call: str) -> bool: ...
    def lose(self, call: str) -> bool: ...
    def reconcile(self, call: str, cost: int) -> bool: ...
    def recover(self, session: str, place: str) -> int: ...
    def top_up(self, scope: str, amount: int) -> None: ...
    def acknowledge(self, session: str) -> bool: ...
    def balances(self) -> dict[str, tuple[int | None, int, int]]:
        """Return cap, spent and held of every account."""
        ...


@dataclass(slots=True)
class SimulatedAccount:
    """An account: the cap of the configuration, what people granted besides, and what is spent and held."""

    configured: int | None
    granted: int = 0
    spent: int = 0
    held: int = 0

    @property
    def cap(self) -> int | None:
        return rules.cap_of(self.configured, self.granted)

    @property
    def left(self) -> int | None:
        return rules.room(self.cap, self.spent, self.held)


@dataclass(slots=True)
class SimulatedCall:
    """A call in the books. `has_answer` is whether its answer is kept."""

    new: NewHold
    state: CallState = "held"
    cost: int = 0
    has_answer: bool = False


@dataclass(slots=True)
class MemoryBooks:
    """Accounts and calls in dictionaries. Each method is one transaction: all of it, or nothing."""

    accounts: dict[str, SimulatedAccount] = field(default_factory=dict[str, SimulatedAccount])
    calls: dict[str, SimulatedCall] = field(default_factory=dict[str, SimulatedCall])
    answers: dict[Key, str] = field(default_factory=dict[Key, str])
    closed: set[str] = field(default_factory=set[str])  # sessions with an incident that nobody has acknowledged

    def open_request(self, new: NewRequest) -> None:
        for scope, cap in new.caps.items():
            if scope in self.accounts and scope.startswith(("tenant:", "session:")):
                self.accounts[scope].configured = cap
            self.open_account(scope, cap)

    def open_account(self, scope: str, cap: int | None) -> None:
        self.accounts.setdefault(scope, SimulatedAccount(cap))

    def left(self, scopes: Sequence[str]) -> int | None:
        rooms = [room for scope in scopes if (room := self.accounts[scope].left) is not None]
        return min(rooms, default=None)

    def has_answer(self, key: Key) -> bool:
        return key in self.answers

    def hold(self, new: NewHold) -> str:
        if new.call in self.calls:
            return TWICE
        for scope in new.scopes:
            if not rules.fits(new.amount, self.accounts[scope].left):
                return scope
        if new.key.session in self.closed:
            return INCIDENT
        if not has_turn(self._turns(new), new.max_turns):
            return TURNS
        self.calls[new.call] = SimulatedCall(new)
        self._move(new.scopes, rules.hold(new.amount))
        return ""

    def settle(self, call: str, cost: int, usage: Usage, *, kept: bool) -> bool:
        taken = self._take(call, "settle", "settled", cost)
        if taken is None:
            return False
        self._move(taken.scopes, rules.settle(taken.amount, cost))
        if kept:
            self.answers[taken.key] = call
        self._check_overrun(taken, cost)
        return True

    def void(self, call: str) -> bool:
        taken = self._take(call, "void", "void")
        if taken is not None:
            self._move(taken.scopes, rules.void(taken.amount))
        return taken is not None

    def lose(self, call: str) -> bool:
        taken = self._take(call, "lose", "unknown")
        if taken is not None:
            self._move(taken.scopes, rules.lose(taken.amount))
        return taken is not None

    def reconcile(self, call: str, cost: int) -> bool:
        taken = self._take(call, "reconcile", "settled", cost)
        if taken is None:
            return False
        self._move(taken.scopes, rules.reconcile(taken.amount, cost))
        self._check_overrun(taken, cost)
        return True

    def recover(self, session: str, place: str) -> int:
        keys = {name: call.new.key for name, call in self.calls.items() if call.state in IN_FLIGHT}
        lost = [name for name, key in keys.items() if key.session == session and key.place.startswith(place)]
        return sum(self.lose(name) for name in lost)

    def top_up(self, scope: str, amount: int) -> None:
        self.accounts[scope].granted += amount

    def acknowledge(self, session: str) -> bool:
        known = session in self.closed
        self.closed.discard(session)
        return known

    def balances(self) -> dict[str, tuple[int | None, int, int]]:
        return {scope: (one.cap, one.spent, one.held) for scope, one in self.accounts.items()}

    def _turns(self, new: NewHold) -> int:
        return sum(
            call.new.request == new.request and call.new.agent == new.agent and call.state != "void"
            for call in self.calls.values()
        )

    def _take(self, name: str, step: CallStep, state: CallState, cost: int = 0) -> NewHold | None:
        call = self.calls.get(name)
        if call is None or call.state not in MAY_FOLLOW[step]:
            return None
        call.state, call.cost = state, cost
        return call.new

    def _move(self, scopes: Sequence[str], by: Movement) -> None:
        for scope in scopes:
            account = self.accounts[scope]
            account.held += by.held
            account.spent += by.spent

    def _check_overrun(self, taken: NewHold, cost: int) -> None:
        if rules.is_overrun(taken.amount, cost):
            self.closed.add(taken.key.session)
