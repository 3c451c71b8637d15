"""Breakers in the database, where every process sees them and a restart finds them again.

A row is locked while it is read, changed by the rules of `state.breaker`, and written: of any number of callers of a
half-open breaker, in any number of processes, one has the probe. Locked last in its transaction, after accounts and
log, so that no two wait for each other.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, delete, select, update

from bursar.checkpoints.books.audit_chain import stamp
from bursar.checkpoints.prepared import Prepared, insert_new
from bursar.checkpoints.switches import breakers
from bursar.state.breaker import Breaker, State

VOTER_CHARACTERS = 16  # of the hash of a session's id


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls what a breaker guards. `token` names this one call; the session has the vote."""

    token: str
    tenant: str
    session_id: str

    @property
    def voter(self) -> str:
        """The session, as the breaker remembers it."""
        return hashlib.sha256(self.session_id.encode()).hexdigest()[:VOTER_CHARACTERS]


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """A breaker that saw faults lately. `failing` of the `calling` sessions failed last; `until`: open as long."""

    name: str
    state: State
    failing: int
    calling: int
    until: datetime | None
    probing: bool


def read(record: str) -> Breaker:
    """The breaker of a record. One that cannot be read is as good as new: it must stop nobody."""
    try:
        return Breaker.model_validate_json(record)
    except ValidationError:
        return Breaker()


def claim(connection: Connection, name: str, caller: Caller, at: datetime) -> bool:
    """Whether the caller may go through; afterwards it has the probe, if the breaker is half open."""
    found = _locked(connection, breaker=name)
    if not found:
        return True
    claimed = read(found[0][0]).claimed(at, caller.token)
    if claimed is not None and claimed.open_until is not None:
        _keep(connection, name, claimed)
    return claimed is not None


def failed(connection: Connection, name: str, caller: Caller, at: datetime) -> None:
    """What it guards was at fault."""
    _insert(connection, name=name, until=stamp(at), record=Breaker().model_dump_json())
    _change(connection, name, lambda found: found.failed(at, caller.token, caller.tenant, caller.voter))


def succeeded(connection: Connection, name: str, caller: Caller, at: datetime) -> None:
    """What it guards worked. Nothing is written for a breaker that is not there, which is closed."""
    _change(connection, name, lambda found: found.succeeded(at, caller.token, caller.tenant, caller.voter))


def released(connection: Connection, name: str, caller: Caller) -> None:
    """The call ended and says nothing about what the breaker guards; a probe is free for the next."""
    _change(connection, name, lambda found: found.released(caller.token))


def listed(connection: Connection, at: datetime) -> list[BreakerRow]:
    """Every breaker that saw faults lately, by name."""
    query = select(breakers.c.name, breakers.c.record).where(breakers.c.until > stamp(at)).order_by(breakers.c.name)
    rows: list[BreakerRow] = []
    for name, record in connection.execute(query):
        found = read(record)
        failing = sum(not vote.well for vote in found.votes)
        row = BreakerRow(name, found.state(at), failing, len(found.votes), found.open_until, found.probing(at))
        rows.append(row)
    return rows


def _change(connection: Connection, name: str, rule: Callable[[Breaker], Breaker]) -> None:
    found = _locked(connection, breaker=name)
    if not found:
        return
    before = read(found[0][0])
    after = rule(before)
    if after != before:
        _keep(connection, name, after)


def _keep(connection: Connection, name: str, breaker: Breaker) -> None:
    if breaker.spotless:
        _delete(connection, breaker=name)
    else:
        _update(connection, breaker=name, ends=stamp(breaker.matters_until()), now=breaker.model_dump_json())


_insert = insert_new(breakers)
_locked = Prepared(select(breakers.c.record).where(breakers.c.name == bindparam("breaker")).with_for_update())
_update = Prepared(
    update(breakers)
    .values(until=bindparam("ends"), record=bindparam("now"))
    .where(breakers.c.name == bindparam("breaker"))
)
_delete = Prepared(delete(breakers).where(breakers.c.name == bindparam("breaker")))


def close_all(connection: Connection) -> None:
    """Afterwards every breaker is closed, as if nothing had failed: for drills, which make things fail on purpose."""
    connection.execute(delete(breakers))
