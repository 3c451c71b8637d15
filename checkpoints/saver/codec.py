"""Values to payloads of rows, and back: the serde encodes, zlib deflates if that pays, the cipher seals."""

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from bursar.checkpoints.saver.cipher import Cipher
from bursar.state.errors import CipherError

MIN_DEFLATED = 2**20  # bytes; below, inflating costs each read more than it saves room
DEFLATED = "z"
SEALED = "@"  # then the key's id
_WORTH = 0.8  # a payload is left as it is if deflating leaves more than this share of it
_LEVEL = 1


class EncodedPayload(NamedTuple):
    """The columns of a payload. `coding` says how the serde's bytes were deflated and sealed, None if not at all."""

    kind: str
    coding: str | None
    payload: bytes


class Codec(NamedTuple):
    """A saver's serde and its cipher, if it has one."""

    serde: SerializerProtocol
    cipher: Cipher | None

    def dump(self, value: object, place: Iterable[str]) -> EncodedPayload:
        """Return `value` as it is stored at `place`."""
        kind, data = self.serde.dumps_typed(value)
        return self.close(kind, data, place)

    def load(self, stored: EncodedPayload, place: Iterable[str]) -> Any:
        """Return the value that is stored at `place`. Raises `CipherError` as `open`, and what the serde raises."""
        return self.serde.loads_typed((stored.kind, self.open(stored, place)))

    def close(self, kind: str, data: bytes, place: Iterable[str]) -> EncodedPayload:
        """Return the serde's bytes as they are stored at `place`. Sealed bytes open nowhere else."""
        coding = ""
        if len(data) >= MIN_DEFLATED:
            deflated = zlib.compress(data, _LEVEL)
            if len(deflated) <= _WORTH * len(data):
                data, coding = deflated, DEFLATED
        if self.cipher is not None:
            coding += f"{SEALED}{self.cipher.current}"
            data = self.cipher.seal(data, _bound(kind, coding, place))
        return EncodedPayload(kind, coding or None, data)

    def open(self, stored: EncodedPayload, place: Iterable[str]) -> bytes:
        """Return the serde's bytes of the payload that is stored at `place`.

        Raises `CipherError` if its key is not given, it was changed or moved, or it is not sealed and should be.
        """
        kind, coding, payload = stored
        data = bytes(payload)
        if coding is None:
            coding = ""
        how, sealed, key_id = coding.partition(SEALED)
        if sealed:
            if self.cipher is None:
                raise CipherError(f"sealed under key {key_id!r}; give the saver cipher=Cipher(keys=..., current=...)")
            data = self.cipher.open(key_id, data, _bound(kind, coding, place))
        elif self.cipher is not None and not self.cipher.accept_plain:
            raise CipherError(
                "stored without a cipher; give the cipher accept_plain=True to read what was there before"
            )
        return zlib.decompress(data) if how == DEFLATED else data

    def is_current(self, coding: str | None) -> bool:
        """Whether a payload with this `coding` is sealed as it would be now: under the current key, or not at all."""
        _, _, key_id = (coding or "").partition(SEALED)
        return key_id == ("" if self.cipher is None else self.cipher.current)


def _bound(kind: str, coding: str, place: Iterable[str]) -> bytes:
    return "\x1f".join((kind, coding, *place)).encode()
