"""What a saver remembers of the newest values it stored or read, so that it can store the next one as a difference.

The versions of a channel form a chain, numbered from 0, which is stored whole. Number n builds on n - 1, but each 16th
builds on the number 16 before it, and each 256th on the number 256 before. A read then follows at most 45 steps, and a
byte is stored at most three times, however long the session. The database has the truth, not this memory: a statement
stores a difference only if the version that it builds on is in the database.
"""

import threading
from collections import OrderedDict
from typing import NamedTuple

from bursar.checkpoints.saver.deltas import MAX_SIZE, Difference, difference

FINE, COARSE = 16, 256
MAX_NUMBER = FINE * COARSE - 1  # the version after it is stored whole
MAX_CHAIN = 3 * FINE  # rows that a value is ever read from
MIN_SIZE = 512  # bytes; what is smaller is stored whole
MAX_ADDED = 0.75  # of a value's bytes; with more new ones it is stored whole
MAX_KEPT = 64 * 2**20  # bytes that a saver remembers
RANDOM = 16  # random digits after the point of a version, or more: no other value ever has it


class StoredVersion(NamedTuple):
    """A stored version, its number in the chain, its encoding. `mark` tells its row from a later one in its place."""

    version: str
    number: int
    body: bytes
    mark: int


class DeltaChain(NamedTuple):
    """A channel's newest version, and the newest ones on its chain whose numbers are multiples of 16 and of 256."""

    last: StoredVersion
    fine: StoredVersion
    coarse: StoredVersion

    @classmethod
    def begin(cls, version: str, body: bytes, mark: int) -> "DeltaChain":
        """Return the chain of a version that is stored whole."""
        kept = StoredVersion(version, 0, body, mark)
        return cls(kept, kept, kept)

    def then(self, version: str, number: int, body: bytes, mark: int) -> "DeltaChain":
        """Return the chain with the version that follows as its last."""
        kept = StoredVersion(version, number, body, mark)
        return DeltaChain(kept, self.fine if number % FINE else kept, self.coarse if number % COARSE else kept)

    def next_base(self) -> StoredVersion | None:
        """Return the version that the next one builds on; None if the next one is stored whole."""
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
    """How a value is stored: as a difference to `base`, as number `number` of its chain."""

    base: str
    number: int
    made: Difference


def next_step(trail: DeltaChain | None, body: bytes) -> DeltaStep | None:
    """Return how `body` is stored after `trail`; None if it is stored whole."""
    base = trail and trail.next_base()
    if trail is None or base is None or len(body) > MAX_SIZE:
        return None
    made = difference(base.body, body)
    if made.added > MAX_ADDED * len(body):
        return None
    return DeltaStep(base.version, trail.last.number + 1, made)


ChannelAddress = tuple[str, str, str]  # session, namespace, channel


class DeltaChains:
    """The trails of the channels that were used last, up to `max_kept` bytes of them. Any thread may use it."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._kept: OrderedDict[ChannelAddress, tuple[DeltaChain, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, place: ChannelAddress) -> DeltaChain | None:
        """Return the channel's trail; None if it is not remembered."""
        with self._lock:
            found = self._kept.get(place)
            if found is not None:
                self._kept.move_to_end(place)
            return found and found[0]

    def keep(self, place: ChannelAddress, trail: DeltaChain) -> None:
        """Remember `trail`, and forget the trails that were used longest ago if there is no room."""
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
