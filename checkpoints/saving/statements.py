"""The saver's hot statements: written once in the SQL both databases share, made ready once for each driver.

A graph executes the same few statements at every step. The databases differ in one word, the function that opens a
JSON object.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.prepared import Prepared
from bursar.checkpoints.saving.tables import channel_values, checkpoints, task_writes

CHECKPOINT, VALUE, WRITE, SEED = range(4)  # the `part` of a row
MAX_ANCESTORS = 100_000  # a walk of ancestors ends here, even if rows were tampered into a circle


class StoredRow(NamedTuple):
    """A row of `latest` and `one`. What `first`, `second` and `third` are depends on `part`.

    CHECKPOINT: its id, its parent's id or None, its versions as JSON. VALUE: channel, version, nothing.
    WRITE: task id, channel, task path.
    """

    part: int
    first: str
    second: str | None
    third: str
    idx: int
    kind: str
    payload: bytes


class HistoryRow(NamedTuple):
    """A row of the history statements: a WRITE at the ancestor `depth` steps up, or the SEED found there."""

    part: int
    depth: int
    task_path: str
    task_id: str
    idx: int
    kind: str
    payload: bytes


class Batch(Prepared):
    """A statement for many rows at once: SQLite steps it for each, PostgreSQL receives them in one pipeline."""

    def many(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it for each of `rows`, in order. Raises as `Prepared`."""
        dialect = connection.dialect
        sql, _, order = self._rendered.get(dialect.name) or self._render(connection)
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(sql, rows if order is None else [[row[name] for name in order] for row in rows])
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error
        finally:
            cursor.close()


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
_TUPLE = """
SELECT {CHECKPOINT} AS part, checkpoint_id, parent_id, versions, 0 AS idx, kind, payload FROM head
UNION ALL
SELECT {VALUE}, held.channel, held.version, '', 0, held.kind, held.payload
FROM head CROSS JOIN {OPENED(head)} AS shown CROSS JOIN bursar_channel_values AS held
WHERE held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
    AND held.version = shown.value AND held.channel = shown.key
UNION ALL
SELECT {WRITE}, done.task_id, done.channel, done.task_path, done.idx, done.kind, done.payload
FROM head CROSS JOIN bursar_task_writes AS done
WHERE done.thread_id = :thread_id AND done.checkpoint_ns = :checkpoint_ns AND done.checkpoint_id = head.checkpoint_id
"""

# The walk goes up from the parent and ends at the nearest ancestor that shows a stored value of the channel.
_FOUND = """EXISTS (
        SELECT 1 FROM {OPENED(up)} AS shown CROSS JOIN bursar_channel_values AS held
        WHERE shown.key = :channel AND held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
            AND held.version = shown.value AND held.channel = :channel
    )"""
_WALK = """,
walk AS (
    SELECT up.checkpoint_id, up.parent_id, up.versions, 1 AS depth, {FOUND} AS found
    FROM head CROSS JOIN bursar_checkpoints AS up
    WHERE up.thread_id = :thread_id AND up.checkpoint_ns = :checkpoint_ns AND up.checkpoint_id = head.parent_id
    UNION ALL
    SELECT up.checkpoint_id, up.parent_id, up.versions, walk.depth + 1, {FOUND}
    FROM walk CROSS JOIN bursar_checkpoints AS up
    WHERE up.thread_id = :thread_id AND up.checkpoint_ns = :checkpoint_ns AND up.checkpoint_id = walk.parent_id
        AND NOT walk.found AND walk.depth < {MAX_ANCESTORS}
)
SELECT {WRITE} AS part, walk.depth, done.task_path, done.task_id, done.idx, done.kind, done.payload
FROM walk CROSS JOIN bursar_task_writes AS done
WHERE done.thread_id = :thread_id AND done.checkpoint_ns = :checkpoint_ns
    AND done.checkpoint_id = walk.checkpoint_id AND done.channel = :channel
UNION ALL
SELECT {SEED}, walk.depth, '', '', 0, held.kind, held.payload
FROM walk CROSS JOIN {OPENED(walk)} AS shown CROSS JOIN bursar_channel_values AS held
WHERE walk.found AND shown.key = :channel AND held.thread_id = :thread_id AND held.checkpoint_ns = :checkpoint_ns
    AND held.version = shown.value AND held.channel = :channel
"""


def _prepared(sql: str) -> Prepared:
    words = {"FOUND": _FOUND, "CHECKPOINT": CHECKPOINT, "VALUE": VALUE, "WRITE": WRITE, "SEED": SEED}
    for word, meaning in (words | {"MAX_ANCESTORS": MAX_ANCESTORS}).items():
        sql = sql.replace(f"{{{word}}}", str(meaning))
    return Prepared(
        text(re.sub(r"{OPENED\((\w+)\)}", r"json_each_text(\1.versions::json)", sql)),
        sqlite=text(re.sub(r"{OPENED\((\w+)\)}", r"json_each(\1.versions)", sql)),
    )


def _insert(table: Table, *, overwrite: bool) -> Batch:
    names = [column.name for column in table.columns]
    key = ", ".join(column.name for column in table.columns if column.primary_key)
    rest = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns if not column.primary_key)
    columns, values = ", ".join(names), ", ".join(f":{name}" for name in names)
    action = f"UPDATE SET {rest}" if overwrite else "NOTHING"
    return Batch(text(f"INSERT INTO {table.name} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO {action}"))  # noqa: S608 - our own names


# Parameters are named as the columns. The first four store rows; `latest` and `one` read a checkpoint with its values
# and writes in one round trip, the histories what one delta channel is rebuilt from.
put_checkpoint = _insert(checkpoints, overwrite=True)
put_value = _insert(channel_values, overwrite=True)
put_write = _insert(task_writes, overwrite=False)
overwrite_write = _insert(task_writes, overwrite=True)
latest = _prepared("WITH" + _LATEST + _TUPLE)
one = _prepared("WITH" + _ONE + _TUPLE)
latest_history = _prepared("WITH RECURSIVE" + _LATEST + _WALK)
one_history = _prepared("WITH RECURSIVE" + _ONE + _WALK)
