"""Admission of a paid call before it is sent, and the posting of its end.

Before: `admit` returns the answer that the ledger keeps if the call was paid for before. Otherwise it commits a hold,
or raises a refusal. After: `settle`, `void` or `mark_unknown` ends the hold, and reports the end to the breaker of the
model or function in the same transaction.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from bursar.checkpoints.ledger import circuit_breakers, postings
from bursar.checkpoints.ledger.accounts import Account, charged, left, open_account
from bursar.checkpoints.ledger.admission_facts import AdmissionFacts, pauses_of, read_admission_facts, sized_by_books
from bursar.checkpoints.ledger.calls import Hold, KeptAnswer, replayable, turns
from bursar.checkpoints.ledger.circuit_breakers import BreakerVote, Caller, voter_of
from bursar.checkpoints.ledger.reconciliation.unknown_calls import LostCalls, lost_calls_at
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, do
from bursar.nodes.gateway.paid_calls.scope import Scope
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
from bursar.state.rules.calls import Declined, Offer, Refusal, choose, has_turn, least_of, refuse_run
from bursar.state.rules.pricing import Bill

MAX_ADMISSIONS = 8  # attempts to admit a call: other calls may take the money or the probe first


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """A call that asks for admission: its scope, the key under which the ledger keeps its answer, and its offers.

    The key is `request_hash` and `occurrence`, the number of equal requests of the run before. The best offer is first.
    If `looks_up`, a provider may find calls of this key whose end nobody saw; it was `asked` for these already.
    """

    scope: Scope
    request_hash: str
    occurrence: int
    offers: tuple[Offer, ...]
    looks_up: bool = False
    asked: set[str] = field(default_factory=set[str], compare=False)

    def commit(self, posting: Callable[[Transaction], None]) -> Commit[None]:
        """Return the step that runs `posting` in a transaction of the ledger and commits it.

        If a fault of PostgreSQL prevents the commit, `Database` runs `posting` again in the background.
        """
        ledger = self.scope.ledger
        return Commit(ledger.database, ledger.bind(posting), lasting=True)

    def give_back(self) -> None:
        """Let the run's next equal request have this call's key in the ledger, because this call got no answer.

        If the caller tries again, it makes the same call, which must have the same key.
        """
        self.scope.give_back(self.request_hash, self.occurrence)

    @property
    def cheapest(self) -> Offer:
        return min(self.offers, key=lambda offer: offer.least)


@dataclass(frozen=True, slots=True)
class BreakerPass:
    """The permission of the breaker `name` to send one call. If no breaker guards the call, `name` is "".

    When the call ends, the breaker counts its end for `caller`, who is this call in its session. If not `watched`, the
    breaker had counted no faults lately when the call was admitted, and only a fault is reported to it.
    """

    name: str
    caller: Caller
    watched: bool


@dataclass(frozen=True, slots=True)
class GrantedCall:
    """A call whose hold is committed, so that it may be sent once.

    `place` is the index of the offer by which the call is sent, and `cap` its output cap in tokens.
    """

    hold: Hold
    cap: int
    place: int
    guarded: BreakerPass


class _OutOfTurnsError(BursarError):
    """Raised to roll the hold back if the ledger counts more paid calls of the agent than `max_turns`."""


class _ProbeTakenError(BursarError):
    """Raised to roll the hold back if another caller has the breaker's probe."""


def admit(claim: AdmissionRequest, *, first: bool) -> Flow[GrantedCall | KeptAnswer | LostCalls]:
    """If the call was paid for before, return its answer from the ledger; otherwise commit a hold and return the grant.

    If calls of its key are unknown, and their provider can be asked for them, hold nothing and return these calls.
    If `first`, count one turn of the run; a retry passes False. Raises `Refused` if the call may not be sent.
    """
    scope = claim.scope
    if (why_not := _refusal_of_run(claim, first=first)) is not None:
        raise (yield from _refused(claim, why_not))
    for _ in range(MAX_ADMISSIONS):
        sys.audit("bursar.failpoint", "before_hold")
        work = scope.ledger.bind(_admission, claim)
        admission = Commit(scope.ledger.database, work, outlast=True, until=scope.until)
        try:
            for lease in scope.leases_elsewhere:
                yield from do(Commit(lease.database, lease.check, until=scope.until))
            outcome = yield from do(admission)
        except LeaseLost as refusal:
            claim.give_back()
            raise scope.latch(refusal) from None
        except _OutOfTurnsError:
            outcome = _no_turns(scope)
        except AccountClosed as refusal:
            outcome = refusal
        except _ProbeTakenError:
            continue  # race: another caller claimed the probe; the next attempt takes a cheaper model or refuses
        except BudgetExceeded:
            continue  # race: on PostgreSQL another call took the money after the read; size this call anew
        except BaseException:
            claim.give_back()
            # Race: a cancellation may come while the hold is committed. The call is not sent, so nothing is owed.
            if isinstance(admission.result, GrantedCall):
                yield from void(claim, admission.result, "cancelled before it was sent")
            raise
        if isinstance(outcome, Refused):
            raise (yield from _refused(claim, outcome))
        if isinstance(outcome, GrantedCall):
            sys.audit("bursar.failpoint", "after_hold")
            # Race: the run may have ended while the hold was committed. Its call is not sent, so nothing is owed.
            if (why_not := _closed(scope)) is not None:
                yield from void(claim, outcome, "the run ended before it was sent")
                raise (yield from _refused(claim, why_not))
            scope.ledger.in_flight.begin(outcome.hold.call_id, scope.clock())
        return outcome
    one = claim.cheapest
    lost = BudgetExceeded(f"other calls took what {one.model} needed", scope=scope.scopes[-1], needs=one.least)
    raise (yield from _refused(claim, lost))


def settle(
    claim: AdmissionRequest,
    admitted: GrantedCall,
    *,
    bill: Bill,
    cost: int,
    response: bytes | None,
    whole: bool = False,
    says: BreakerVote = "well",
) -> Flow[None]:
    """Book `cost` nano-dollars in place of the call's hold, and let the ledger keep `response` for a repeated run.

    `bill` has the usage, and what the provider's cache saved. If the answer is `whole`, its length counts in what is
    expected. `says` tells the breaker what to count.
    """
    hold, at = admitted.hold, claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.settle(
            transaction,
            hold.call_id,
            session_id=hold.session_id,
            cost=cost,
            usage=bill.usage,
            saved=bill.saved,
            response=response,
            whole=whole,
            at=at,
        )
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)
    sys.audit("bursar.failpoint", "after_settle")


def void(claim: AdmissionRequest, admitted: GrantedCall, reason: str, says: BreakerVote = "nothing") -> Flow[None]:
    """Free the call's whole hold, because nothing is owed for the call.

    `reason` is logged. `says` tells the breaker what to count.
    """
    at = claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.void(transaction, admitted.hold.call_id, reason=reason, at=at)
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)


def mark_unknown(
    claim: AdmissionRequest, admitted: GrantedCall, reason: str, says: BreakerVote = "nothing"
) -> Flow[None]:
    """Keep the call charged at its hold, because nobody saw its end.

    `reason` is logged. `says` tells the breaker what to count.
    """
    at = claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.mark_unknown(transaction, admitted.hold.call_id, reason=reason, at=at)
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)


def seconds_left(scope: Scope) -> float | None:
    """Return the seconds until the run's deadline, None without a deadline."""
    return None if scope.deadline is None else scope.deadline - time.monotonic()


def _tell_breaker(transaction: Transaction, passed: BreakerPass, says: BreakerVote, at: datetime) -> None:
    """Report the end of a call to its breaker, in the transaction that ends the call.

    If the breaker had counted no faults when the call was admitted, only a fault is reported.
    """
    if passed.name and (passed.watched or says in ("at fault", "hung")):
        circuit_breakers.call_ended(transaction, passed.name, passed.caller, at, says)


def _admission(transaction: Transaction, claim: AdmissionRequest) -> GrantedCall | Refused | KeptAnswer | LostCalls:
    """Admit the call in one transaction, and return the grant, the refusal, or the answer that the ledger keeps.

    The order is: check the lease, look for the answer, read accounts, pauses and breakers, size the first offer that
    fits, hold, count the turns, claim the breaker's probe. Raises `BudgetExceeded`, `AccountClosed`, `_OutOfTurnsError`
    or `_ProbeTakenError` to roll the hold back.
    """
    scope = claim.scope
    # Race: another run may take the session over. The check locks the lease's row until this transaction ends.
    scope.check_lease(transaction)
    key = (scope.session_id, scope.checkpoint_ns, claim.request_hash, claim.occurrence)
    answer = replayable(transaction, *key)
    if answer is not None:
        return answer
    lost = lost_calls_at(transaction, *key) if claim.looks_up else ()
    if unasked := tuple(one for one in lost if one.call_id not in claim.asked):
        return LostCalls(unasked)
    at = scope.clock()
    pauses = pauses_of(scope.tenant, *scope.agents)
    names = tuple(dict.fromkeys(offer.breaker for offer in claim.offers if offer.breaker))
    now = read_admission_facts(transaction, scope.scopes, pauses=pauses, breakers=names, at=at)
    # Race: a pause may come after the read. This call is then in flight, and calls in flight finish.
    paused = now.refusal(pauses)
    # Race: on PostgreSQL another call may take this money before `hold`, whose conditional update then refuses.
    covered = scope.covered
    room = now.left if covered is None else least_of(now.left, covered[1] - charged(transaction, covered[0]))
    admits = partial(_admits, now, at, scope.session_id)
    offers = [sized_by_books(transaction, offer, scope.agent) for offer in claim.offers]
    choice = choose(offers, left=room, paused=paused is not None, admits=admits)
    if isinstance(choice, Declined):
        if paused is not None:
            return paused
        dear = choice.why is Refusal.TOO_DEAR
        return _too_dear(transaction, claim, room or 0) if dear else _breaker_open(claim, choice.place, now)
    for account in scope.opens:
        open_account(transaction, Account(account, None))
    offer = claim.offers[choice.place]
    hold = _hold(claim, offer, choice.sized.amount)
    postings.hold(transaction, hold)
    _check_turns(transaction, scope)
    # Race: two calls of a covered request. The hold came first and locks its account, so the second counts the first.
    if covered is not None and charged(transaction, covered[0]) > covered[1]:
        raise BudgetExceeded("other calls took what the price of the run around has left", scope=covered[0])
    watched = offer.breaker in now.breakers
    guarded = BreakerPass(offer.breaker, Caller(hold.call_id, scope.tenant, scope.session_id), watched)
    # Race: another caller may have claimed the probe since the read; `claim` decides with the breaker's row locked.
    if watched and not circuit_breakers.claim(transaction, offer.breaker, guarded.caller, at):
        raise _ProbeTakenError
    return GrantedCall(hold, choice.sized.cap, choice.place, guarded)


def _admits(now: AdmissionFacts, at: datetime, session_id: str, breaker: str) -> bool:
    """Whether the breaker of this name lets a call of the session through at the time `at`."""
    return breaker not in now.breakers or now.breakers[breaker].admits(at, voter_of(session_id))


def _check_turns(transaction: Transaction, scope: Scope) -> None:
    """Raise `_OutOfTurnsError` if the agent has sent more than `max_turns` calls for this request.

    Calls of the agent's earlier runs count, so a resume grants no new turns.
    """
    if scope.max_turns is None:
        return
    # Race: two calls of one agent. The hold came first and locks the agent's account, so the second counts the first.
    others = turns(transaction, scope.request_id, scope.owner) - 1
    if not has_turn(others, scope.max_turns):
        raise _OutOfTurnsError


def _no_turns(scope: Scope) -> BudgetExceeded:
    return BudgetExceeded(f"{scope.agent} has used its {scope.max_turns} turns", scope="turns")


def _too_dear(transaction: Transaction, claim: AdmissionRequest, least: int) -> BudgetExceeded:
    scopes, cheapest = claim.scope.scopes, claim.cheapest
    covered = claim.scope.covered
    last = scopes[-1] if covered is None else covered[0]
    tightest = next((s for s in scopes if left(transaction, (s,)) == least), last)
    needs = USD.from_nanos(cheapest.least)
    message = f"a call to {cheapest.model} needs {needs} and {USD.from_nanos(max(least, 0))} is left of {tightest}"
    return BudgetExceeded(message, scope=tightest, needs=cheapest.least, left=max(least, 0))


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
    """Write the refusal to the log, keep it in the scope, and return it for the caller to raise.

    A `BreakerOpen` is kept as the provider's error, not as the run's refusal.
    """
    account = refusal.scope if isinstance(refusal, BudgetExceeded | Paused) else "run"
    if isinstance(refusal, BreakerOpen):  # not latched: a handler may ask another model instead, and complete
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


def _refusal_of_run(claim: AdmissionRequest, *, first: bool) -> Refused | None:
    """Return why the run may send no call at all, None if it may. If `first`, one turn of the run is counted then."""
    scope, model = claim.scope, claim.offers[0].model
    closed = _closed(scope)
    match refuse_run(ended=closed is not None, pays=scope.paid):
        case Refusal.ENDED:
            return closed
        case Refusal.UNPAID:
            return BudgetExceeded(f"{scope.agent} is deterministic and may not call {model}", scope="unpaid")
        case _:
            return _no_turns(scope) if first and not scope.take_turn(model) else None


def _closed(scope: Scope) -> Refused | None:
    if isinstance(scope.refusal, Looping):
        return scope.refusal
    if scope.closed:
        return ScopeClosed(f"the run of {scope.agent} has ended; nothing that still runs of it may spend")
    seconds = seconds_left(scope)
    if seconds is not None and seconds <= 0:
        return ScopeClosed(f"the deadline of {scope.agent} has passed")
    return None


def _breaker_open(claim: AdmissionRequest, place: int, now: AdmissionFacts) -> BreakerOpen:
    """Return the error to raise for a call that the breaker of the offer at `place` does not let through."""
    name = claim.offers[place].breaker
    until, how = now.breakers[name].open_until, "for several sessions"
    own = now.breakers[name].streak(voter_of(claim.scope.session_id))
    if until is None and own is not None:
        until, how = own.rests_until(), f"{own.faults} times in a row in this session"
    when = "" if until is None else f" until {until:%H:%M:%S} UTC, then one call tries it"
    return BreakerOpen(f"{name.replace(':', ' ', 1)} has failed {how}; no call is sent to it{when}", name)
