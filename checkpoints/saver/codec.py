"""`Codec`: values to payloads of rows, and back. The serde encodes, zlib deflates if that pays, the cipher encrypts."""

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
    """The columns of a payload. `kind` is the serde's name for its encoding.

    `coding` says whether the serde's bytes were deflated, and under which key they were encrypted. It is None if the
    payload has the serde's bytes as they are.
    """

    kind: str
    coding: str | None
    payload: bytes


class Codec(NamedTuple):
    """Encodes and decodes payloads by a saver's serde and its cipher, if there is one.

    `place` names where a payload is stored. An encrypted payload can only be decrypted with the same `place`.
    """

    serde: SerializerProtocol
    cipher: Cipher | None

    def dump(self, value: object, place: Iterable[str]) -> EncodedPayload:
        """Return the payload of `value`, to be stored at `place`."""
        kind, data = self.serde.dumps_typed(value)
        return self.close(kind, data, place)

    def load(self, stored: EncodedPayload, place: Iterable[str]) -> Any:
        """Return the value of a payload stored at `place`. Raises what `open` raises, and the serde's errors."""
        return self.serde.loads_typed((stored.kind, self.open(stored, place)))

    def close(self, kind: str, data: bytes, place: Iterable[str]) -> EncodedPayload:
        """Return the payload to store at `place` for `data`, which the serde encoded as `kind`.

        The payload is deflated if `data` is large and that pays, and encrypted if there is a cipher.
        """
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
        """Return the serde's bytes of a payload that is stored at `place`.

        Raises `CipherError` if the payload's key is not given, if the payload was changed or moved, or if the payload
        is not encrypted and the cipher does not accept that.
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
        """Whether a payload with this `coding` is encrypted under the current key.

        If there is no cipher, whether such a payload is not encrypted.
        """
        _, _, key_id = (coding or "").partition(SEALED)
        return key_id == ("" if self.cipher is None else self.cipher.current)


def _bound(kind: str, coding: str, place: Iterable[str]) -> bytes:
    return "\x1f".join((kind, coding, *place)).encode()
