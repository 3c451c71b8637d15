"""Breakers in the database, where every process sees them and a restart finds them again.

A row is locked while it is read, changed by the rules of `state.circuit_breaker`, and written. So if several callers
find a breaker half open, in any number of processes, one of them has the probe. A caller that opens, probes or closes a
breaker logs that in its own session, in the same transaction.

Libraries were read for this (purgatory 3.0.1, pybreaker 1.4.1, aiobreaker 1.2.0; tenacity and stamina retry only). All
count failing calls, so one user opens a breaker for everybody. Their processes share breakers in Redis, which is in no
transaction of ours. If a breaker is half open, purgatory and aiobreaker let every caller through; pybreaker lets one of
each process through, by a lock that it holds while it calls. So the rules, in `state.circuit_breaker`, are our own.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import bindparam, delete, select, update

from bursar.checkpoints.database.statement import Statement, insert_new
from bursar.checkpoints.ledger.hash_chain import append, stamp
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import breakers
from bursar.state.circuit_breaker import Breaker, State
from bursar.state.events import BreakerChanged

VOTER_CHARACTERS = 16  # of the hash of a session's id


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of something that a breaker guards. `token` names this one call. A session has one vote."""

    token: str
    tenant: str
    session_id: str

    @property
    def voter(self) -> str:
        """The name of the session in the breaker's votes: the start of its hash."""
        return hashlib.sha256(self.session_id.encode()).hexdigest()[:VOTER_CHARACTERS]


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """A breaker that saw faults lately. Of `calling` sessions, `failing` failed last. It is open until `until`."""

    name: str
    state: State
    failing: int
    calling: int
    until: datetime | None
    probing: bool


def read(record: str) -> Breaker:
    """Return the breaker of a record. An unreadable record gives a new breaker, so that it stops nobody."""
    try:
        return Breaker.model_validate_json(record)
    except ValidationError:
        return Breaker()


def claim(transaction: Transaction, name: str, caller: Caller, at: datetime) -> bool:
    """Return whether the caller may go through. If the breaker is half open, such a caller has the probe afterwards."""
    # Race: the row is locked from here on, so that one caller has the probe of a half-open breaker.
    found = _locked(transaction.connection, breaker=name)
    if not found:
        return True
    before = read(found[0][0])
    claimed = before.claimed(at, caller.token)
    if claimed is not None and claimed.open_until is not None:
        _keep(transaction, name, claimed)
        _tell(transaction, caller, at, _changed(name, before, claimed))
    return claimed is not None


def failed(transaction: Transaction, name: str, caller: Caller, at: datetime) -> None:
    """Count a fault of what the breaker guards."""
    # Race: there must be a row to lock, so that of two first faults none is lost.
    _insert(transaction.connection, name=name, until=stamp(at), record=Breaker().model_dump_json())
    change = _change(transaction, name, lambda found: found.failed(at, caller.token, caller.tenant, caller.voter))
    _tell(transaction, caller, at, change)


def succeeded(transaction: Transaction, name: str, caller: Caller, at: datetime) -> None:
    """Count a success of what the breaker guards. A breaker without a row is closed, so nothing is written for it."""
    change = _change(transaction, name, lambda found: found.succeeded(at, caller.token, caller.tenant, caller.voter))
    _tell(transaction, caller, at, change)


def released(transaction: Transaction, name: str, caller: Caller, at: datetime) -> None:
    """End a call that says nothing about what the breaker guards. If it was the probe, another caller may probe."""
    _tell(transaction, caller, at, _change(transaction, name, lambda found: found.released(caller.token)))


def listed(transaction: Transaction, at: datetime) -> list[BreakerRow]:
    """Return every breaker that saw faults lately, by name."""
    query = select(breakers.c.name, breakers.c.record).where(breakers.c.until > stamp(at)).order_by(breakers.c.name)
    rows: list[BreakerRow] = []
    for name, record in transaction.connection.execute(query):
        found = read(record)
        failing = sum(not vote.well for vote in found.votes)
        row = BreakerRow(name, found.state(at), failing, len(found.votes), found.open_until, found.probing(at))
        rows.append(row)
    return rows


def _change(transaction: Transaction, name: str, rule: Callable[[Breaker], Breaker]) -> BreakerChanged | None:
    # Race: the row is locked from here on, so no other caller decides by the same record.
    found = _locked(transaction.connection, breaker=name)
    if not found:
        return None
    before = read(found[0][0])
    after = rule(before)
    if after != before:
        _keep(transaction, name, after)
    return _changed(name, before, after)


def _changed(name: str, before: Breaker, after: Breaker) -> BreakerChanged | None:
    """Return the event for the change; None for a vote that leaves the breaker's state and probe as they were."""
    if after.openings > before.openings:
        return BreakerChanged(breaker=name, change="opened", until=after.open_until)
    if before.open_until is not None and after.open_until is None:
        return BreakerChanged(breaker=name, change="closed")
    if after.probe != before.probe:
        return BreakerChanged(breaker=name, change="probed" if after.probe else "released", until=after.open_until)
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
    """Close every breaker, as if nothing had failed. Drills need this, because they make things fail on purpose."""
    transaction.connection.execute(delete(breakers))


def open_each(transaction: Transaction, names: Collection[str], until: datetime) -> None:
    """Open each of these breakers until `until`, whatever it saw. Drills need this."""
    for name in names:
        _insert(transaction.connection, name=name, until=stamp(until), record=Breaker().model_dump_json())
        _keep(transaction, name, Breaker(open_until=until, openings=1))
