"""A paid call's way in: the journal's answer if it was paid for before, else a committed hold, else a refusal."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from bursar.checkpoints.books.books import Account, Books, Hold, Usage
from bursar.checkpoints.database import Work
from bursar.nodes import failpoints
from bursar.nodes.gateway.scope import Scope
from bursar.nodes.gateway.steps import Flow, Transact, do
from bursar.state.errors import AccountClosed, BudgetExceeded, BursarError, LeaseLost, Looping, Refused, ScopeClosed
from bursar.state.money import USD

MAX_ADMISSIONS = 8  # how often a call that lost the race for the last money is shaped anew


@dataclass(frozen=True, slots=True)
class Shaped:
    """A call that fits: its worst case in nano-dollars, and the output cap that makes it so (0 where it has none)."""

    amount: int
    cap: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to have a call answered. `least` is what it needs; `shape` fits it into the nano-dollars left, or not."""

    model: str
    price_version: str
    least: int
    shape: Callable[[int | None], Shaped | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """A call that asks to be paid: for whom, the key of its answer in the journal, and its offers, the best first."""

    scope: Scope
    request_hash: str
    occurrence: int
    offers: tuple[Offer, ...]

    @property
    def books(self) -> Books:
        return self.scope.ledger.books

    def transact(self, work: Work[None]) -> Transact[None]:
        """The step that commits `work`."""
        return Transact(self.scope.ledger.database, work)

    def give_back(self) -> None:
        """It got no answer. A caller that tries again makes the same call again: the answer belongs to this one."""
        self.scope.give_back(self.request_hash, self.occurrence)

    @property
    def cheapest(self) -> Offer:
        return min(self.offers, key=lambda offer: offer.least)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call whose hold is committed: it may be sent once, by the offer at this place, with this output cap."""

    hold: Hold
    cap: int
    place: int


class _OutOfTurnsError(BursarError):
    """The books have as many paid calls of this agent as it may make; raised to roll the hold back."""


def admit(claim: Claim, *, first: bool) -> Flow[Admitted | bytes]:
    """The journal's answer if this call was paid for before, else a committed hold. Raises `Refused`."""
    scope = claim.scope
    why_not = _closed(scope)
    if why_not is None and not scope.paid:
        model = claim.offers[0].model
        why_not = BudgetExceeded(f"{scope.agent} is deterministic and may not call {model}", scope="unpaid")
    if why_not is None and first and not scope.take_turn(claim.offers[0].model):
        why_not = _no_turns(scope)
    if why_not is not None:
        raise (yield from _refused(claim, why_not))
    for _ in range(MAX_ADMISSIONS):
        failpoints.hit("before_hold")
        admission = Transact(scope.ledger.database, scope.fenced(_admission(claim)), outlast=True)
        try:
            if scope.lease is not None and scope.lease.database is not scope.ledger.database:
                yield from do(Transact(scope.lease.database, scope.lease.check))
            outcome = yield from do(admission)
        except LeaseLost as refusal:
            claim.give_back()
            raise scope.latch(refusal) from None
        except _OutOfTurnsError:
            outcome = _no_turns(scope)
        except AccountClosed as refusal:
            outcome = refusal
        except BudgetExceeded:
            continue  # on PostgreSQL another call took the money in between: shape this one anew
        except BaseException:
            claim.give_back()
            if isinstance(admission.result, Admitted):
                yield claim.transact(voided(claim, admission.result.hold, "cancelled before it was sent"))
            raise
        if isinstance(outcome, BudgetExceeded):
            raise (yield from _refused(claim, outcome))
        if isinstance(outcome, Admitted):
            failpoints.hit("after_hold")
            if (why_not := _closed(scope)) is not None:
                yield claim.transact(voided(claim, outcome.hold, "the run ended before it was sent"))
                raise (yield from _refused(claim, why_not))
        return outcome
    lost = BudgetExceeded(f"other calls took what {claim.cheapest.model} needed", scope=scope.scopes[-1])
    raise (yield from _refused(claim, lost))


def settle(claim: Claim, hold: Hold, *, cost: int, usage: Usage, response: bytes | None) -> Flow[None]:
    """Charge a call that was answered its cost in place of its hold, and keep the answer."""
    at = claim.scope.clock()
    yield claim.transact(claim.books.settle(hold.call_id, cost=cost, usage=usage, response=response, at=at))
    failpoints.hit("after_settle")


def voided(claim: Claim, hold: Hold, reason: str) -> Work[None]:
    """Work that frees a call's hold: nothing is owed for it."""
    return claim.books.void(hold.call_id, reason=reason, at=claim.scope.clock())


def lost(claim: Claim, hold: Hold, reason: str) -> Work[None]:
    """Work that keeps a call, whose end nobody saw, charged at its hold."""
    return claim.books.mark_unknown(hold.call_id, reason=reason, at=claim.scope.clock())


def seconds_left(scope: Scope) -> float | None:
    """What the run's deadline leaves, None without one."""
    return None if scope.deadline is None else scope.deadline - time.monotonic()


def _admission(claim: Claim) -> Work[Admitted | BudgetExceeded | bytes]:
    """One transaction: look in the journal, read what is left, shape, hold, count the turns."""
    scope, books = claim.scope, claim.books

    def work(connection: Connection) -> Admitted | BudgetExceeded | bytes:
        key = (scope.session_id, scope.checkpoint_ns, claim.request_hash, claim.occurrence)
        answer = books.replayable(*key)(connection)
        if answer is not None:
            return answer
        left = books.left(scope.scopes)(connection)
        for place, offer in enumerate(claim.offers):
            shaped = offer.shape(left)
            if shaped is None:
                continue
            for account in scope.opens:
                books.open_account(Account(account, None))(connection)
            admitted = Admitted(_hold(claim, offer, shaped.amount), shaped.cap, place)
            books.hold(admitted.hold)(connection)
            _check_turns(scope, connection)
            return admitted
        return _too_dear(claim, left or 0, connection)

    return work


def _check_turns(scope: Scope, connection: Connection) -> None:
    """Runs that came before this one count: a resume grants no fresh turns, whatever it asks."""
    if scope.max_turns is None:
        return
    # After the hold, whose lock on the agent's account makes calls of the same agent wait for each other.
    if scope.ledger.books.turns(scope.request_id, scope.owner)(connection) > scope.max_turns:
        raise _OutOfTurnsError


def _no_turns(scope: Scope) -> BudgetExceeded:
    return BudgetExceeded(f"{scope.agent} has used its {scope.max_turns} turns", scope="turns")


def _too_dear(claim: Claim, left: int, connection: Connection) -> BudgetExceeded:
    scopes, cheapest = claim.scope.scopes, claim.cheapest
    tightest = next((s for s in scopes if claim.books.left((s,))(connection) == left), scopes[-1])
    needs = USD.from_nanos(cheapest.least)
    message = f"a call to {cheapest.model} needs {needs} and {USD.from_nanos(max(left, 0))} is left of {tightest}"
    return BudgetExceeded(message, scope=tightest)


def _hold(claim: Claim, offer: Offer, amount: int) -> Hold:
    scope = claim.scope
    return Hold(
        call_id=scope.new_id(),
        session_id=scope.session_id,
        request_id=scope.request_id,
        agent=scope.agent,
        checkpoint_ns=scope.checkpoint_ns,
        request_hash=claim.request_hash,
        occurrence=claim.occurrence,
        model=offer.model,
        price_version=offer.price_version,
        amount=amount,
        scopes=scope.scopes,
        at=scope.clock(),
    )


def _refused(claim: Claim, refusal: Refused) -> Flow[Refused]:
    """Write the refusal down and keep it in the scope; the result is to be raised."""
    account = refusal.scope if isinstance(refusal, BudgetExceeded) else "run"
    claim.scope.latch(refusal)
    claim.give_back()
    if not claim.scope.books_gone:
        hold = _hold(claim, claim.cheapest, claim.cheapest.least)
        yield claim.transact(claim.books.refuse(hold, scope=account, reason=str(refusal)))
    return refusal


def _closed(scope: Scope) -> Refused | None:
    if isinstance(scope.refusal, Looping):
        return scope.refusal
    if scope.closed:
        return ScopeClosed(f"the run of {scope.agent} has ended; nothing that still runs of it may spend")
    left = seconds_left(scope)
    if left is not None and left <= 0:
        return ScopeClosed(f"the deadline of {scope.agent} has passed")
    return None
