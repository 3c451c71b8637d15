"""The SQL statements that the saver runs at every step, written once for both databases and rendered once for each.

The databases differ in a few words, such as the function that turns a JSON object into rows. In the texts below these
words are in braces; `_POSTGRESQL` and `_SQLITE` say what stands for them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, text

from bursar.checkpoints.database.statement import Statement, execute_many
from bursar.checkpoints.saver.codec import EncodedPayload
from bursar.checkpoints.saver.delta_chains import MAX_CHAIN
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes

CHECKPOINT, VALUE, WRITE, SEED = range(4)  # the `part` of a row
MAX_ANCESTORS = 100_000  # a walk of ancestors ends here, even if rows were tampered into a circle


class StoredRow(NamedTuple):
    """A row of the statement `latest` (the latest checkpoint of a namespace) or `one` (the checkpoint with an id).

    `part` says what the row is, and so what `first`, `second` and `third` are. CHECKPOINT: its id, its parent's id or
    None, its versions as JSON. VALUE: its channel, its version, its base or None. WRITE: its task's id, its channel,
    its task's path.
    """

    part: int
    first: str
    second: str | None
    third: str | None
    idx: int
    kind: str
    coding: str | None
    payload: bytes

    @property
    def stored(self) -> EncodedPayload:
        """The payload of the row."""
        return EncodedPayload(self.kind, self.coding, self.payload)


class HistoryRow(NamedTuple):
    """A row from which a delta channel is rebuilt, of the statement `latest_history` or `one_history`.

    `part` is WRITE or SEED. A WRITE row is a write of an ancestor: `depth` is how many steps up the ancestor is,
    `first` is the task path, and `second` is the task id. The SEED rows are the versions from which the nearest stored
    value is put together: `depth` is 1 for the value itself, 2 for its base, and so on; `first` is the version, and
    `second` is the version's base or None.
    """

    part: int
    depth: int
    checkpoint_id: str
    first: str
    second: str | None
    idx: int
    kind: str
    coding: str | None
    payload: bytes

    @property
    def stored(self) -> EncodedPayload:
        """The payload of the row."""
        return EncodedPayload(self.kind, self.coding, self.payload)


class BatchStatement(Statement):
    """A statement for many rows at once: SQLite runs it for each row, PostgreSQL receives all rows in one pipeline."""

    def many(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run the statement for each of `rows`, in order; `rows` may be empty. Raises SQLAlchemy's errors."""
        if not rows:
            return
        sql, _, ordered = self._rendered.get(connection.dialect.name) or self._render(connection)
        execute_many(connection, sql, [*map(ordered, rows)])


# CROSS JOIN and WHERE, not JOIN and ON: SQLite then keeps the order of the tables, which is the order of their size.
_LATEST = """
head AS (
    SELECT * FROM bursar_checkpoints
    WHERE thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns AND NOT hidden
    ORDER BY checkpoint_id DESC LIMIT 1
)"""
_ONE = """
head AS (
    SELECT * FROM bursar_checkpoints
    WHERE thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns AND checkpoint_id = :checkpoint_id AND NOT hidden
)"""
# Rows are found one by one through the key. If the table was not analysed since it grew, PostgreSQL would rather read
# all of a session. A subquery with an OFFSET keeps it from that.
_POSTGRESQL = {
    r"{OPENED\((\w+)\)}": r"json_each_text(\1.versions::json)",
    r"{EACH\((\w+) AS (\w+)\)}": r"CROSS JOIN LATERAL (SELECT * FROM \1 AS \2",
    r"{OF\((\w+)\)}": r"OFFSET 0) AS \1",
    r"{CONTENT}": "held.kind, held.coding, held.payload",
    r"{CONTENTS}": "chain AS held",
}
_SQLITE = {
    r"{OPENED\((\w+)\)}": r"json_each(\1.versions)",
    r"{EACH\((\w+) AS (\w+)\)}": r"CROSS JOIN \1 AS \2",
    r" {OF\(\w+\)}": "",
    # A payload that goes through the recursion is copied several times, so rows go through it by number alone.
    r"{CONTENT}": "held.rowid AS place",
    r"{CONTENTS}": "chain CROSS JOIN bursar_channel_values AS held WHERE held.rowid = chain.place",
}
# The values that the checkpoint shows, and below each value the versions that it is stored as a difference to.
_TUPLE = """,
chain AS (
    SELECT held.channel, held.version, held.base, {CONTENT}, 1 AS depth
    FROM head CROSS JOIN {OPENED(head)} AS shown {EACH(bursar_channel_values AS held)}
    WHERE held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
        AND held.version = shown.value AND held.channel = shown.key {OF(held)}
    UNION ALL
    SELECT held.channel, held.version, held.base, {CONTENT}, chain.depth + 1
    FROM chain {EACH(bursar_channel_values AS held)}
    WHERE held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
        AND held.version = chain.base AND held.channel = chain.channel AND chain.depth < :steps {OF(held)}
)
SELECT {CHECKPOINT} AS part, checkpoint_id, parent_id, versions, 0 AS idx, kind, coding, payload FROM head
UNION ALL
SELECT {VALUE}, held.channel, held.version, held.base, 0, held.kind, held.coding, held.payload FROM {CONTENTS}
UNION ALL
SELECT {WRITE}, done.task_id, done.channel, done.task_path, done.idx, done.kind, done.coding, done.payload
FROM head {EACH(bursar_task_writes AS done)}
WHERE done.thread_id = :thread_id AND done.checkpoint_ns = :checkpoint_ns
    AND done.checkpoint_id = head.checkpoint_id {OF(done)}
"""

# The walk goes up from the parent and ends at the nearest ancestor that shows a stored value of the channel.
_FOUND = """EXISTS (
        SELECT 1 FROM {OPENED(up)} AS shown {EACH(bursar_channel_values AS held)}
        WHERE shown.key = :channel AND held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
            AND held.version = shown.value AND held.channel = :channel {OF(held)}
    )"""
_WALK = """,
walk AS (
    SELECT up.checkpoint_id, up.parent_id, up.versions, 1 AS depth, {FOUND} AS found
    FROM head {EACH(bursar_checkpoints AS up)}
    WHERE up.thread_id = :thread_id AND up.checkpoint_ns = :checkpoint_ns AND up.checkpoint_id = head.parent_id {OF(up)}
    UNION ALL
    SELECT up.checkpoint_id, up.parent_id, up.versions, walk.depth + 1, {FOUND}
    FROM walk {EACH(bursar_checkpoints AS up)}
    WHERE up.thread_id = :thread_id AND up.checkpoint_ns = :checkpoint_ns AND up.checkpoint_id = walk.parent_id
        AND NOT walk.found AND walk.depth < {MAX_ANCESTORS} {OF(up)}
),
chain AS (
    SELECT held.version, held.base, {CONTENT}, 1 AS depth
    FROM walk CROSS JOIN {OPENED(walk)} AS shown {EACH(bursar_channel_values AS held)}
    WHERE walk.found AND shown.key = :channel AND held.thread_id = :thread_id
        AND held.checkpoint_ns = :checkpoint_ns AND held.version = shown.value AND held.channel = :channel {OF(held)}
    UNION ALL
    SELECT held.version, held.base, {CONTENT}, chain.depth + 1
    FROM chain {EACH(bursar_channel_values AS held)}
    WHERE held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
        AND held.version = chain.base AND held.channel = :channel AND chain.depth < {MAX_CHAIN} {OF(held)}
)
SELECT {WRITE} AS part, walk.depth, walk.checkpoint_id, done.task_path, done.task_id, done.idx,
    done.kind, done.coding, done.payload
FROM walk {EACH(bursar_task_writes AS done)}
WHERE done.thread_id = :thread_id AND done.checkpoint_ns = :checkpoint_ns
    AND done.checkpoint_id = walk.checkpoint_id AND done.channel = :channel {OF(done)}
UNION ALL
SELECT {SEED}, depth, '', held.version, held.base, 0, held.kind, held.coding, held.payload FROM {CONTENTS}
"""


def _prepared(sql: str, **usual: object) -> Statement:
    words = {"FOUND": _FOUND, "CHECKPOINT": CHECKPOINT, "VALUE": VALUE, "WRITE": WRITE, "SEED": SEED}
    for word, meaning in (words | {"MAX_ANCESTORS": MAX_ANCESTORS, "MAX_CHAIN": MAX_CHAIN}).items():
        sql = sql.replace(f"{{{word}}}", str(meaning))
    statement, sqlite = (text(_replaced(sql, words)).bindparams(**usual) for words in (_POSTGRESQL, _SQLITE))
    return Statement(statement, sqlite=sqlite)


def _replaced(sql: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        sql = re.sub(word, meaning, sql)
    return sql


def _insert(table: Table, *, conflict: str = "") -> BatchStatement:
    names = [column.name for column in table.columns]
    columns, values = ", ".join(names), ", ".join(f":{name}" for name in names)
    return BatchStatement(text(f"INSERT INTO {table.name} ({columns}) VALUES ({values}) {conflict}"))  # noqa: S608 - our own names


def overwriting(table: Table) -> str:
    """Return the ON CONFLICT clause with which an insert into `table` replaces a row that has the same key."""
    key = ", ".join(column.name for column in table.columns if column.primary_key)
    rest = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns if not column.primary_key)
    return f"ON CONFLICT ({key}) DO UPDATE SET {rest}"


def _insert_value() -> BatchStatement:
    """Return the statement that inserts a channel value, whole or as the difference from an earlier value, its base.

    A difference whose base is not stored is refused.

    Race: another transaction may delete the base meanwhile. So the statement takes the new payload from a subquery that
    finds the base's row and locks it until this transaction commits. If that row is gone, the subquery gives NULL,
    which the payload's column does not allow.
    """
    columns = ", ".join(column.name for column in channel_values.columns)
    insert = f"""INSERT INTO bursar_channel_values ({columns})
        VALUES (:thread_id, :checkpoint_ns, :version, :channel, :kind,
        CASE WHEN {{base}} IS NULL THEN {{payload}} ELSE (
            SELECT {{payload}} FROM bursar_channel_values AS held
            WHERE held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
                AND held.version = {{base}} AND held.channel = :channel{{lock}}
        ) END, :coding, :base)"""  # noqa: S608 - our own names
    return BatchStatement(
        text(insert.format(payload="CAST(:payload AS bytea)", base="CAST(:base AS text)", lock=" FOR KEY SHARE")),
        sqlite=text(insert.format(payload=":payload", base=":base", lock="")),
    )


# Parameters are named as the columns. The first five store rows. `latest` and `one` read a checkpoint with its values
# and writes in one round trip, and up to `steps` versions that a value is made of. The histories read the rows from
# which one delta channel is rebuilt.
put_checkpoint = _insert(checkpoints, conflict=overwriting(checkpoints))
put_value = _insert_value()
overwrite_value = _insert(channel_values, conflict=overwriting(channel_values))
put_write = _insert(task_writes, conflict="ON CONFLICT DO NOTHING")
overwrite_write = _insert(task_writes, conflict=overwriting(task_writes))
latest = _prepared("WITH RECURSIVE" + _LATEST + _TUPLE, steps=MAX_CHAIN)
one = _prepared("WITH RECURSIVE" + _ONE + _TUPLE, steps=MAX_CHAIN)
latest_history = _prepared("WITH RECURSIVE" + _LATEST + _WALK)
one_history = _prepared("WITH RECURSIVE" + _ONE + _WALK)
