"""Before a call is paid again: if an earlier call with its key ended unseen, the provider is asked what became of it.

A call that the provider finds is charged what it was billed, and its answer is kept, so that the repeated run gets the
answer and pays nothing. A call that it does not find stays charged at its hold, and the request is paid again.
"""

from collections.abc import Callable, Sequence

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.reconciliation.unknown_calls import LostCall
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.gateway.look_up.asking import BY, seconds_for_look_up
from bursar.nodes.gateway.look_up.found_ends import FoundEnd
from bursar.nodes.gateway.paid_calls.admission import AdmissionRequest, seconds_left
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, do
from bursar.state.errors import LedgerError

Find = Callable[[LostCall, float], Flow[FoundEnd | None]]  # asks for at most so many seconds


def look_up_lost_calls(claim: AdmissionRequest, lost: Sequence[LostCall], find: Find) -> Flow[None]:
    """Ask by `find` for each of the lost calls, once in the life of `claim`, and book the ends that are found.

    The calls of `lost` share the time that a look-up may take. Afterwards the caller asks for admission again. Raises
    `LeaseLost` if another process has taken the session over meanwhile.
    """
    for place, one in enumerate(lost):
        claim.asked.add(one.call_id)
        seconds = seconds_for_look_up(seconds_left(claim.scope)) / (len(lost) - place)
        if seconds <= 0:
            continue
        end = yield from find(one, seconds)
        if end is not None:
            yield from _book(claim, one, end)


def _book(claim: AdmissionRequest, lost: LostCall, end: FoundEnd) -> Flow[None]:
    scope = claim.scope
    at = scope.clock()

    def work(transaction: Transaction) -> None:
        scope.check_lease(transaction)
        postings.reconcile(
            transaction,
            lost.call_id,
            cost=end.cost,
            usage=end.usage,
            saved=end.saved,
            response=end.response,
            at=at,
            by=BY,
        )

    try:
        yield from do(Commit(scope.ledger.database, scope.ledger.bind(work), until=scope.until))
    except LedgerError:
        return  # race: another process, or a person, has reconciled it since; admission reads what the ledger has now
