"""Values that build on one that goes, or changes, are stored anew without it."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, select

from bursar.checkpoints.saving.address import Address
from bursar.checkpoints.saving.codec import Codec, Stored
from bursar.checkpoints.saving.differences import difference, pack
from bursar.checkpoints.saving.statements import overwrite_value
from bursar.checkpoints.saving.tables import channel_values
from bursar.checkpoints.saving.trails import MAX_ADDED
from bursar.checkpoints.saving.values import Encoded, NewValues, Version, assemble, value_row

Named = tuple[str, str]  # channel, version


def hold_values(connection: Connection, thread_id: str, checkpoint_ns: str) -> None:
    """Until this transaction ends nobody else stores a difference to a value that is there.

    What is read after it shows every difference that was stored before.
    """
    if connection.dialect.name == "postgresql":  # SQLite lets nobody else write anyway
        values = channel_values.c
        connection.execute(
            select(values.version)
            .where(values.thread_id == thread_id, values.checkpoint_ns == checkpoint_ns)
            .order_by(*channel_values.primary_key.columns)
            .with_for_update()
        ).all()


def set_free(connection: Connection, codec: Codec, at: Address, going: Collection[Named]) -> None:
    """Afterwards no value of the namespace builds on one of those `going`, which are then safe to delete or change."""
    values = channel_values.c
    here = (values.thread_id == at.thread_id, values.checkpoint_ns == at.checkpoint_ns)
    based = {
        (channel, version): base
        for channel, version, base in connection.execute(
            select(values.channel, values.version, values.base).where(*here, values.base.is_not(None))
        )
    }
    stored: dict[Named, Version] = {}
    # From the start of a chain to its end: who is next has what it then builds on.
    for named in sorted(based, key=lambda named: _depth(based, named)):
        if named not in going and (named[0], based[named]) in going:
            _store_anew(connection, codec, at, named, _Lookup(connection, at, based, stored), going)


class _Lookup:
    """The stored versions of a namespace, read when they are needed."""

    def __init__(
        self, connection: Connection, at: Address, based: Mapping[Named, str], stored: dict[Named, Version]
    ) -> None:
        self._connection = connection
        self._at = at
        self._based = based
        self._stored = stored

    def chain(self, named: Named) -> list[str]:
        """The versions that it is made of, itself first."""
        channel, version = named
        names = [version]
        while (channel, names[-1]) in self._based and len(names) <= len(self._based):
            names.append(self._based[channel, names[-1]])
        return names

    def versions(self, named: Named) -> dict[str, Version]:
        """The rows of its chain, as they were before any was stored anew."""
        channel, _ = named
        names = self.chain(named)
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
            self._stored[channel, row.version] = Version(row.base, Stored(row.kind, row.coding, row.payload))
        return {name: self._stored[channel, name] for name in names if (channel, name) in self._stored}


def _store_anew(
    connection: Connection, codec: Codec, at: Address, named: Named, lookup: _Lookup, going: Collection[Named]
) -> None:
    """Store a value as a difference to the nearest version of its chain that stays, or whole."""
    channel, version = named
    rows = lookup.versions(named)
    body, trail = assemble(codec, at, channel, version, rows)
    one = Encoded(channel, version, rows[version].stored.kind, body)
    staying = next((name for name in lookup.chain(named)[1:] if (channel, name) not in going), None)
    if staying is not None:
        below, _ = assemble(codec, at, channel, staying, rows)
        made = difference(below, body)
        if made.added <= MAX_ADDED * len(body):
            packed = pack(trail.last.number, body, made)
            overwrite_value.many(connection, [value_row(codec, at, one, packed, base=staying)])
            return
    overwrite_value.many(connection, [value_row(codec, at, one, body)])


def overwrite(connection: Connection, codec: Codec, new: NewValues) -> None:
    """Store the values whole, over those of the same versions, if there are any; what built on them stays as it is."""
    hold_values(connection, new.at.thread_id, new.at.checkpoint_ns)
    set_free(connection, codec, new.at, {(one.channel, one.version) for one in new.encoded})
    overwrite_value.many(connection, new.all_whole(codec))


def _depth(based: Mapping[Named, str], named: Named) -> int:
    channel, version = named
    depth = 0
    while (channel, version) in based and depth <= len(based):
        version = based[channel, version]
        depth += 1
    return depth
