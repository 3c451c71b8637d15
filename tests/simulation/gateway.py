"""A gateway of the simulated world: it pays for calls by the money rules, as the real one does.

Each `yield` is a place at which others act.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bursar.state.rules.calls import (
    MAX_ATTEMPTS,
    Choice,
    Offer,
    Refusal,
    choose,
    end_failed,
    fixed_offer,
    has_turn,
    model_offer,
    pause_before_retry,
    refuse_run,
)
from bursar.state.rules.pricing import Bill, bill_answer, bill_cut_stream
from tests.simulation.books import INCIDENT, TURNS, Key, NewHold
from tests.simulation.seller import SOUND, Answer, Seller

if TYPE_CHECKING:
    from tests.simulation.world import World

MAX_ADMISSIONS = 4

Life = Generator[None, None, None]


@dataclass(slots=True)
class Call:
    """A call that is in the books: what its seller billed, 0 before it is sent, and what it is charged in the end."""

    hold: NewHold
    bill: int = 0
    has_overrun: bool = False
    charge: int | None = None  # None: its end is not in the books


@dataclass(slots=True)
class Holder:
    """A run that pays. `outer` is the run that it is made in; it ends with that run. `deadline` is a step."""

    name: str
    session: str
    request: str
    place: str
    scopes: tuple[str, ...]
    deadline: int
    max_turns: int | None
    calls: int
    pays: bool
    outer: "Holder | None" = None
    has_ended: bool = False
    turns: int = 0

    def is_over(self, step: int) -> bool:
        return self.has_ended or step >= self.deadline or (self.outer is not None and self.outer.is_over(step))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that a holder wants: its offers, each with its seller (a function has none), and the call's bounds."""

    key: Key
    offers: tuple[Offer, ...]
    sellers: tuple[Seller, ...]
    bound: int
    choices: int


@dataclass(frozen=True, slots=True)
class SimulatedGateway:
    """What pays for the calls of the holders of one world."""

    world: "World"

    def life(self, holder: Holder) -> Life:
        """Pay for the holder's calls, one after the other, until it ends or one is refused."""
        for nth in range(holder.calls):
            yield
            goes_on = yield from self._pay(holder, Key(holder.session, holder.place, f"h{nth % 2}", nth // 2))
            if not goes_on:
                break
        holder.has_ended = True

    def _pay(self, holder: Holder, key: Key) -> Generator[None, None, bool]:
        """Pay for one call, as the gateway does; return whether the holder goes on."""
        wanted = self._want(key)
        for attempt in range(MAX_ATTEMPTS):
            if not self._may_send(holder, first=attempt == 0):
                return False
            admitted = yield from self._admit(holder, wanted)
            if not isinstance(admitted, tuple):
                return admitted
            hold, choice = admitted
            yield  # the hold is committed, and the call is not sent
            if holder.is_over(self.world.step):
                self.world.end(hold, "void", 0)
                return False
            answer = self._send(hold, wanted, choice)
            yield  # the seller has billed the call, and nobody here has its answer
            if not answer.has_failed:
                self._take(hold, wanted, choice, answer)
                return True
            left = holder.deadline - self.world.step
            if self._fail(hold, wanted, choice, answer, left=left, attempt=attempt) is None:
                return True
            yield
        return True

    def _want(self, key: Key) -> Wanted:
        rng = self.world.rng
        if rng.random() < 0.15:  # a function at a fixed price
            return Wanted(key, (fixed_offer("f", "given", rng.randint(0, 80), "function:f"),), (), 0, 0)
        bound, choices = rng.randint(1, 60), rng.choice((1, 1, 1, 2))
        asked = rng.choice((None, None, rng.randint(1, 80)))
        sellers = self.world.sellers if rng.random() < 0.5 else self.world.sellers[:1]
        offers = tuple(
            model_offer(
                one.price,
                input_tokens=bound,
                asked=asked,
                maximum=rng.randint(10, 100),
                minimum=rng.randint(1, 20),
                choices=choices,
                breaker=f"model:{one.price.name}",
            )
            for one in sellers
        )
        return Wanted(key, offers, tuple(sellers), bound, choices)

    def _may_send(self, holder: Holder, *, first: bool) -> bool:
        if refuse_run(ended=holder.is_over(self.world.step), pays=holder.pays) is not None:
            self.world.tell("not sent", holder.name)
            return False
        if first and not has_turn(holder.turns, holder.max_turns):
            self.world.tell("no turn", holder.name)
            return False
        holder.turns += first
        assert holder.pays, "a deterministic run pays"
        assert not holder.is_over(self.world.step), "a run that has ended pays"
        assert holder.max_turns is None or holder.turns <= holder.max_turns, "a run has too many turns"
        return True

    def _admit(self, holder: Holder, wanted: Wanted) -> Generator[None, None, tuple[NewHold, Choice] | bool]:
        """Return the hold and the choice; True if the books keep the answer, False if the call is refused."""
        key, offers = wanted.key, wanted.offers
        for _ in range(MAX_ADMISSIONS):
            if self.world.books.has_answer(key):
                self.world.tell("replayed", holder.name, key.hash, key.nth)
                return True
            left, paused = (
                self.world.books.left(holder.scopes),
                bool(self.world.paused & {self.world.tenant, holder.name}),
            )
            choice = choose(offers, left=left, paused=paused, admits=lambda name: name not in self.world.resting)
            if not isinstance(choice, Choice):
                self._check_declined(choice.why, offers, left, paused=paused)
                self.world.tell("declined", holder.name, choice.why.name, left)
                return False
            amount = choice.sized.amount
            assert left is None or amount <= left, "a call was sized beyond what is left"
            assert not paused
            assert offers[choice.place].breaker not in self.world.resting, "a call was sent to a model that rests"
            if self.world.rng.random() < 0.3:
                yield  # another call may take the money between the read and the hold
            call = f"w{self.world.seed}c{len(self.world.trace)}"
            hold = NewHold(call, holder.request, holder.name, key, amount, holder.scopes, holder.max_turns)
            refused = self.world.books.hold(hold)
            self.world.tell("hold", hold.call, hold.amount, refused)
            if not refused:
                self.world.calls[call] = Call(hold)
                self._check_held(hold)
                if self.world.rng.random() < 0.1:  # the message comes twice
                    self.world.tell("twice", self.world.books.hold(hold))
                return hold, choice
            self._check_refused(hold, refused)
            if refused in {INCIDENT, TURNS}:
                return False
        return False

    def _send(self, hold: NewHold, wanted: Wanted, choice: Choice) -> Answer:
        """Let the seller answer and bill the call. The bill is within the hold, unless the seller breaks its word."""
        assert hold.key not in self.world.answered, "an answer that is in the books was paid for again"
        answer = Answer("sound", hold.amount, None, 0)
        if wanted.sellers:
            answer = wanted.sellers[choice.place].answer(wanted.bound, choice.sized.cap * wanted.choices)
        call = self.world.calls[hold.call]
        call.bill, call.has_overrun = answer.bill, answer.bill > hold.amount
        breaks_word = answer.kind in {"overrun", "cut off beyond the cap"}
        assert breaks_word or not call.has_overrun, "the hold was no worst case"
        self.world.seen[answer.kind] += 1
        return answer

    def _take(self, hold: NewHold, wanted: Wanted, choice: Choice, answer: Answer) -> None:
        """Book an answer that arrived: a bill that agrees with itself as it is, any other one at its most."""
        bill = Bill(None)
        if wanted.sellers:
            price = wanted.sellers[choice.place].price
            bill = bill_answer(price, answer.usage, hold=hold.amount, input_tokens=wanted.bound, seen=answer.seen)
            exact = answer.kind in {*SOUND, "overrun"} and len(price.lists) == 1
            assert not exact or bill.nanos == answer.bill, "a sound bill was not charged as it is"
        self.world.post(lambda: self.world.settle(hold, bill.charge(hold.amount), bill.usage, kept=True))

    def _fail(
        self, hold: NewHold, wanted: Wanted, choice: Choice, answer: Answer, *, left: int, attempt: int
    ) -> float | None:
        """Book the end of a call that failed. Return the pause before it is sent again, None if it is not."""
        owed = "nothing" if answer.kind == "refused" else "unknown"
        price = wanted.sellers[choice.place].price
        known = bill_cut_stream(price, hold=hold.amount, input_tokens=wanted.bound, seen=answer.seen)
        match end_failed(owed, is_cost_known=answer.seen > 0 and known is not None):
            case "settle":
                assert known is not None
                cost, usage = known.charge(hold.amount), known.usage
                self.world.post(lambda: self.world.settle(hold, cost, usage, kept=False))
            case "void":
                self.world.post(lambda: self.world.end(hold, "void", 0))
            case "lose":
                self.world.post(lambda: self.world.end(hold, "lose", hold.amount))
        asked = self.world.rng.choice((None, 1.0, 40.0))
        pause = pause_before_retry(attempt, retry=owed == "nothing", pause_seconds=asked, seconds_left=float(left))
        assert pause is None or (attempt + 1 < MAX_ATTEMPTS and pause < left), "a call is sent again without end"
        return pause

    def _check_refused(self, hold: NewHold, why: str) -> None:
        """No hold is refused without need."""
        if why == INCIDENT:
            assert hold.key.session in self.world.incidents, "a session without an incident is closed"
        elif why != TURNS:
            cap, spent, held = self.world.books.balances()[why]
            assert cap is not None, f"{why} has no cap and refused a hold"
            assert spent + held + hold.amount > cap, f"{why} has room and refused a hold"

    def _check_held(self, hold: NewHold) -> None:
        assert hold.key.session not in self.world.incidents, "a session with an incident pays"
        balances = self.world.books.balances()
        for scope in hold.scopes:
            cap, spent, held = balances[scope]
            assert held >= hold.amount, f"{scope} does not hold the call"
            assert cap is None or spent + held <= cap, f"{scope} holds more than its cap"

    def _check_declined(self, why: Refusal, offers: tuple[Offer, ...], left: int | None, *, paused: bool) -> None:
        """Nothing is declined without need."""
        if why is Refusal.TOO_DEAR:
            assert left is not None
            assert all(offer.least > left for offer in offers), "a call that fits was refused"
        elif why is Refusal.BREAKER_OPEN:
            assert any(offer.breaker in self.world.resting for offer in offers), (
                "a call was refused for a closed breaker"
            )
        else:
            assert paused
