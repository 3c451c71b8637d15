"""Encoding and decoding of channel values, which are stored whole or as a difference to an earlier version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from langgraph.checkpoint.base import ChannelVersions

from bursar.checkpoints.saver.address import Address, Row
from bursar.checkpoints.saver.codec import Codec, EncodedPayload
from bursar.checkpoints.saver.delta_chains import (
    COARSE,
    FINE,
    MAX_CHAIN,
    MIN_SIZE,
    RANDOM,
    ChannelAddress,
    DeltaChain,
    DeltaChains,
    StoredVersion,
    next_step,
)
from bursar.checkpoints.saver.deltas import check, pack, unpack
from bursar.state.errors import DatabaseError

VALUE_PLACE = "value"
MIN_RECALLED = 4096  # bytes of a value for which it is worth reading a base that is not cached any more
CHANGES = "+"  # in the kind of a serde that encrypts by itself: equal values do not encode alike


class Version(NamedTuple):
    """A stored version of a channel: its payload, and its `base`, the version that the payload is a difference to.

    `base` is None if the payload is the whole value.
    """

    base: str | None
    stored: EncodedPayload


Versions = dict[str, Version]


class Encoded(NamedTuple):
    """The value of one version of a channel, as the serde encodes it."""

    channel: str
    version: str
    kind: str
    data: bytes


@dataclass(slots=True)
class NewValues:
    """The rows that `put` stores for the channels that changed: values stored `whole`, and `differences` to a base.

    A changed channel without a value has no row, so a reader of the checkpoint finds no value.
    """

    at: Address
    encoded: list[Encoded]
    whole: list[Row] = field(default_factory=list[Row])
    differences: list[Row] = field(default_factory=list[Row])

    @classmethod
    def of(cls, codec: Codec, at: Address, values: Mapping[str, object], new_versions: ChannelVersions) -> "NewValues":
        """Return the encoded values of the channels in `new_versions`; channels without a value are left out.

        Later changes of `values` have no effect.
        """
        return cls(
            at,
            [
                Encoded(channel, str(version), *codec.serde.dumps_typed(values[channel]))
                for channel, version in new_versions.items()
                if channel in values
            ],
        )

    def needs_base_lookup(self, trails: DeltaChains) -> bool:
        """Whether the bases of the values must be read from the database before the values are stored.

        That is so if, for one of the large values, the cache `trails` has no delta chain of the value's channel.
        """
        return any(
            len(one.data) >= MIN_RECALLED and _lasts(one) and trails.get(self._place(one)) is None
            for one in self.encoded
        )

    def encode_rows(self, codec: Codec, trails: DeltaChains, remembered: DeltaChains | None = None) -> None:
        """Fill `whole` and `differences` with the rows of the values, and add the values to the cache `trails`.

        A value can be stored as a difference only if its channel has a delta chain in `remembered`, which the caller
        has just read from the database; if `remembered` is None, in `trails`. A second call replaces the rows of the
        first, so a transaction that runs again may call this again.
        """
        self.whole.clear()
        self.differences.clear()
        for one in self.encoded:
            if not _lasts(one):
                self.whole.append(value_row(codec, self.at, one, one.data))
                continue
            place = self._place(one)
            trail = (remembered or trails).get(place)
            step = next_step(trail, one.data) if trail is not None and trail.last.version != one.version else None
            if trail is None or step is None:
                row = value_row(codec, self.at, one, one.data)
                self.whole.append(row)
                trails.keep(place, DeltaChain.begin(one.version, one.data, _mark_of(row)))
            else:
                row = value_row(codec, self.at, one, pack(step.number, one.data, step.made), base=step.base)
                self.differences.append(row)
                trails.keep(place, trail.then(one.version, step.number, one.data, _mark_of(row)))

    def all_whole(self, codec: Codec) -> list[Row]:
        """Return a row for each value, stored whole, so that no row needs a base."""
        return [value_row(codec, self.at, one, one.data) for one in self.encoded]

    def _place(self, one: Encoded) -> ChannelAddress:
        return (self.at.thread_id, self.at.checkpoint_ns, one.channel)


def value_row(codec: Codec, at: Address, one: Encoded, data: bytes, *, base: str | None = None) -> Row:
    """Return the row of a channel's value. `data` is the whole value, or a difference to the version `base`."""
    kind, coding, payload = codec.close(one.kind, data, value_place(at, one.channel, one.version))
    return {
        "thread_id": at.thread_id,
        "checkpoint_ns": at.checkpoint_ns,
        "version": one.version,
        "channel": one.channel,
        "kind": kind,
        "payload": payload,
        "coding": coding,
        "base": base,
    }


def value_place(at: Address, channel: str, version: str) -> tuple[str, ...]:
    """Return the place of a value. The codec binds the value's encryption to the place.

    The session is no part of the place, so a copy of the session can be decrypted too.
    """
    return (VALUE_PLACE, at.checkpoint_ns, channel, version)


def read_values(
    codec: Codec,
    at: Address,
    shown: Mapping[str, str],
    versions: Mapping[str, Versions],
    trails: DeltaChains | None = None,
    *,
    known: Mapping[str, DeltaChain] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the values of channels, by channel. `shown` maps each channel to the version to read.

    Each value is put together from the rows in `versions`. But if `known` has a delta chain of the channel that ends in
    that version, the value is taken from the chain. A channel whose version has no row is left out. If the cache
    `trails` is given, the delta chains of the values that were put together are added to it.
    """
    found = read_encoded(codec, at, shown, versions, trails, known=known)
    return {one.channel: codec.serde.loads_typed((one.kind, one.data)) for one in found}


def read_encoded(
    codec: Codec,
    at: Address,
    shown: Mapping[str, str],
    versions: Mapping[str, Versions],
    trails: DeltaChains | None = None,
    *,
    known: Mapping[str, DeltaChain] = MappingProxyType({}),
) -> list[Encoded]:
    """Return the values of channels as the serde's bytes. `shown` maps each channel to the version to read.

    Each value is put together from the rows in `versions`. But if `known` has a delta chain of the channel that ends in
    that version, the value is taken from the chain. A channel whose version has no row is left out. If the cache
    `trails` is given, the delta chains of the values that were put together are added to it.
    """
    found: list[Encoded] = []
    for channel, version in shown.items():
        stored = versions.get(channel, {})
        if version not in stored:
            continue
        last = known[channel].last if channel in known else None
        if last is not None and last.version == version:
            found.append(Encoded(channel, version, stored[version].stored.kind, last.body))
            continue
        data, trail = assemble(codec, at, channel, version, stored)
        one = Encoded(channel, version, stored[version].stored.kind, data)
        found.append(one)
        # A value under a replaced key is not cached, so no difference builds on it, and the session leaves the old key.
        if (
            trails is not None
            and _lasts(one)
            and all(codec.is_current(stored[name].stored.coding) for name in _chain(stored, version))
        ):
            trails.keep((*at.session, channel), trail)
    return found


def assemble(codec: Codec, at: Address, channel: str, version: str, stored: Versions) -> tuple[bytes, DeltaChain]:
    """Return the serialized bytes of `version`, and its delta chain. The bytes are made of the versions in `stored`.

    Raises `DatabaseError` if a version that `version` builds on is gone or has changed, and `CipherError` if a payload
    cannot be decrypted.
    """
    first, *later = reversed(_chain(stored, version))
    whole = codec.open(stored[first].stored, value_place(at, channel, first))
    last = StoredVersion(first, 0, whole, mark(*stored[first]))
    if not later:
        return whole, DeltaChain(last, last, last)
    steps = [(name, unpack(codec.open(stored[name].stored, value_place(at, channel, name)))) for name in later]
    # Copies take time, so only three versions are copied: the last, and the last whose number 16 or 256 divides.
    kept = {every: [name for name, step in steps if step.number % every == 0][-1:] for every in (FINE, COARSE)}
    copied: dict[int, StoredVersion] = {FINE: last, COARSE: last}
    body = bytearray(whole)
    for name, step in steps:
        step.difference.change(body)
        if name == version:
            check(body, step)
        if name == version or [name] in kept.values():
            last = StoredVersion(name, step.number, bytes(body), mark(*stored[name]))
            copied.update({every: last for every, names in kept.items() if names == [name]})
    return last.body, DeltaChain(last, copied[FINE], copied[COARSE])


def mark(base: str | None, stored: EncodedPayload) -> int:
    """Return a hash of a value's row. If it differs from the hash of a cached version, the row was overwritten."""
    return hash((base, stored.kind, stored.coding, stored.payload))


def _mark_of(row: Row) -> int:
    return hash((row["base"], row["kind"], row["coding"], row["payload"]))


def _lasts(one: Encoded) -> bool:
    """Whether later values may be stored as differences to this value.

    The value must be large enough, its version unique, and its serde must encode equal values alike. A version is
    unique if `get_next_version` of this saver made it; a plain number is not.
    """
    return len(one.data) >= MIN_SIZE and len(one.version.partition(".")[2]) >= RANDOM and CHANGES not in one.kind


def _chain(stored: Versions, version: str) -> list[str]:
    """Return the versions that `version` is put together from: itself first, the one that is stored whole last.

    Raises `DatabaseError` if a version is missing, or if there are more than `MAX_CHAIN`.
    """
    names = [version]
    while len(names) <= MAX_CHAIN:
        found = stored.get(names[-1])
        if found is None:
            raise DatabaseError(f"version {names[-1]} of a channel is gone; restore the session from a backup")
        if found.base is None:
            return names
        names.append(found.base)
    raise DatabaseError(f"version {version} of a channel builds on too many others; restore it from a backup")
