"""Admission of a paid call before it is sent, and the posting of its end.

Before: `admit` returns the answer that the ledger keeps if the call was paid for before. Otherwise it commits a hold,
or raises a refusal. After: `settle`, `void` or `mark_unknown` ends the hold, and reports the end to the breaker of the
model or function in the same transaction.
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

BreakerVote = Literal["well", "at fault", "nothing"]  # what a breaker counts: a success, a fault, or neither

MAX_ADMISSIONS = 8  # attempts to admit a call: other calls may take the money or the probe first


@dataclass(frozen=True, slots=True)
class SizedOffer:
    """A call that fits the money left: its worst case in nano-dollars, and the output cap in tokens (0: no cap)."""

    amount: int
    cap: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to answer a call: a model or a function, at a price.

    `least` is the worst case, in nano-dollars, of the call with the smallest output cap that is useful. `shape` sizes
    the call for the nano-dollars left (None is no limit), and returns None if the call does not fit. `breaker` names
    the breaker that guards the call, "" if there is none.
    """

    model: str
    price_version: str
    least: int
    shape: Callable[[int | None], SizedOffer | None]
    breaker: str = ""


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """A call that asks for admission: its scope, the key under which the ledger keeps its answer, and its offers.

    The key is `request_hash` and `occurrence`, the number of equal requests of the run before. The best offer is first.
    """

    scope: Scope
    request_hash: str
    occurrence: int
    offers: tuple[Offer, ...]

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
    """Raised to roll the hold back if another caller has the probe of the half-open breaker."""


def admit(claim: AdmissionRequest, *, first: bool) -> Flow[GrantedCall | bytes]:
    """If the call was paid for before, return its answer from the ledger; otherwise commit a hold and return the grant.

    If `first`, count one turn of the run; a retry passes False. Raises `Refused` if the call may not be sent.
    """
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
            failpoints.hit("after_hold")
            # Race: the run may have ended while the hold was committed. Its call is not sent, so nothing is owed.
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
    """Book `cost` nano-dollars in place of the call's hold, and let the ledger keep `response` for a repeated run.

    `says` tells the breaker what to count: "well" a success, "at fault" a fault, "nothing" neither.
    """
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
    """Free the call's whole hold, because nothing is owed for the call.

    `reason` is logged. The breaker counts a success if `says` is "well", a fault if "at fault", otherwise nothing.
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

    `reason` is logged. The breaker counts a success if `says` is "well", a fault if "at fault", otherwise nothing.
    """
    at = claim.scope.clock()

    def work(transaction: Transaction) -> None:
        postings.mark_unknown(transaction, admitted.hold.call_id, reason=reason, at=at)
        _tell_breaker(transaction, admitted.guarded, says, at)

    yield claim.commit(work)


def model_breaker(name: str, provider: str | None, base_url: str | None) -> str:
    """Return the name of a model's breaker. Each model of each provider has a breaker of its own.

    If `base_url` is given, the model has one breaker for each server.
    """
    parts = urlsplit(base_url or "")
    port = f":{parts.port}" if parts.port else ""
    server = f"@{parts.hostname}{port}" if parts.hostname else ""  # not the part before the host: it holds credentials
    return f"model:{provider or 'unknown'}/{name}{server}"


def seconds_left(scope: Scope) -> float | None:
    """Return the seconds until the run's deadline, None without a deadline."""
    return None if scope.deadline is None else scope.deadline - time.monotonic()


def _tell_breaker(transaction: Transaction, passed: BreakerPass, says: BreakerVote, at: datetime) -> None:
    """Report the end of a call to its breaker, in the transaction that ends the call.

    If the breaker had counted no faults when the call was admitted, only a fault is reported.
    """
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
    at, broken = scope.clock(), None
    pauses = pauses_of(scope.tenant, *scope.agents)
    names = tuple(dict.fromkeys(offer.breaker for offer in claim.offers if offer.breaker))
    now = read_admission_facts(transaction, scope.scopes, pauses=pauses, breakers=names, at=at)
    # Race: a pause may come after the read. This call is then in flight, and calls in flight finish.
    if (paused := now.refusal(pauses)) is not None:
        return paused
    # Race: on PostgreSQL another call may take this money before `hold`, whose conditional update then refuses.
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
        # Race: another caller may have claimed the probe since the read; `claim` decides with the breaker's row locked.
        if guarded.watched and not circuit_breakers.claim(transaction, offer.breaker, guarded.caller, at):
            raise _ProbeTakenError
        return GrantedCall(hold, shaped.cap, place, guarded)
    return broken or _too_dear(transaction, claim, now.left or 0)


def _check_turns(transaction: Transaction, scope: Scope) -> None:
    """Raise `_OutOfTurnsError` if the agent has sent more than `max_turns` calls for this request.

    Calls of the agent's earlier runs count, so a resume grants no new turns.
    """
    if scope.max_turns is None:
        return
    # Race: two calls of one agent. The hold came first and locks the agent's account, so the second counts the first.
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
    """Return the error to raise for a call that the breaker called `name` does not let through."""
    what = name.replace(":", " ", 1)
    until = breaker.open_until
    when = "" if until is None else f" until {until:%H:%M:%S} UTC, then one call tries it"
    return BreakerOpen(f"{what} has failed for several sessions; no call is sent to it{when}", name)
