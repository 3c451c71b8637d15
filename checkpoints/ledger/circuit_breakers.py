"""Breakers in the database, where every process sees them and finds them again after a restart.

A breaker's row is locked while it is read, changed by the rules of `state.circuit_breaker`, and written. So if several
callers find a breaker half open, in any number of processes, only one gets the probe. A caller that opens or closes
a breaker, or becomes its probe, logs that in its own session, in the same transaction. That holds, too, for a breaker
that rests for one session alone.

Libraries were read for this (purgatory 3.0.1, pybreaker 1.4.1, aiobreaker 1.2.0; tenacity and stamina retry only). All
count failing calls, so one user opens a breaker for everybody. Their processes share breakers in Redis, which is in no
transaction of ours. If a breaker is half open, purgatory and aiobreaker let every caller through; pybreaker lets one of
each process through, by a lock that it holds while it calls. So the rules, in `state.circuit_breaker`, are our own.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError
from sqlalchemy import bindparam, delete, select, update

from bursar.checkpoints.database.statement import Statement, insert_new
from bursar.checkpoints.ledger.hash_chain import append, stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import breakers
from bursar.state.circuit_breaker import Breaker, State, Streak
from bursar.state.events import BreakerChanged

VOTER_CHARACTERS = 16  # of the hash of a session's id
# How a call ended, as a breaker counts it. A call that `hung` had no answer when its run's deadline came; whether the
# model or the deadline was to blame is not known, so it counts for its own session alone.
BreakerVote = Literal["well", "at fault", "hung", "nothing"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The session that calls the model or agent that a breaker guards. `token` names this one call.

    For all sessions a breaker counts only the outcome of each session's last call, so many calls of one count once.
    """

    token: str
    tenant: str
    session_id: str

    @property
    def voter(self) -> str:
        """The session's name in the breaker's record."""
        return voter_of(self.session_id)


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """A breaker that saw faults lately.

    `calling` is the number of sessions that called lately, and `failing` the number of those whose last call failed.
    `until` is when an open breaker becomes half open; None if the breaker is closed. `probing` is whether a probe is
    under way. `resting` is the number of sessions for which alone a closed breaker rests.
    """

    name: str
    state: State
    failing: int
    calling: int
    until: datetime | None
    probing: bool
    resting: int = 0


def voter_of(session_id: str) -> str:
    """Return the session's name in the records of breakers: the start of the hash of its id."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:VOTER_CHARACTERS]


def read(record: str) -> Breaker:
    """Return the breaker that the JSON `record` describes. If it cannot be read, return a new, closed breaker."""
    try:
        return Breaker.model_validate_json(record)
    except ValidationError:
        return Breaker()


def claim(transaction: Transaction, name: str, caller: Caller, at: datetime) -> bool:
    """Return whether the breaker lets the caller through.

    If a half-open breaker lets the caller through, the call becomes the breaker's probe, and this logs that.
    """
    # Race: the row is locked from here on, so that one caller has the probe of a half-open breaker.
    found = _locked(transaction.connection, breaker=name)
    if not found:
        return True
    before = read(found[0][0])
    claimed = before.claimed(at, caller.token, caller.voter)
    if claimed is not None and claimed != before:
        _keep(transaction, name, claimed)
        _tell(transaction, caller, at, _changed(name, caller, before, claimed))
    return claimed is not None


def failed(transaction: Transaction, name: str, caller: Caller, at: datetime) -> None:
    """Count a fault of the agent that the breaker guards. This may open the breaker."""
    _fail(transaction, name, caller, at, lambda found: found.failed(at, caller.token, caller.tenant, caller.voter))


def call_ended(transaction: Transaction, name: str, caller: Caller, at: datetime, vote: BreakerVote) -> None:
    """Count the end of a call of the model or function that the breaker guards. This may open or close the breaker.

    A fault of a call counts for the caller's session too, for which alone the breaker may open.
    """

    def rule(found: Breaker) -> Breaker:
        counted = found.failed_alone(at, caller.token, caller.voter)
        return counted if vote == "hung" else counted.failed(at, caller.token, caller.tenant, caller.voter)

    match vote:
        case "well":
            succeeded(transaction, name, caller, at)
        case "nothing":
            released(transaction, name, caller, at)
        case _:
            _fail(transaction, name, caller, at, rule)


def succeeded(transaction: Transaction, name: str, caller: Caller, at: datetime) -> None:
    """Count a success of the model or agent that the breaker guards. This closes the breaker if the call was its probe.

    A breaker without a row is closed, so nothing is written for it.
    """
    _change(transaction, name, caller, at, lambda found: found.succeeded(at, caller.token, caller.tenant, caller.voter))


def released(transaction: Transaction, name: str, caller: Caller, at: datetime) -> None:
    """End a call without counting it as a fault or a success. If the call was the probe, another call may become it."""
    _change(transaction, name, caller, at, lambda found: found.released(caller.token))


def listed(transaction: Transaction, at: datetime) -> list[BreakerRow]:
    """Return every breaker that saw faults lately, sorted by name. Every other breaker is closed."""
    query = select(breakers.c.name, breakers.c.record).where(breakers.c.until > stamp(at)).order_by(breakers.c.name)
    rows: list[BreakerRow] = []
    for name, record in transaction.connection.execute(query):
        found = read(record)
        failing = sum(not vote.well for vote in found.votes)
        state, resting = found.state(at), sum(not one.admits(at) for one in found.streaks)
        row = BreakerRow(name, state, failing, len(found.votes), found.open_until, found.probing(at), resting)
        rows.append(row)
    return rows


def _fail(
    transaction: Transaction, name: str, caller: Caller, at: datetime, rule: Callable[[Breaker], Breaker]
) -> None:
    # Race: there must be a row to lock, so that of two first faults none is lost.
    _insert(transaction.connection, name=name, until=stamp(at), record=Breaker().model_dump_json())
    _change(transaction, name, caller, at, rule)


def _change(
    transaction: Transaction, name: str, caller: Caller, at: datetime, rule: Callable[[Breaker], Breaker]
) -> None:
    """Change the breaker by `rule`, and log in the caller's session if that opened or closed it or moved its probe."""
    # Race: the row is locked from here on, so no other caller decides by the same record.
    found = _locked(transaction.connection, breaker=name)
    if not found:
        return
    before = read(found[0][0])
    after = rule(before)
    if after != before:
        _keep(transaction, name, after)
        _tell(transaction, caller, at, _changed(name, caller, before, after))


def _changed(name: str, caller: Caller, before: Breaker, after: Breaker) -> BreakerChanged | None:
    """Return the event to log; None if the breaker neither opened nor closed and its probe is the same as before.

    The event is about the breaker of all sessions or, if that is unchanged, about its rest for the caller's session.
    """
    if after.openings > before.openings:
        return BreakerChanged(breaker=name, change="opened", until=after.open_until)
    if before.open_until is not None and after.open_until is None:
        return BreakerChanged(breaker=name, change="closed")
    if after.probe != before.probe:
        return BreakerChanged(breaker=name, change="probed" if after.probe else "released", until=after.open_until)
    return _changed_alone(name, before.streak(caller.voter), after.streak(caller.voter))


def _changed_alone(name: str, before: Streak | None, after: Streak | None) -> BreakerChanged | None:
    rested = None if before is None else before.rests_until()
    until = None if after is None else after.rests_until()
    if until != rested:
        return BreakerChanged(breaker=name, change="opened" if until else "closed", until=until, alone=True)
    if before is not None and after is not None and before.probe != after.probe:
        return BreakerChanged(breaker=name, change="probed" if after.probe else "released", until=until, alone=True)
    return None


def _tell(transaction: Transaction, caller: Caller, at: datetime, changed: BreakerChanged | None) -> None:
    if changed is not None:
        append(transaction, caller.session_id, stamp(at), [changed])


def _keep(transaction: Transaction, name: str, breaker: Breaker) -> None:
    if breaker.spotless:
        _delete(transaction.connection, breaker=name)
    else:
        _update(
            transaction.connection, breaker=name, ends=stamp(breaker.matters_until()), now=breaker.model_dump_json()
        )


_insert = insert_new(breakers)
_locked = Statement(select(breakers.c.record).where(breakers.c.name == bindparam("breaker")).with_for_update())
_update = Statement(
    update(breakers)
    .values(until=bindparam("ends"), record=bindparam("now"))
    .where(breakers.c.name == bindparam("breaker"))
)
_delete = Statement(delete(breakers).where(breakers.c.name == bindparam("breaker")))


def close_all(transaction: Transaction) -> None:
    """Close every breaker and delete its votes. Drills call this after they made agents fail on purpose."""
    transaction.connection.execute(delete(breakers))


def open_each(transaction: Transaction, names: Collection[str], until: datetime) -> None:
    """Open each of these breakers until `until`, whatever its votes. Drills call this."""
    for name in names:
        _insert(transaction.connection, name=name, until=stamp(until), record=Breaker().model_dump_json())
        _keep(transaction, name, Breaker(open_until=until, openings=1))
