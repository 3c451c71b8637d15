"""Anchors: the last hashes of logs. By an anchor kept elsewhere, `verify` finds a log that was cut or rewritten."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import case, func, select

from bursar.checkpoints.database.snapshot import one_snapshot
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.checkpoints.schema.ledger_tables import calls, sessions
from bursar.state.errors import LedgerError
from bursar.state.money import USD
from bursar.state.rules.calls import IN_FLIGHT


class Head(BaseModel):
    """The sequence and hash of a session's last event, and the totals of the session's calls up to that event.

    The head that each run writes into its trace has no totals. For such a head, `verify` checks that the log has an
    event with this sequence and hash. For a head with totals, `verify` compares the totals, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    session_id: str
    sequence: int = Field(ge=0)
    hash: str
    spent: USD | None = None
    held: USD | None = None
    calls: int | None = Field(default=None, ge=0)


class Anchor(BaseModel):
    """The heads of one session's log or of all logs, at one time. Export it with `model_dump_json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=1, ge=1, le=1)
    at: datetime
    keyed: bool
    heads: tuple[Head, ...]


def anchor(transaction: Transaction, session_id: str | None, *, at: datetime) -> Anchor:
    """Return the present head of one session's log, or of all. Raises `LedgerError` if there is no such session."""
    connection = transaction.connection
    one_snapshot(connection)
    ours = [] if session_id is None else [calls.c.session_id == session_id]
    charge = func.sum(case((calls.c.state == "settled", calls.c.cost), (calls.c.state == "unknown", calls.c.amount)))
    held = func.sum(case((calls.c.state.in_(IN_FLIGHT), calls.c.amount)))
    sums = select(calls.c.session_id, charge, held, func.count()).where(*ours).group_by(calls.c.session_id)
    totals = {row[0]: (int(row[1] or 0), int(row[2] or 0), int(row[3])) for row in connection.execute(sums)}
    query = select(sessions.c.session_id, sessions.c.sequence, sessions.c.head).order_by(sessions.c.session_id)
    if session_id is not None:
        query = query.where(sessions.c.session_id == session_id)
    heads = [_head(row, totals.get(row[0], (0, 0, 0))) for row in connection.execute(query)]
    if session_id is not None and not heads:
        raise LedgerError(f"no session {session_id} in the books")
    return Anchor(at=at, keyed=transaction.key is not None, heads=tuple(heads))


def _head(row: Sequence[object], totals: tuple[int, int, int]) -> Head:
    name, sequence, last = row
    spent, held, count = totals
    return Head(
        session_id=str(name),
        sequence=int(str(sequence)),
        hash=str(last),
        spent=USD.from_nanos(spent),
        held=USD.from_nanos(held),
        calls=count,
    )
