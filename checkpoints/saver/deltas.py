"""Differences between two encodings of a channel's value, so that a step stores only the bytes that it added.

A difference takes three stretches of the older encoding (its start, one run from anywhere, its end) and puts new bytes
between them. That fits what agents do to state: append (also behind a header that counts), prepend, edit, trim, and
slide a window. Only bytes are compared, so this works for every serde that encodes equal values alike.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from bursar.state.errors import DatabaseError

PROBE = 32  # bytes that are looked for in the older encoding
PROBES = 4  # places in the newer encoding that probes are taken from
HEADERS = (0, 1, 3, 5)  # bytes in front of a list, text or mapping that say how long it is, in MessagePack
MAX_SIZE = 2**32 - 1  # bytes of an encoding that a difference can name
_HEAD = struct.Struct("<8I")


class Difference(NamedTuple):
    """A recipe that makes a newer encoding from an older one.

    The newer encoding has five parts: the first `prefix` bytes of the older one, the new bytes `first`, `run` bytes of
    the older one from `offset` on, the new bytes `second`, and the last `suffix` bytes of the older one.
    """

    prefix: int
    offset: int
    run: int
    suffix: int
    first: bytes
    second: bytes

    @property
    def added(self) -> int:
        """The number of bytes that the difference itself stores."""
        return len(self.first) + len(self.second)

    def change(self, body: bytearray) -> None:
        """Change `body`, the older encoding, to the newer one. If only the start or end changes, no byte is moved."""
        if not self.run and not self.suffix:
            del body[self.prefix :]
            body += self.first
            body += self.second
        elif not self.suffix and self.offset == self.prefix + len(self.first):
            body[self.prefix : self.offset] = self.first
            del body[self.offset + self.run :]
            body += self.second
        else:
            run = body[self.offset : self.offset + self.run]
            end = body[len(body) - self.suffix :]
            del body[self.prefix :]
            body += b"".join((self.first, run, self.second, end))


class Packed(NamedTuple):
    """A difference as it is stored. `number` is the number, in its chain, of the version that the difference makes.

    `size` and `checksum` are those of that version's bytes.
    """

    number: int
    size: int
    checksum: int
    difference: Difference


def difference(old: bytes, new: bytes) -> Difference:
    """Return the difference that turns `old` into `new`. If the two share little, it has all bytes of `new`."""
    for header in HEADERS:  # what is most often done to a value, and quickest to see: something is added at the end
        if len(old) > header and new.startswith(old[header:], header):
            return Difference(0, header, len(old) - header, 0, new[:header], new[len(old) :])
    prefix = _same_start(old, new)
    suffix = _same_end(old, new, min(len(old), len(new)) - prefix)
    middle = new[prefix : len(new) - suffix]
    best = Difference(prefix, 0, 0, suffix, middle, b"")
    for at in _places(len(middle)):
        probe = middle[at : at + PROBE]
        for found in {prefix + at if old.startswith(probe, prefix + at) else -1, old.find(probe, prefix)}:
            if found >= 0:
                before = _same_end(old[prefix:found], middle[:at], min(found - prefix, at))
                after = _same_start(old[found:], middle[at:])
                if before + after > best.run:
                    first, second = middle[: at - before], middle[at + after :]
                    best = Difference(prefix, found - before, before + after, suffix, first, second)
        if 4 * best.run >= 3 * len(middle):
            break
    return best


def pack(number: int, new: bytes, made: Difference) -> bytes:
    """Return the bytes that store the difference `made`.

    `new` is the encoding that the difference makes, and `number` is the number of that version in its chain.
    """
    sizes = (made.prefix, made.offset, made.run, made.suffix, len(made.first))
    return _HEAD.pack(number, len(new), zlib.crc32(new), *sizes) + made.first + made.second


def unpack(stored: bytes) -> Packed:
    """Return the difference that the bytes `stored` hold, which `pack` made.

    Raises `DatabaseError` if there are too few bytes.
    """
    if len(stored) < _HEAD.size:
        raise DatabaseError("a stored value is damaged: a difference is cut short; restore the session from a backup")
    number, size, checksum, prefix, offset, run, suffix, length = _HEAD.unpack_from(stored)
    first = stored[_HEAD.size : _HEAD.size + length]
    second = stored[_HEAD.size + length :]
    return Packed(number, size, checksum, Difference(prefix, offset, run, suffix, first, second))


def check(body: bytes | bytearray, packed: Packed) -> None:
    """Raise `DatabaseError` unless `body` has the size and checksum that were stored with the difference."""
    if len(body) != packed.size or zlib.crc32(body) != packed.checksum:
        raise DatabaseError(
            "a stored value is damaged: what it builds on has changed; restore the session from a backup"
        )


def _places(size: int) -> Iterable[int]:
    """Return positions in `size` bytes of the newer encoding. `difference` looks for the bytes there in the older one.

    The first position is just behind a header; the others are spread over `size`.
    """
    if size < 2 * PROBE:
        return ()
    return (min(16, size - PROBE), *(size * part // PROBES for part in range(1, PROBES)))


def _same_start(one: bytes, other: bytes) -> int:
    """Return how many bytes are the same at the start of both."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # the first `low` are the same, the first `high` are not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _same_end(one: bytes, other: bytes, limit: int) -> int:
    """Return how many bytes are the same at the end of both, at most `limit`."""
    one, other = one[len(one) - limit :], other[len(other) - limit :]
    low, high = 0, limit
    if one == other:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if one[limit - middle : limit - low] == other[limit - middle : limit - low]:
            low = middle
        else:
            high = middle
    return low
