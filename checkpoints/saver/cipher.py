"""`Cipher`: AES-GCM encryption with keys that can be replaced. Each encrypted value is stored with its key's id."""

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping

from bursar.state.errors import CipherError, ConfigurationError

KEYS_VARIABLE = "BURSAR_CIPHER_KEYS"
KEY_SIZES = (16, 24, 32)  # bytes: AES-128, -192, -256
NONCE_SIZE = 12  # bytes; NIST SP 800-38D, 8.2.2: random ones serve up to 2**32 values a key
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Cipher:
    """Encrypts (seals) what a saver stores under the key `current`, and decrypts what any of `keys` sealed.

    `keys` maps ids to keys of 16, 24 or 32 random bytes. A key's id is stored in clear with each value that the key
    sealed. To replace a key, add another and make that one current. If a value's key is no longer given, reading the
    value raises `CipherError`, which names the key. So does reading a value that is not encrypted, unless
    `accept_plain` is True, for a database that was used without a cipher before. `randomness(n)` returns `n` random
    bytes, for nonces.

    Raises `ConfigurationError` for a wrong key or id, and if the `cryptography` library is missing.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        current: str,
        *,
        accept_plain: bool = False,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ConfigurationError("a cipher needs the cryptography library; install bursar[cipher]") from None
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ConfigurationError(f"not a key id: {key_id!r}; use up to 32 letters, digits, dots and dashes")
            if not isinstance(key, bytes) or len(key) not in KEY_SIZES:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"key {key_id!r} is not 16, 24 or 32 bytes; make one with os.urandom(32)")
        if current not in keys:
            raise ConfigurationError(f"the current key {current!r} is not among the keys: {', '.join(keys) or 'none'}")
        self.current = current
        self.accept_plain = accept_plain
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._randomness = randomness

    def __repr__(self) -> str:
        return f"Cipher(keys of {', '.join(self._keys)}, current={self.current!r})"

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, *, accept_plain: bool = False
    ) -> "Cipher | None":
        """Return the cipher of `BURSAR_CIPHER_KEYS`, such as `2026=<base64>,2025=<base64>`, the current key first.

        Returns None if the variable is not set or empty. Raises `ConfigurationError` if it cannot be read.
        """
        given = environment.get(KEYS_VARIABLE, "").strip()
        if not given:
            return None
        keys: dict[str, bytes] = {}
        for part in given.split(","):
            key_id, _, encoded = part.strip().partition("=")
            try:
                keys[key_id] = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise ConfigurationError(f"{KEYS_VARIABLE}: key {key_id!r} is not base64; write id=base64") from None
        return cls(keys, next(iter(keys)), accept_plain=accept_plain)

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Return `data` encrypted under the current key. Only `open` with the same `place` decrypts it."""
        nonce = self._randomness(NONCE_SIZE)
        return nonce + self._keys[self.current].encrypt(nonce, data, place)

    def open(self, key_id: str, sealed: bytes, place: bytes) -> bytes:
        """Return the data that was sealed with `place` under the key `key_id`.

        Raises `CipherError` if the key is not given, the place is another, or the bytes were changed.
        """
        from cryptography.exceptions import InvalidTag

        key = self._keys.get(key_id)
        if key is None:
            raise CipherError(f"sealed under key {key_id!r}, which is not given; add it to the cipher's keys")
        try:
            return key.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], place)
        except (InvalidTag, ValueError):
            raise CipherError(
                f"cannot be opened with key {key_id!r}: another key sealed it, or it was changed"
            ) from None
