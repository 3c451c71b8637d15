"""A world of holders, sellers and people, played from one seed: who does what, in which order, and what must hold.

A holder is a run that pays for calls. Holders share accounts on several levels, and some are made inside the runs of
others. Between any two of its steps any other may take one, its process may die and be resumed, a message to the books
may be late, lost with its process or come twice, and a person may pause, top up, lower a cap, reconcile or acknowledge.
The clock counts steps. After each posting, and at the end, the world checks what must hold whatever happened.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from bursar.state.rules.pricing import Usage
from tests.simulation.books import Books, Key, NewHold, NewRequest
from tests.simulation.gateway import Call, Holder, Life, SimulatedGateway
from tests.simulation.seller import Seller

MAX_STEPS = 400
DAY = "2026-11-30"
LEAST_OPERATIONS, LEAST_HOLDERS = 10, 3  # of what counts as an interleaving


@dataclass
class World:
    """One seed's world on some books. `trace` is what happened, the same to the byte for the same seed."""

    seed: int
    books: Books
    trace: list[str] = field(default_factory=list[str])
    seen: Counter[str] = field(default_factory=Counter[str])
    step: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.sellers = [Seller(self.rng, f"m{number}") for number in range(2)]
        self.gateway = SimulatedGateway(self)
        self.holders: list[Holder] = []
        self.lives: list[tuple[Holder, Life]] = []
        self.mail: list[tuple[int, Callable[[], None]]] = []  # from which step on it may arrive, and what it does
        self.dead: list[Holder] = []
        self.calls: dict[str, Call] = {}
        self.answered: set[Key] = set()
        self.paused: set[str] = set()
        self.resting: set[str] = set()
        self.incidents: set[str] = set()  # sessions that an overrun closed, until a person acknowledges it
        self.unbounded: set[str] = set()  # accounts whose cap was lowered, or that a seller's overrun went through
        self.requests: dict[str, str] = {}  # those of users, and their sessions
        self.operations = 0  # steps that holders and people took, messages that arrived
        self.active: set[str] = set()  # the holders that asked to pay
        self._people()

    def play(self) -> "World":
        """Play the world to its end, and return it. Raises `AssertionError` if anything does not hold."""
        while (self.lives or self.dead or self.mail) and self.step < MAX_STEPS:
            self.step += 1
            luck = self.rng.random()
            if luck < 0.05:
                self._person()
            elif luck < 0.08 and self.lives:
                self._crash()
            elif self.dead and (luck < 0.2 or not self.lives):
                self._resume()
            elif self.mail and (luck < 0.35 or not self.lives):
                self._deliver()
            elif self.lives:
                self._go_on()
        for _, late in self.mail:
            late()
        self._check_end()
        return self

    @property
    def is_interleaving(self) -> bool:
        """Whether enough happened, by enough holders. Every holder has four levels of accounts at least."""
        return self.operations >= LEAST_OPERATIONS and len(self.active) >= LEAST_HOLDERS

    @property
    def digest(self) -> str:
        """The SHA-256 of the trace."""
        return sha256("\n".join(self.trace).encode()).hexdigest()

    # Who lives in the world.

    def _people(self) -> None:
        rng, name = self.rng, f"w{self.seed}"
        self.tenant = f"tenant:{name}:{DAY}"
        for session in range(rng.choice((1, 1, 2))):
            self._request(f"{name}-{session}")
        for _ in range(rng.randint(3, 5)):
            # Three holders at least pay beside each other; some of them are made inside the run of another.
            outer = rng.choice([None, None, *[one for one in self.holders if len(one.scopes) < 9]])
            self._holder(outer)
        for holder in self.holders:
            self.lives.append((holder, self.gateway.life(holder)))

    def _request(self, session: str) -> None:
        """Open one more request of a user: the session and the tenant get the caps that the configuration has now."""
        rng, number = self.rng, len(self.requests)
        request = f"w{self.seed}r{number}"
        self.requests[request] = session
        caps = {
            self.tenant: rng.choice((None, rng.randint(0, 2_000), rng.randint(500, 4_000))),
            f"session:{session}": rng.choice((None, rng.randint(0, 1_000), rng.randint(500, 2_000))),
            f"request:{request}": rng.choice((rng.randint(0, 400), rng.randint(200, 1_500))),
        }
        before = self.books.balances()
        self.books.open_request(NewRequest(request, session, f"w{self.seed}", caps))
        for scope, cap in caps.items():
            if scope in before and cap is not None and (before[scope][0] is None or cap < (before[scope][0] or 0)):
                self.unbounded.add(scope)  # what was spent under the old cap may be above the new one
        self.tell("open", number, *caps.values())

    def _holder(self, outer: Holder | None) -> None:
        rng, number = self.rng, len(self.holders)
        name = f"a{number};"
        if outer is None:
            request, session = rng.choice(list(self.requests.items()))
            scopes: tuple[str, ...] = (self.tenant, f"session:{session}", f"request:{request}")
        else:
            request, session = f"w{self.seed}i{number}", outer.session
            cap = rng.randint(0, 900)
            self.books.open_request(
                NewRequest(request, session, f"w{self.seed}", {f"request:{request}": cap}, parent=outer.request)
            )
            scopes = (*outer.scopes, f"request:{request}")
        own = f"agent:{request}:{name}"
        self.books.open_account(own, rng.choice((None, rng.randint(0, 700))))
        place = name if outer is None else f"{outer.place}{name}"
        deadline = rng.choice((MAX_STEPS, rng.randint(15, 90)))
        turns = rng.choice((None, rng.randint(1, 4)))
        pays = rng.random() < 0.95
        made = Holder(
            name, session, request, place, (*scopes, own), deadline, turns, rng.randint(1, 3), pays=pays, outer=outer
        )
        self.holders.append(made)
        self.tell("holder", number, len(made.scopes), made.calls)

    # What the books are told, perhaps late or twice.

    def post(self, posting: Callable[[], None]) -> None:
        if self.rng.random() < 0.2:
            self.mail.append((self.step + self.rng.randint(1, 20), posting))
        else:
            posting()
        if self.rng.random() < 0.1:
            self.mail.append((self.step + self.rng.randint(1, 20), posting))

    def settle(self, hold: NewHold, charge: int, usage: Usage, *, kept: bool) -> None:
        done = self.books.settle(hold.call, charge, usage, kept=kept)
        self.tell("settle", hold.call, charge, done)
        if done:
            self._ended(hold, charge)
            if kept:
                self.answered.add(hold.key)

    def end(self, hold: NewHold, how: str, charge: int) -> None:
        done = self.books.void(hold.call) if how == "void" else self.books.lose(hold.call)
        self.tell(how, hold.call, done)
        if done:
            self._ended(hold, charge)

    def _ended(self, hold: NewHold, charge: int) -> None:
        call = self.calls[hold.call]
        assert call.charge is None, "a call ended twice in the books"
        call.charge = charge
        assert charge >= call.bill, f"a call is charged {charge}, below its bill of {call.bill}"
        self._note_overrun(call)

    def _note_overrun(self, call: Call) -> None:
        if call.charge is not None and call.charge > call.hold.amount:
            self.unbounded.update(call.hold.scopes)
            self.incidents.add(call.hold.key.session)

    # What happens to holders, and what people do.

    def _go_on(self) -> None:
        place = self.rng.randrange(len(self.lives))
        holder, life = self.lives[place]
        self.operations += 1
        self.active.add(holder.name)
        try:
            next(life)
        except StopIteration:
            self.tell("ended", holder.name)
            del self.lives[place]

    def _crash(self) -> None:
        """Kill a process: a holder of a user's request, and all that are made inside its run. What they had is gone."""
        victim = self.rng.choice(self.lives)[0]
        while victim.outer is not None:
            victim = victim.outer
        killed = [holder for holder, _ in self.lives if holder.place.startswith(victim.place)]
        self.lives = [(holder, life) for holder, life in self.lives if holder not in killed]
        self.dead.append(victim)
        self.tell("killed", victim.name, len(killed))

    def _resume(self) -> None:
        victim = self.dead.pop(self.rng.randrange(len(self.dead)))
        lost = self.books.recover(victim.session, victim.place)
        self.tell("recovered", victim.name, lost)
        mine = [one for one in self._open() if self._is_within(one.hold.key, victim)]
        assert lost == len(mine), f"{lost} calls are unknown, {len(mine)} were in flight"
        for call in mine:
            call.charge = call.hold.amount
        self.lives += [(one, self._again(one)) for one in self.holders if one.place.startswith(victim.place)]

    def _again(self, holder: Holder) -> Life:
        holder.turns, holder.has_ended = 0, False
        return self.gateway.life(holder)

    def _deliver(self) -> None:
        due = [place for place, (since, _) in enumerate(self.mail) if since <= self.step]
        if due:
            self.operations += 1
            self.mail.pop(self.rng.choice(due))[1]()

    def _person(self) -> None:
        rng = self.rng
        self.operations += 1
        what = rng.choice(("pause", "rest", "top up", "request", "reconcile", "acknowledge"))
        match what:
            case "pause":
                self.paused ^= {rng.choice([self.tenant, *[one.name for one in self.holders]])}
            case "rest":
                self.resting ^= {rng.choice(("model:m0", "model:m1", "function:f"))}
            case "top up":
                scope, amount = rng.choice(rng.choice(self.holders).scopes[1:]), rng.randint(1, 200)
                cap = self.books.balances()[scope][0]
                if cap is not None:
                    self.books.top_up(scope, amount)
                    assert self.books.balances()[scope][0] == cap + amount, f"{scope} was not topped up"
            case "request":
                self._request(self.holders[0].session)
            case "reconcile":
                self._reconcile()
            case _:
                self.incidents.discard(self.holders[0].session)
                self.tell("acknowledged", self.books.acknowledge(self.holders[0].session))
        self.tell(what)

    def _reconcile(self) -> None:
        """A person finds out what a call cost whose end nobody saw; for any other call the books refuse it."""
        if not self.calls:
            return
        call = self.calls[self.rng.choice(list(self.calls))]
        done = self.books.reconcile(call.hold.call, call.bill)
        self.tell("reconcile", call.hold.call, call.bill, done)
        if done:
            call.charge = call.bill
            self._note_overrun(call)

    # What must hold.

    def _check_end(self) -> None:
        for scope, (cap, spent, held) in sorted(self.books.balances().items()):
            calls = [one for one in self.calls.values() if scope in one.hold.scopes]
            charged = sum(one.charge for one in calls if one.charge is not None)
            open_ = sum(one.hold.amount for one in calls if one.charge is None)
            assert spent == charged, f"{scope} has spent {spent}, its calls were charged {charged}"
            assert held == open_, f"{scope} holds {held}, its open calls {open_}"
            billed = sum(one.bill for one in calls if not one.has_overrun)
            assert spent + held >= billed, f"{scope} was billed more than the books know"
            if cap is not None and scope not in self.unbounded:
                assert billed <= spent + held <= cap, f"{scope} is beyond its cap"
            self.tell("balance", scope, cap, spent, held)

    def _open(self) -> list[Call]:
        return [one for one in self.calls.values() if one.charge is None]

    def _is_within(self, key: Key, holder: Holder) -> bool:
        return key.session == holder.session and key.place.startswith(holder.place)

    def tell(self, what: str, *facts: object) -> None:
        self.trace.append(f"{self.step} {what} {' '.join(map(str, facts))}")
        self.seen[what] += 1
