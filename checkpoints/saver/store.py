"""`store`: insert all rows of a checkpoint in one transaction; on PostgreSQL by one statement, in one round trip."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.database.statement import execute
from bursar.checkpoints.leases import Lease
from bursar.checkpoints.saver.address import Row
from bursar.checkpoints.saver.sql import (
    overwrite_write,
    overwriting,
    put_checkpoint,
    put_value,
    put_write,
)
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes

MAX_IN_ONE = 24  # rows in a statement; PostgreSQL prepares a statement for each number of rows
SHAPES = 128
DIVISION_BY_ZERO = "22012"


class _Columns:
    """The columns of a table that a statement fills; by default all of them.

    `of` takes a row that is to be stored and returns the values of these columns, in order. `row` is the SQL for the
    values: `(?, ?, …)`.
    """

    def __init__(self, table: Table, *names: str) -> None:
        names = names or tuple(column.name for column in table.columns)
        self.of: Callable[[Row], tuple[object, ...]] = itemgetter(*names)
        self.row = f"({', '.join('?' * len(names))})"


_VALUES, _WRITES, _CHECKPOINTS = _Columns(channel_values), _Columns(task_writes), _Columns(checkpoints)
_KEY = ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx")


class RowsToStore(NamedTuple):
    """Rows to be stored together: values stored `whole` or as `differences`, task writes, and a checkpoint.

    Writes in `once` are not stored if they are stored already; writes in `again` replace earlier ones.
    """

    whole: Sequence[Row] = ()
    differences: Sequence[Row] = ()
    once: Sequence[Row] = ()
    again: Sequence[Row] = ()
    checkpoint: Sequence[Row] = ()

    def with_writes(self, others: "Sequence[RowsToStore]") -> "RowsToStore":
        """Return these rows with the writes of `others` before their own."""
        if not others:
            return self
        once = [row for rows in (*others, self) for row in rows.once]
        again = [row for rows in (*others, self) for row in rows.again]
        return self._replace(once=once, again=again)

    @property
    def is_one_statement(self) -> bool:
        """Whether PostgreSQL stores the rows by one statement, which is a transaction by itself."""
        return sum(map(len, self)) <= MAX_IN_ONE


def store(connection: Connection, rows: RowsToStore, lease: Lease | None = None) -> None:
    """Store all of the rows, or none. If a `lease` is given, store the rows only if the lease is still in force.

    Raises `IntegrityError` if a value's version is stored already, or the base of a difference is not stored. Raises
    `LeaseLost` if the lease is not in force any more.
    """
    if connection.dialect.name == "postgresql" and rows.is_one_statement:
        _store_in_one(connection, rows, lease)
        return
    if lease is not None:
        lease.check(connection)
    put_value.many(connection, [*rows.whole, *rows.differences])
    put_write.many(connection, rows.once)
    overwrite_write.many(connection, rows.again)
    put_checkpoint.many(connection, rows.checkpoint)


def _store_in_one(connection: Connection, rows: RowsToStore, lease: Lease | None) -> None:
    # A statement cannot overwrite one row twice: of two that would, the last counts.
    again = list({tuple(row[name] for name in _KEY): row for row in rows.again}.values())
    shape = (len(rows.whole), len(rows.differences), len(rows.once), len(again), len(rows.checkpoint))
    if not any(shape):
        return
    values: list[object] = [] if lease is None else [lease.session_id, lease.owner, lease.epoch]
    for row in rows.whole:
        values += _VALUES.of(row)
    for row in rows.differences:
        values += _DIFFERENCE.of(row)
    for row in (*rows.once, *again):
        values += _WRITES.of(row)
    for row in rows.checkpoint:
        values += _CHECKPOINTS.of(row)
    try:
        execute(connection, _statement(*shape, fenced=lease is not None), values)
    except DBAPIError as error:
        if lease is not None and getattr(error.orig, "sqlstate", "") == DIVISION_BY_ZERO:
            raise lease.lost() from None
        raise


# Race: another transaction may delete the base. So the payload is read through the base's row, which is locked until
# this commits. If the base is gone, the payload is NULL, and refused.
_DIFFERENCE = _Columns(
    channel_values,
    *("thread_id", "checkpoint_ns", "version", "channel", "kind"),
    *("payload", "thread_id", "checkpoint_ns", "base", "channel"),
    *("coding", "base"),
)
_BASED = (
    "(?, ?, ?, ?, ?, (SELECT CAST(? AS bytea) FROM bursar_channel_values AS held WHERE held.thread_id = ?"
    " AND held.checkpoint_ns = ? AND held.version = ? AND held.channel = ? FOR KEY SHARE), ?, ?)"
)


# Race: another run may take the lease over. Its row is locked until this commits. If the lease is gone, the statement
# divides by zero and fails as a whole.
_FENCE = "fence AS (SELECT 1 FROM bursar_leases WHERE session_id = ? AND owner = ? AND epoch = ? FOR SHARE)"
_FENCED = " RETURNING (SELECT 1 / count(*) FROM fence)"


@lru_cache(SHAPES)
def _statement(whole: int, differences: int, once: int, again: int, checkpoint: int, *, fenced: bool) -> str:
    parts = [
        _insert(channel_values, [_VALUES.row] * whole),
        _insert(channel_values, [_BASED] * differences),
        _insert(task_writes, [_WRITES.row] * once, "ON CONFLICT DO NOTHING"),
        _insert(task_writes, [_WRITES.row] * again, overwriting(task_writes)),
        _insert(checkpoints, [_CHECKPOINTS.row] * checkpoint, overwriting(checkpoints)),
    ]
    *first, last = [part for part in parts if part]
    named = [f"part_{number} AS ({part})" for number, part in enumerate(first)]
    if fenced:
        named, last = [_FENCE, *named], last + _FENCED
    sql = f"WITH {', '.join(named)} {last}" if named else last
    start, *rest = sql.split("?")
    return "".join((start, *(f"${number}{text}" for number, text in enumerate(rest, 1))))


def _insert(table: Table, rows: Sequence[str], conflict: str = "") -> str:
    if not rows:
        return ""
    columns = ", ".join(column.name for column in table.columns)
    return f"INSERT INTO {table.name} ({columns}) VALUES {', '.join(rows)} {conflict}"  # noqa: S608 - our own names
