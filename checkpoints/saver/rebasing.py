"""Stores values again that are differences to a version that is about to be deleted or changed."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, select

from bursar.checkpoints.saver.address import Address
from bursar.checkpoints.saver.channel_values import Encoded, NewValues, Version, Versions, assemble, value_row
from bursar.checkpoints.saver.codec import Codec, EncodedPayload
from bursar.checkpoints.saver.delta_chains import MAX_ADDED, MAX_CHAIN
from bursar.checkpoints.saver.deltas import difference, pack
from bursar.checkpoints.saver.sql import overwrite_value
from bursar.checkpoints.schema.saver_tables import channel_values

Named = tuple[str, str]  # channel, version


def lock_values(connection: Connection, thread_id: str, checkpoint_ns: str) -> None:
    """Lock the namespace's values until this transaction ends, so that nobody else stores a difference to one of them.

    A read after this sees every difference that was stored before.
    """
    if connection.dialect.name == "postgresql":  # SQLite lets nobody else write anyway
        values = channel_values.c
        connection.execute(
            select(values.version)
            .where(values.thread_id == thread_id, values.checkpoint_ns == checkpoint_ns)
            .order_by(*channel_values.primary_key.columns)
            .with_for_update()
        ).all()


def detach_dependents(connection: Connection, codec: Codec, at: Address, going: Collection[Named]) -> None:
    """Make it safe to delete or change the versions `going`: afterwards no other value is a difference to one of them.

    Each such value is stored again, as a difference to another version or whole. The caller has called `lock_values`.
    """
    values = channel_values.c
    here = (values.thread_id == at.thread_id, values.checkpoint_ns == at.checkpoint_ns)
    based = {
        (channel, version): base
        for channel, version, base in connection.execute(
            select(values.channel, values.version, values.base).where(*here, values.base.is_not(None))
        )
    }
    rebasing = _Rebasing(connection, codec, at, based)
    for (channel, version), base in based.items():
        if (channel, version) not in going and (channel, base) in going:
            rebasing.store_anew(channel, version, going)


class _Rebasing:
    """Stores values of one namespace again, as a difference to another version or whole.

    `based` maps each version that is stored as a difference to its base, as they were before the first value was stored
    again.
    """

    def __init__(self, connection: Connection, codec: Codec, at: Address, based: Mapping[Named, str]) -> None:
        self._connection = connection
        self._codec = codec
        self._at = at
        self._based = based
        self._stored: dict[Named, Version] = {}  # read before it was stored anew

    def store_anew(self, channel: str, version: str, going: Collection[Named]) -> None:
        """Store a value again before the versions in `going`, on which it may be based, are deleted.

        It is stored as the difference from the nearest version of its chain that stays; if none stays, whole.
        """
        codec, at = self._codec, self._at
        rows = self._rows(channel, version)
        body, trail = assemble(codec, at, channel, version, rows)
        one = Encoded(channel, version, rows[version].stored.kind, body)
        row = value_row(codec, at, one, body)
        staying = next((name for name in rows if name != version and (channel, name) not in going), None)
        if staying is not None:
            below, _ = assemble(codec, at, channel, staying, rows)
            made = difference(below, body)
            if made.added <= MAX_ADDED * len(body):
                row = value_row(codec, at, one, pack(trail.last.number, body, made), base=staying)
        overwrite_value.many(self._connection, [row])

    def _rows(self, channel: str, version: str) -> Versions:
        """Return the stored versions that `version` is put together from, itself first."""
        names = [version]
        while (channel, names[-1]) in self._based and len(names) <= MAX_CHAIN:
            names.append(self._based[channel, names[-1]])
        missing = [name for name in names if (channel, name) not in self._stored]
        values = channel_values.c
        found = self._connection.execute(
            select(values.version, values.base, values.kind, values.coding, values.payload).where(
                values.thread_id == self._at.thread_id,
                values.checkpoint_ns == self._at.checkpoint_ns,
                values.channel == channel,
                values.version.in_(missing),
            )
        )
        for row in found:
            self._stored[channel, row.version] = Version(row.base, EncodedPayload(row.kind, row.coding, row.payload))
        return {name: self._stored[channel, name] for name in names if (channel, name) in self._stored}


def overwrite(connection: Connection, codec: Codec, new: NewValues) -> None:
    """Store the new values whole, and replace rows of the same versions.

    Values that are differences to a replaced row are stored again first, so they keep their content.
    """
    lock_values(connection, new.at.thread_id, new.at.checkpoint_ns)
    detach_dependents(connection, codec, new.at, {(one.channel, one.version) for one in new.encoded})
    overwrite_value.many(connection, new.all_whole(codec))
