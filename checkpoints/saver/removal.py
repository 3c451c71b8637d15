"""Functions that delete and copy checkpoints, such that the checkpoints that remain can still be read.

A delta channel's value is rebuilt from the writes of ancestors, back to the nearest stored value. If a checkpoint on
that path is removed, it is hidden instead of deleted, and keeps only those writes and that value. A later removal
deletes the hidden checkpoint, when no value is rebuilt from it any more.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select, update

from bursar.checkpoints.saver.address import Address
from bursar.checkpoints.saver.codec import Codec, EncodedPayload
from bursar.checkpoints.saver.rebasing import detach_dependents, lock_values
from bursar.checkpoints.saver.rows import read_payload
from bursar.checkpoints.saver.secure_delete import secure_delete
from bursar.checkpoints.schema.lease_table import leases
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes

_UUID6 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-6.{21}")
TABLES = (checkpoints, channel_values, task_writes)
_MAX_IDS = 500  # ids in one statement


def delete_session(connection: Connection, thread_id: str) -> None:
    """Delete everything that is stored of the session, in every namespace."""
    with secure_delete(connection):
        for table in TABLES:
            connection.execute(delete(table).where(table.c.thread_id == thread_id))
        connection.execute(delete(leases).where(leases.c.session_id == thread_id))


def copy_session(connection: Connection, source: str, target: str) -> None:
    """Copy everything that is stored of the session `source` to the session `target`.

    Hidden checkpoints are copied, too: removed ones that are kept because a delta channel of another checkpoint is
    rebuilt from them. Raises `ValueError`, and copies nothing, if `target` has anything already.
    """
    for table in TABLES:
        if connection.execute(select(table.c.thread_id).where(table.c.thread_id == target).limit(1)).first():
            raise ValueError(f"session {target!r} exists already; copy to a new one, or delete it first")
    for table in TABLES:
        others = [column for column in table.columns if column.name != "thread_id"]
        rows = select(literal(target), *others).where(table.c.thread_id == source)
        connection.execute(insert(table).from_select(["thread_id", *(column.name for column in others)], rows))


def keep_latest(connection: Connection, codec: Codec, thread_id: str, before: str | None = None) -> None:
    """Remove all checkpoints of the session but the latest of each namespace, which keeps its writes.

    If `before`, the start of an id, is given, only checkpoints whose id is a UUID of version 6 and sorts before it are
    removed.
    """
    columns = checkpoints.c
    latest = connection.execute(
        select(columns.checkpoint_ns, func.max(columns.checkpoint_id))
        .where(columns.thread_id == thread_id, ~columns.hidden)
        .group_by(columns.checkpoint_ns)
    ).all()
    for checkpoint_ns, kept in latest:
        branch = _Branch.read(connection, thread_id, checkpoint_ns)
        removed = [at for at in branch.nodes if at != kept and (before is None or is_before(at, before))]
        with secure_delete(connection):
            branch.remove(connection, codec, removed)
            _drop_strays(connection, thread_id, checkpoint_ns, kept if before is None else min(kept, before))


def is_before(checkpoint_id: str, before: str) -> bool:
    """Whether the id, a UUID of version 6, sorts before `before`, so that it was made earlier. False for other ids."""
    return _UUID6.fullmatch(checkpoint_id) is not None and checkpoint_id < before


def _drop_strays(connection: Connection, thread_id: str, checkpoint_ns: str, before: str) -> None:
    """Delete writes whose checkpoint was never stored, and whose checkpoint id sorts before `before`."""
    writes, columns = task_writes.c, checkpoints.c
    here = (columns.thread_id == thread_id) & (columns.checkpoint_ns == checkpoint_ns)
    connection.execute(
        delete(task_writes).where(
            writes.thread_id == thread_id,
            writes.checkpoint_ns == checkpoint_ns,
            writes.checkpoint_id < before,
            writes.checkpoint_id.not_in(select(columns.checkpoint_id).where(here)),
        )
    )


def delete_runs(connection: Connection, codec: Codec, run_ids: Iterable[str]) -> None:
    """Remove the checkpoints that these runs made, in every session and namespace. Later checkpoints stay readable."""
    columns = checkpoints.c
    removed: dict[tuple[str, str], list[str]] = {}
    for some in _chunks(sorted(set(run_ids))):
        made = connection.execute(
            select(columns.thread_id, columns.checkpoint_ns, columns.checkpoint_id).where(
                columns.run_id.in_(some), ~columns.hidden
            )
        )
        for thread_id, checkpoint_ns, checkpoint_id in made:
            removed.setdefault((thread_id, checkpoint_ns), []).append(checkpoint_id)
    for (thread_id, checkpoint_ns), ids in removed.items():
        branch = _Branch.read(connection, thread_id, checkpoint_ns)
        with secure_delete(connection):
            branch.remove(connection, codec, ids)


@dataclass(slots=True)
class _Node:
    at: Address
    parent: str | None
    hidden: bool
    versions: Mapping[str, str]
    stored: EncodedPayload


@dataclass(slots=True)
class _Branch:
    """All checkpoints of one namespace of one session, by id. `stored` has (channel, version) of each stored value."""

    thread_id: str
    checkpoint_ns: str
    nodes: dict[str, _Node]
    stored: set[tuple[str, str]]

    @classmethod
    def read(cls, connection: Connection, thread_id: str, checkpoint_ns: str) -> "_Branch":
        lock_values(connection, thread_id, checkpoint_ns)  # race: nobody may store a difference to a value that goes
        rows = connection.execute(
            select(checkpoints).where(
                checkpoints.c.thread_id == thread_id, checkpoints.c.checkpoint_ns == checkpoint_ns
            )
        )
        nodes = {
            row.checkpoint_id: _Node(
                Address(thread_id, checkpoint_ns, row.checkpoint_id),
                row.parent_id,
                row.hidden,
                json.loads(row.versions),
                EncodedPayload(row.kind, row.coding, row.payload),
            )
            for row in rows
        }
        values = channel_values.c
        stored = connection.execute(
            select(values.channel, values.version).where(
                values.thread_id == thread_id, values.checkpoint_ns == checkpoint_ns
            )
        )
        return cls(thread_id, checkpoint_ns, nodes, {(channel, version) for channel, version in stored})

    def remove(self, connection: Connection, codec: Codec, removed: Iterable[str]) -> None:
        """Delete the checkpoints `removed`, and values that no checkpoint needs any more.

        Checkpoints from which a delta channel of another checkpoint is rebuilt are hidden instead.
        """
        for checkpoint_id in removed:
            self.nodes[checkpoint_id].hidden = True
        needed = self._needed(codec)
        gone = [at for at, node in self.nodes.items() if node.hidden and at not in needed]
        for some in _chunks(gone):
            for table in (checkpoints, task_writes):
                connection.execute(
                    delete(table).where(
                        table.c.thread_id == self.thread_id,
                        table.c.checkpoint_ns == self.checkpoint_ns,
                        table.c.checkpoint_id.in_(some),
                    )
                )
        for checkpoint_id, channels in needed.items():
            self._hide(connection, checkpoint_id, channels)
        self._drop_values(connection, codec, needed)

    def _needed(self, codec: Codec) -> dict[str, set[str]]:
        """Return the hidden checkpoints that are still needed, each with the channels that are rebuilt from it."""
        needed: dict[str, set[str]] = {}
        visited: set[tuple[str, str]] = set()
        for start, node in self.nodes.items():
            if node.hidden:
                continue
            for channel in self._delta_channels(codec, node):
                at: str | None = start
                while at is not None and at in self.nodes and (at, channel) not in visited:
                    visited.add((at, channel))
                    here = self.nodes[at]
                    if here.hidden:
                        needed.setdefault(at, set()).add(channel)
                    if (channel, here.versions.get(channel)) in self.stored:
                        break
                    at = here.parent
        return needed

    def _delta_channels(self, codec: Codec, node: _Node) -> list[str]:
        # LangGraph counts, in metadata, each delta channel's steps since its last stored value.
        _, metadata = read_payload(codec, node.at, node.stored)
        counters = metadata.get("counters_since_delta_snapshot") or {}
        return [channel for channel in counters if channel in node.versions]

    def _hide(self, connection: Connection, checkpoint_id: str, channels: set[str]) -> None:
        connection.execute(
            update(checkpoints)
            .where(
                checkpoints.c.thread_id == self.thread_id,
                checkpoints.c.checkpoint_ns == self.checkpoint_ns,
                checkpoints.c.checkpoint_id == checkpoint_id,
            )
            .values(hidden=True)
        )
        connection.execute(
            delete(task_writes).where(
                task_writes.c.thread_id == self.thread_id,
                task_writes.c.checkpoint_ns == self.checkpoint_ns,
                task_writes.c.checkpoint_id == checkpoint_id,
                task_writes.c.channel.notin_(channels),
            )
        )

    def _drop_values(self, connection: Connection, codec: Codec, needed: Mapping[str, set[str]]) -> None:
        shown: set[tuple[str, str]] = set()
        for checkpoint_id, node in self.nodes.items():
            if not node.hidden:
                shown.update(node.versions.items())
            for channel in needed.get(checkpoint_id, ()):
                shown.add((channel, node.versions.get(channel, "")))
        dropped = self.stored - shown
        if dropped:
            detach_dependents(connection, codec, Address(self.thread_id, self.checkpoint_ns, None), dropped)
            unused = [{"unused_channel": channel, "unused_version": version} for channel, version in sorted(dropped)]
            connection.execute(
                delete(channel_values).where(
                    channel_values.c.thread_id == self.thread_id,
                    channel_values.c.checkpoint_ns == self.checkpoint_ns,
                    channel_values.c.channel == bindparam("unused_channel"),
                    channel_values.c.version == bindparam("unused_version"),
                ),
                unused,
            )


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _MAX_IDS] for start in range(0, len(ids), _MAX_IDS))
