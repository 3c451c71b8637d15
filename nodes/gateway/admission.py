"""A paid call's way in and out.

In: the journal's answer if the call was paid for before, otherwise a committed hold, otherwise a refusal. Out: the hold
is settled, voided, or kept because nobody saw the call's end; the model's breaker hears of it in the same transaction.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from bursar.checkpoints.ledger import circuit_breakers, postings
from bursar.checkpoints.ledger.accounts import Account, left, open_account
from bursar.checkpoints.ledger.admission_facts import pauses_of, read_admission_facts
from bursar.checkpoints.ledger.calls import Hold, Usage, replayable, turns
from bursar.checkpoints.ledger.circuit_breakers import Caller
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.gateway import failpoints
from bursar.nodes.gateway.flow import Commit, Flow, do
from bursar.nodes.gateway.scope import Scope
from bursar.state.circuit_breaker import Breaker
from bursar.state.errors import BursarError
from bursar.state.money import USD
from bursar.state.refusals import (
    AccountClosed,
    BreakerOpen,
    BudgetExceeded,
    LeaseLost,
    Looping,
    Paused,
    Refused,
    ScopeClosed,
)

BreakerVote = Literal["well", "at fault", "nothing"]  # what the end of a call says about the model's breaker

MAX_ADMISSIONS = 8  # how often a call that lost the race for the last money is shaped anew


@dataclass(frozen=True, slots=True)
class SizedOffer:
    """A call that fits: its worst case in nano-dollars, and the output cap that makes it so (0 where it has none)."""

    amount: int
    cap: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to have a call answered. `least` is what it needs; `shape` fits it into the nano-dollars left, or not.

    `breaker` names the one that guards it, "" where none does.
    """

    model: str
    price_version: str
    least: int
    shape: Callable[[int | None], SizedOffer | None]
    breaker: str = ""


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """A call that asks to be paid: for whom, the key of its answer in the journal, and its offers, the best first."""

    scope: Scope
    request_hash: str
    occurrence: int
    offers: tuple[Offer, ...]

    def commit(self, posting: Callable[[Transaction], None]) -> Commit[None]:
        """The step that commits the posting: now, or when the database can keep it again."""
        ledger = self.scope.ledger
        return Commit(ledger.database, ledger.bind(posting), lasting=True)

    def give_back(self) -> None:
        """It got no answer. A caller that tries again makes the same call again: the answer belongs to this one."""
        self.scope.give_back(self.request_hash, self.occurrence)

    @property
    def cheapest(self) -> Offer:
        return min(self.offers, key=lambda offer: offer.least)


@dataclass(frozen=True, slots=True)
class BreakerPass:
    """A call that was let through by the breaker of this name; "" has none. `watched`: it saw faults lately."""

    name: str
    caller: Caller
    watched: bool


@dataclass(frozen=True, slots=True)
class GrantedCall:
    """A call whose hold is committed: it may be sent once, by the offer at this place, with this output cap."""

    hold: Hold
    cap: int
    place: int
    guarded: BreakerPass


class _OutOfTurnsError(BursarError):
    """The books have as many paid calls of this agent as it may make; raised to roll the hold back."""


class _ProbeTakenError(BursarError):
    """Another caller has the probe of the half-open breaker; raised to roll the hold back."""


def admit(claim: AdmissionRequest, *, first: bool) -> Flow[GrantedCall | bytes]:
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
        work = scope.ledger.bind(_admission, claim)
        admission = Commit(scope.ledger.database, work, outlast=True, until=scope.until)
        try:
            if scope.lease is not None and scope.lease.database is not scope.ledger.database:
                yield from do(Commit(scope.lease.database, scope.lease.check, until=scope.until))
            outcome = yield from do(admission)
        except LeaseLost as refusal:
            claim.give_back()
            raise scope.latch(refusal) from None
        except _OutOfTurnsError:
            outcome = _no_turns(scope)
        except AccountClosed as refusal:
            outcome = refusal
        except _ProbeTakenError:
            continue  # a cheaper model, or the refusal
        except BudgetExceeded:
            continue  # on PostgreSQL another call took the money in between: shape this one anew
        except BaseException:
            claim.give_back()
            if isinstance(admission.result, GrantedCall):
                yield from void(claim, admission.result, "cancelled before it was sent")
            raise
        if isinstance(outcome, Refused):
            raise (yield from _refused(claim, outcome))
        if isinstance(outcome, GrantedCall):
            failpoints.hit("after_hold")
            if (why_not := _closed(scope)) is not None:
                yield from void(claim, outcome, "the run ended before it was sent")
                raise (yield from _refused(claim, why_not))
            scope.ledger.in_flight.begin(outcome.hold.call_id, scope.clock())
        return outcome
    lost = BudgetExceeded(f"other calls took what {claim.cheapest.model} needed", scope=scope.scopes[-1])
    raise (yield from _refused(claim, lost))


def settle(
    claim: AdmissionRequest,
    admitted: GrantedCall,
    *,
    cost: int,
    usage: Usage,
    response: bytes | None,
    says: BreakerVote = "well",
) -> Flow[None]:
    """Charge a call that was answered its cost in place of its hold, and keep the answer."""
    hold, at = admitted.hold, claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.settle(
            transaction,
            hold.call_id,
            session_id=hold.session_id,
            cost=cost,
            usage=usage,
            response=response,
            at=at,
        )
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)
    failpoints.hit("after_settle")


def void(claim: AdmissionRequest, admitted: GrantedCall, reason: str, says: BreakerVote = "nothing") -> Flow[None]:
    """Free a call's hold: nothing is owed for it."""
    at = claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.void(transaction, admitted.hold.call_id, reason=reason, at=at)
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)


def mark_unknown(
    claim: AdmissionRequest, admitted: GrantedCall, reason: str, says: BreakerVote = "nothing"
) -> Flow[None]:
    """Keep a call, whose end nobody saw, charged at its hold."""
    at = claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.mark_unknown(transaction, admitted.hold.call_id, reason=reason, at=at)
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)


def model_breaker(name: str, provider: str | None, base_url: str | None) -> str:
    """The name of a model's breaker: one for each model of each provider, and of each server that one may run."""
    parts = urlsplit(base_url or "")
    port = f":{parts.port}" if parts.port else ""
    server = f"@{parts.hostname}{port}" if parts.hostname else ""  # never what stands before the host: credentials
    return f"model:{provider or 'unknown'}/{name}{server}"


def seconds_left(scope: Scope) -> float | None:
    """What the run's deadline leaves, None without one."""
    return None if scope.deadline is None else scope.deadline - time.monotonic()


def _tell_breaker(transaction: Transaction, passed: BreakerPass, says: BreakerVote, at: datetime) -> None:
    """What the end of a call says, in the transaction that ends it. Nothing is read or written where all is well."""
    if not passed.name or not (passed.watched or says == "at fault"):
        return
    match says:
        case "well":
            circuit_breakers.succeeded(transaction, passed.name, passed.caller, at)
        case "at fault":
            circuit_breakers.failed(transaction, passed.name, passed.caller, at)
        case "nothing":
            circuit_breakers.released(transaction, passed.name, passed.caller, at)


def _admission(transaction: Transaction, claim: AdmissionRequest) -> GrantedCall | Refused | bytes:
    """One transaction: look in the journal, read how the call stands, shape, hold, count the turns, claim a probe."""
    scope = claim.scope
    scope.check_lease(transaction)
    key = (scope.session_id, scope.checkpoint_ns, claim.request_hash, claim.occurrence)
    answer = replayable(transaction, *key)
    if answer is not None:
        return answer
    at, broken = scope.clock(), None
    pauses = pauses_of(scope.tenant, scope.agent)
    names = tuple(dict.fromkeys(offer.breaker for offer in claim.offers if offer.breaker))
    now = read_admission_facts(transaction, scope.scopes, pauses=pauses, breakers=names, at=at)
    if (paused := now.refusal(pauses)) is not None:
        return paused
    for place, offer in enumerate(claim.offers):
        shaped = offer.shape(now.left)
        if shaped is None:
            continue
        breaker = now.breakers.get(offer.breaker)
        if breaker is not None and not breaker.admits(at):
            broken = broken or _breaker_open(offer.breaker, breaker)
            continue
        for account in scope.opens:
            open_account(transaction, Account(account, None))
        hold = _hold(claim, offer, shaped.amount)
        postings.hold(transaction, hold)
        _check_turns(transaction, scope)
        guarded = BreakerPass(offer.breaker, Caller(hold.call_id, scope.tenant, scope.session_id), breaker is not None)
        if guarded.watched and not circuit_breakers.claim(transaction, offer.breaker, guarded.caller, at):
            raise _ProbeTakenError
        return GrantedCall(hold, shaped.cap, place, guarded)
    return broken or _too_dear(transaction, claim, now.left or 0)


def _check_turns(transaction: Transaction, scope: Scope) -> None:
    """Runs that came before this one count: a resume grants no fresh turns, whatever it asks."""
    if scope.max_turns is None:
        return
    # After the hold, whose lock on the agent's account makes calls of the same agent wait for each other.
    if turns(transaction, scope.request_id, scope.owner) > scope.max_turns:
        raise _OutOfTurnsError


def _no_turns(scope: Scope) -> BudgetExceeded:
    return BudgetExceeded(f"{scope.agent} has used its {scope.max_turns} turns", scope="turns")


def _too_dear(transaction: Transaction, claim: AdmissionRequest, least: int) -> BudgetExceeded:
    scopes, cheapest = claim.scope.scopes, claim.cheapest
    tightest = next((s for s in scopes if left(transaction, (s,)) == least), scopes[-1])
    needs = USD.from_nanos(cheapest.least)
    message = f"a call to {cheapest.model} needs {needs} and {USD.from_nanos(max(least, 0))} is left of {tightest}"
    return BudgetExceeded(message, scope=tightest)


def _hold(claim: AdmissionRequest, offer: Offer, amount: int) -> Hold:
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


def _refused(claim: AdmissionRequest, refusal: Refused) -> Flow[Refused]:
    """Write the refusal down and keep it in the scope; the result is to be raised."""
    account = refusal.scope if isinstance(refusal, BudgetExceeded | Paused) else "run"
    if isinstance(refusal, BreakerOpen):  # a handler may ask another model instead, and complete
        account = refusal.breaker
        claim.scope.provider_failed(refusal)
    else:
        claim.scope.latch(refusal)
    claim.give_back()
    if not claim.scope.books_gone:
        hold = _hold(claim, claim.cheapest, claim.cheapest.least)
        ledger = claim.scope.ledger
        yield Commit(ledger.database, ledger.bind(postings.refuse, hold, scope=account, reason=str(refusal)))
    return refusal


def _closed(scope: Scope) -> Refused | None:
    if isinstance(scope.refusal, Looping):
        return scope.refusal
    if scope.closed:
        return ScopeClosed(f"the run of {scope.agent} has ended; nothing that still runs of it may spend")
    seconds = seconds_left(scope)
    if seconds is not None and seconds <= 0:
        return ScopeClosed(f"the deadline of {scope.agent} has passed")
    return None


def _breaker_open(name: str, breaker: Breaker) -> BreakerOpen:
    """The refusal of a call that the breaker does not let through."""
    what = name.replace(":", " ", 1)
    until = breaker.open_until
    when = "" if until is None else f" until {until:%H:%M:%S} UTC, then one call tries it"
    return BreakerOpen(f"{what} has failed for several sessions; no call is sent to it{when}", name)
