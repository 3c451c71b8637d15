"""Between a value and what a row holds of it: encoded by the serde, deflated where that pays, sealed by the cipher."""

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from bursar.checkpoints.saver.cipher import Cipher
from bursar.state.errors import CipherError

MIN_DEFLATED = 2**20  # bytes; below, inflating costs each read more than it saves room
DEFLATED = "z"
SEALED = "@"  # then the key's id
_WORTH = 0.8  # of the size, at most, or it is left as it is
_LEVEL = 1


class EncodedPayload(NamedTuple):
    """The columns of a payload: `coding` is how it was changed after the serde, None for not at all."""

    kind: str
    coding: str | None
    payload: bytes


class Codec(NamedTuple):
    """A saver's serde and its cipher, if it has one."""

    serde: SerializerProtocol
    cipher: Cipher | None

    def dump(self, value: object, place: Iterable[str]) -> EncodedPayload:
        """`value` as it is stored at `place`."""
        kind, data = self.serde.dumps_typed(value)
        return self.close(kind, data, place)

    def load(self, stored: EncodedPayload, place: Iterable[str]) -> Any:
        """The value that is stored at `place`. Raises `CipherError`, and what the serde raises."""
        return self.serde.loads_typed((stored.kind, self.open(stored, place)))

    def close(self, kind: str, data: bytes, place: Iterable[str]) -> EncodedPayload:
        """The serde's bytes as they are stored at `place`: what is sealed opens nowhere else."""
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
        """The serde's bytes. Raises `CipherError`."""
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
        """Whether what is stored so is sealed as it would be now."""
        _, _, key_id = (coding or "").partition(SEALED)
        return key_id == ("" if self.cipher is None else self.cipher.current)


def _bound(kind: str, coding: str, place: Iterable[str]) -> bytes:
    return "\x1f".join((kind, coding, *place)).encode()
