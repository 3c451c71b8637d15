"""The hold of one stream, which grows while the stream is received."""

from dataclasses import dataclass, replace

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.accounts import charged, tightest
from bursar.checkpoints.ledger.calls import Hold
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.gateway.paid_calls.admission import AdmissionRequest
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, do
from bursar.state.money import USD
from bursar.state.refusals import AccountClosed, BudgetExceeded, LeaseLost, Refused
from bursar.state.rules.calls import least_of
from bursar.state.rules.growth import GrowingHold, Room

MAX_RAISES = 4  # attempts to raise a hold once: other calls may take the money first


@dataclass(slots=True)
class StreamHold:
    """The hold of one stream. `hold` is in the books, `now` says which output tokens it pays for.

    `is_over` is whether a step did not fit. The stream is then hung up.
    """

    claim: AdmissionRequest
    hold: Hold
    now: GrowingHold
    is_over: bool = False

    def cover(self, seen: int) -> Flow[None]:
        """Raise the hold until it pays for `seen` output tokens and the slack, and commit it; otherwise set `is_over`.

        A step that does not fit is written to the log. No step fits once the run has ended, its lease is lost, or an
        incident closed its session.
        """
        if self.now.covers(seen):
            return
        scope = self.claim.scope
        if scope.closed or scope.is_overdue:
            self.is_over = True
            return
        refusal = yield from self._raised(seen)
        if refusal is not None:
            self.is_over = True
            if not scope.books_gone:
                yield self._told(refusal, seen)

    def _raised(self, seen: int) -> Flow[Refused | None]:
        """Raise the hold, and return None. If a step does not fit, return why."""
        scope, lost = self.claim.scope, BudgetExceeded("other calls took what the stream needed")
        for _ in range(MAX_RAISES):
            work = scope.ledger.bind(_raise, self, seen)
            commit = Commit[_Raised | Refused](scope.ledger.database, work, outlast=True, until=scope.until)
            try:
                for lease in scope.leases_elsewhere:
                    yield from do(Commit(lease.database, lease.check, until=scope.until))
                outcome = yield from do(commit)
            except LeaseLost as refusal:
                return scope.latch(refusal)
            except AccountClosed as refusal:
                return refusal
            except BudgetExceeded as refusal:
                lost = refusal  # race: on PostgreSQL another call took the money after the read; size this step anew
                continue
            finally:
                # Race: a cancellation may come while the step is committed. The books then have the raised hold.
                if isinstance(commit.result, _Raised):
                    self.hold, self.now = commit.result.hold, commit.result.now
            return outcome if isinstance(outcome, Refused) else None
        return lost

    def _told(self, refusal: Refused, seen: int) -> Commit[None]:
        """Return the step that logs why the hold was not raised."""
        ledger = self.claim.scope.ledger
        account = refusal.scope if isinstance(refusal, BudgetExceeded) else "run"
        wanted = self.now.grown(seen, Room(None, 0))
        more = 0 if wanted is None else wanted.amount - self.hold.amount
        step = replace(self.hold, amount=more, at=self.claim.scope.clock())
        reason = f"the hold of call {self.hold.call_id} was not raised, so its stream was ended: {refusal}"
        return Commit(ledger.database, ledger.bind(postings.refuse, step, scope=account, reason=reason))


@dataclass(frozen=True, slots=True)
class _Raised:
    hold: Hold
    now: GrowingHold


def _raise(transaction: Transaction, stream: StreamHold, seen: int) -> _Raised | Refused:
    """Raise the hold in one transaction, or return why the least step does not fit.

    Raises `BudgetExceeded` if another call took the money after the read.
    """
    scope, hold = stream.claim.scope, stream.hold
    # Race: another run may take the session over. The check locks the lease's row until this transaction ends.
    scope.check_lease(transaction)
    covered = scope.covered
    # Race: on PostgreSQL another call may take this money before `raise_hold`, whose conditional update then refuses.
    account, left, held = tightest(transaction, hold.scopes)
    if covered is not None:
        left = least_of(left, covered[1] - charged(transaction, covered[0]))
    grown = stream.now.grown(seen, Room(left, held))
    if grown is None:
        rest = USD.from_nanos(max(left or 0, 0))
        return BudgetExceeded(f"its next step does not fit what is left of {account}, {rest}", scope=account)
    if grown.amount > hold.amount:  # at a price of 0 the next tokens cost nothing
        postings.raise_hold(transaction, hold, grown.amount, at=scope.clock())
    # Race: two calls of a covered request. The raise came first and locks its account, so the second counts the first.
    if covered is not None and charged(transaction, covered[0]) > covered[1]:
        raise BudgetExceeded("other calls took what the price of the run around has left", scope=covered[0])
    return _Raised(replace(hold, amount=grown.amount), grown)
