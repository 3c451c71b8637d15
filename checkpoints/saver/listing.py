"""Listing checkpoints, newest first. Each page has a transaction of its own, so that no lock outlives a page."""

import json
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import NamedTuple

from langgraph.checkpoint.base import CheckpointTuple
from sqlalchemy import ColumnElement, Connection, select, tuple_

from bursar.checkpoints.saver.address import Address
from bursar.checkpoints.saver.codec import Codec, EncodedPayload
from bursar.checkpoints.saver.delta_chains import MAX_CHAIN
from bursar.checkpoints.saver.rows import read_payload, read_tuple
from bursar.checkpoints.saver.sql import CHECKPOINT, VALUE, WRITE, StoredRow
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes

PAGE = 32  # checkpoints that one transaction looks at
Key = tuple[str, str, str]  # session, namespace, checkpoint
ValueKey = tuple[str, str, str, str]  # session, namespace, channel, version
Found = Callable[[], CheckpointTuple]


class Page(NamedTuple):
    """One page of a listing: the checkpoints `found`, each as a function that decodes it.

    `after` is the key of the last checkpoint that was looked at. `left` is how many more checkpoints the listing may
    find, None if it has no limit. If `done`, this is the last page.
    """

    found: list[Found]
    after: Key | None
    left: int | None
    done: bool


class Listing:
    """A list in progress. Until it is `done`, run `next_page` in a transaction and give its page to `take`.

    `thread_id` None lists every session, `checkpoint_ns` None every namespace. `wanted` maps metadata keys to the
    values that they must all have. The order is descending checkpoint id, then session, then namespace.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        thread_id: str | None,
        checkpoint_ns: str | None,
        checkpoint_id: str | None,
        before: str | None,
        wanted: Mapping[str, object],
        limit: int | None,
    ) -> None:
        self._codec = codec
        self._wanted = wanted
        self._left = limit
        self._after: Key | None = None
        self.done = limit is not None and limit <= 0
        self._conditions: list[ColumnElement[bool]] = [~checkpoints.c.hidden]
        if thread_id is not None:
            self._conditions.append(checkpoints.c.thread_id == thread_id)
        if checkpoint_ns is not None:
            self._conditions.append(checkpoints.c.checkpoint_ns == checkpoint_ns)
        if checkpoint_id is not None:
            self._conditions.append(checkpoints.c.checkpoint_id == checkpoint_id)
        if before is not None:
            self._conditions.append(checkpoints.c.checkpoint_id < before)

    def take(self, page: Page) -> list[Found]:
        """Return the page's checkpoints. The next call of `next_page` begins after the page."""
        found, self._after, self._left, self.done = page
        return found

    def next_page(self, connection: Connection) -> Page:
        """Return the next page of matching checkpoints, each as a function that decodes it.

        Call these functions after the transaction, so that no lock is held while values are decoded. Until `take` gets
        the page, `next_page` returns the same page again, because its transaction may run again.
        """
        after, left = self._after, self._left
        size = PAGE if self._left is None or self._wanted else min(PAGE, self._left)
        columns = checkpoints.c
        order = (columns.checkpoint_id.desc(), columns.thread_id, columns.checkpoint_ns)
        keys = select(columns.thread_id, columns.checkpoint_ns, columns.checkpoint_id).where(*self._conditions)
        if self._after is not None:
            keys = keys.where(_follows(self._after))
        page = keys.order_by(*order).limit(size).subquery()  # keys first: no database should sort payloads
        rows = connection.execute(
            select(checkpoints)
            .join(
                page,
                (columns.thread_id == page.c.thread_id)
                & (columns.checkpoint_ns == page.c.checkpoint_ns)
                & (columns.checkpoint_id == page.c.checkpoint_id),
            )
            .order_by(*order)
        ).all()
        done = len(rows) < size
        if rows:
            after = (rows[-1].thread_id, rows[-1].checkpoint_ns, rows[-1].checkpoint_id)
        heads: dict[Key, StoredRow] = {}
        for row in rows:
            key = (row.thread_id, row.checkpoint_ns, row.checkpoint_id)
            head = StoredRow(
                CHECKPOINT, row.checkpoint_id, row.parent_id, row.versions, 0, row.kind, row.coding, row.payload
            )
            if self._matches(Address(*key), head.stored):
                heads[key] = head
        if left is not None:
            heads = dict(list(heads.items())[:left])
            left -= len(heads)
            done = done or left == 0
        return Page(self._complete(connection, heads), after, left, done)

    def _matches(self, at: Address, stored: EncodedPayload) -> bool:
        if not self._wanted:
            return True
        _, metadata = read_payload(self._codec, at, stored)
        return all(metadata.get(key) == value for key, value in self._wanted.items())

    def _complete(self, connection: Connection, heads: Mapping[Key, StoredRow]) -> list[Found]:
        if not heads:
            return []
        shown: dict[Key, dict[str, str]] = {key: json.loads(head.third or "{}") for key, head in heads.items()}
        values = _values(connection, shown)
        writes = _writes(connection, list(heads))
        return [
            self._found(
                key,
                [
                    head,
                    *(row for shown_one in shown[key].items() for row in _made_of(values, (*key[:2], *shown_one))),
                    *writes.get(key, ()),
                ],
            )
            for key, head in heads.items()
        ]

    def _found(self, key: Key, rows: list[StoredRow]) -> Found:
        def decode() -> CheckpointTuple:
            found = read_tuple(self._codec, Address(*key), rows)
            assert found is not None  # its head is the first of the rows
            return found

        return decode


def _follows(after: Key) -> ColumnElement[bool]:
    thread_id, checkpoint_ns, checkpoint_id = after
    columns = checkpoints.c
    return (columns.checkpoint_id < checkpoint_id) | (
        (columns.checkpoint_id == checkpoint_id)
        & (tuple_(columns.thread_id, columns.checkpoint_ns) > (thread_id, checkpoint_ns))
    )


def _values(connection: Connection, shown: Mapping[Key, Mapping[str, str]]) -> dict[ValueKey, StoredRow]:
    """Return the rows from which the checkpoints' values are put together, by session, namespace, channel and version.

    `shown` maps each checkpoint to the version of each channel. The rows are those of these versions and of all
    versions that these are differences to.
    """
    columns = channel_values.c
    wanted = {
        (key[0], key[1], channel, version) for key, versions in shown.items() for channel, version in versions.items()
    }
    found: dict[ValueKey, StoredRow] = {}
    for _ in range(MAX_CHAIN):
        if not wanted:
            break
        rows = connection.execute(
            select(channel_values).where(
                tuple_(columns.thread_id, columns.checkpoint_ns, columns.channel, columns.version).in_(sorted(wanted))
            )
        ).all()
        wanted = set[ValueKey]()
        for row in rows:
            found[row.thread_id, row.checkpoint_ns, row.channel, row.version] = StoredRow(
                VALUE, row.channel, row.version, row.base, 0, row.kind, row.coding, row.payload
            )
            if row.base is not None:
                wanted.add((row.thread_id, row.checkpoint_ns, row.channel, row.base))
        wanted -= found.keys()
    return found


def _made_of(values: Mapping[ValueKey, StoredRow], key: ValueKey) -> list[StoredRow]:
    """Return the rows that one value is put together from; an empty list if the channel has no value."""
    rows: list[StoredRow] = []
    while (row := values.get(key)) is not None and len(rows) < MAX_CHAIN:
        rows.append(row)
        key = (*key[:3], row.third or "")
    return rows


def _writes(connection: Connection, keys: list[Key]) -> dict[Key, list[StoredRow]]:
    columns = task_writes.c
    at = (columns.thread_id, columns.checkpoint_ns, columns.checkpoint_id)
    found = connection.execute(select(task_writes).where(tuple_(*at).in_(keys)).order_by(*at)).all()
    return {
        key: [
            StoredRow(WRITE, row.task_id, row.channel, row.task_path, row.idx, row.kind, row.coding, row.payload)
            for row in rows
        ]
        for key, rows in groupby(found, lambda row: (row.thread_id, row.checkpoint_ns, row.checkpoint_id))
    }
