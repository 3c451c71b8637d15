"""A saver's cache of the newest values that it stored or read, so that it can store the next value as a difference.

The versions of a channel form a chain, numbered from 0. Version 0 is stored whole. Version n is a difference to version
n - 1, but each 16th is a difference to the version 16 before, and each 256th to the version 256 before. A read then
follows at most 45 steps, and a byte is stored at most three times, however long the session. The database decides, not
the cache: a difference is stored only if the version that it builds on is in the database.
"""

import threading
from collections import OrderedDict
from typing import NamedTuple

from bursar.checkpoints.saver.deltas import MAX_SIZE, Difference, difference

FINE, COARSE = 16, 256
MAX_NUMBER = FINE * COARSE - 1  # the version after it is stored whole
MAX_CHAIN = 3 * FINE  # rows that a value is ever read from
MIN_SIZE = 512  # bytes; what is smaller is stored whole
MAX_ADDED = 0.75  # share of a value's bytes that may be new; if more are new, the value is stored whole
MAX_KEPT = 64 * 2**20  # bytes in a saver's cache
RANDOM = 16  # random digits after the point of a version, or more: no other value ever has it


class StoredVersion(NamedTuple):
    """A stored version: its number in the chain, and its value as the serde's bytes, `body`.

    `mark` is the hash of its row. If the row in the database has another hash, the row was overwritten since.
    """

    version: str
    number: int
    body: bytes
    mark: int


class DeltaChain(NamedTuple):
    """The versions of a channel's delta chain that the next version may build on.

    `last` is the newest version, `fine` the newest whose number is a multiple of 16, and `coarse` the newest whose
    number is a multiple of 256.
    """

    last: StoredVersion
    fine: StoredVersion
    coarse: StoredVersion

    @classmethod
    def begin(cls, version: str, body: bytes, mark: int) -> "DeltaChain":
        """Return a new chain that begins with this version, which is stored whole."""
        kept = StoredVersion(version, 0, body, mark)
        return cls(kept, kept, kept)

    def then(self, version: str, number: int, body: bytes, mark: int) -> "DeltaChain":
        """Return the chain with this version added as its last."""
        kept = StoredVersion(version, number, body, mark)
        return DeltaChain(kept, self.fine if number % FINE else kept, self.coarse if number % COARSE else kept)

    def next_base(self) -> StoredVersion | None:
        """Return the version that the next version builds on; None if the next version must be stored whole."""
        number = self.last.number + 1
        if number > MAX_NUMBER:
            return None
        if number % COARSE == 0:
            return self.coarse
        return self.last if number % FINE else self.fine

    @property
    def size(self) -> int:
        """The bytes that the chain keeps in memory."""
        last, fine, coarse = self
        size = len(last.body)
        if fine is not last:
            size += len(fine.body)
        if coarse is not fine and coarse is not last:
            size += len(coarse.body)
        return size


class DeltaStep(NamedTuple):
    """How to store the next value of a chain: as version `number`, by the difference `made` to the version `base`."""

    base: str
    number: int
    made: Difference


def next_step(trail: DeltaChain | None, body: bytes) -> DeltaStep | None:
    """Return how `body` is stored as the next version of the chain `trail`; None if it must be stored whole."""
    base = trail and trail.next_base()
    if trail is None or base is None or len(body) > MAX_SIZE:
        return None
    made = difference(base.body, body)
    if made.added > MAX_ADDED * len(body):
        return None
    return DeltaStep(base.version, trail.last.number + 1, made)


ChannelAddress = tuple[str, str, str]  # session, namespace, channel


class DeltaChains:
    """A cache of the delta chains of the channels used last, up to `max_kept` bytes. Any thread may use it."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._kept: OrderedDict[ChannelAddress, tuple[DeltaChain, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, place: ChannelAddress) -> DeltaChain | None:
        """Return the channel's chain; None if it is not in the cache."""
        with self._lock:
            found = self._kept.get(place)
            if found is not None:
                self._kept.move_to_end(place)
            return found and found[0]

    def keep(self, place: ChannelAddress, trail: DeltaChain) -> None:
        """Put the chain `trail` into the cache. If there is no room, drop the chains that were used longest ago."""
        size = trail.size
        with self._lock:
            self._drop(place)
            if size > self._max_kept:
                return
            self._kept[place] = trail, size
            self._size += size
            while self._size > self._max_kept:  # ends: the newest alone fits
                self._drop(next(iter(self._kept)))

    def _drop(self, place: ChannelAddress) -> None:
        dropped = self._kept.pop(place, None)
        if dropped is not None:
            self._size -= dropped[1]
