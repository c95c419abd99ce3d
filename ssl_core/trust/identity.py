"""Ed25519 keys: what a site, server, operator or authority is, and how it signs.

A private key lives in one PKCS#8 PEM file of mode 0600 and in an `Identity`; a public key is 32 bytes, written as
64 hex digits. People compare `fingerprint(public)`: 160 bits of SHA-256 in base32, groups of four.
Ed25519: RFC 8032. Nothing here ever prints or pickles a private key.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ssl_core.errors import StateError, TrustError


class Secret:
    """Bytes that must not be seen: redacted repr, no pickle, no implicit equality."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves; call it only where they are consumed."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return "Secret(redacted)"

    def __eq__(self, other: object) -> bool:
        raise TypeError("secrets are compared with hmac.compare_digest on reveal()")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")


class Identity:
    """One Ed25519 key pair. `public` is bytes [32]; `sign` returns bytes [64]."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Identity:
        """A fresh key pair from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a PEM file; raises `TrustError` when it is no Ed25519 key, `StateError` when it is absent or too open."""
        if not path.is_file():
            raise StateError(
                "key file is missing",
                field="path",
                value=path.name,
                remedy="run the init command of this role",
            )
        if path.stat().st_mode & 0o077:
            raise StateError(
                "key file can be read by others",
                field=path.name,
                value=oct(path.stat().st_mode & 0o777),
                limit="0o600",
                remedy=f"chmod 600 {path}",
            )
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except ValueError as error:
            raise TrustError("key file is not a PEM private key", field="path", value=path.name) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise TrustError("key is not Ed25519", field="path", value=path.name)
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the private key to a new file of mode 0600; an existing file is refused."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, pem)

    def sign(self, message: bytes) -> bytes:
        """Signature bytes [64] over `message`."""
        return self._key.sign(message)

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The key object, for signers of other libraries."""
        return self._key

    @property
    def public_hex(self) -> str:
        """The public key as 64 hex digits."""
        return self.public.hex()

    def __repr__(self) -> str:
        return f"Identity({fingerprint(self.public)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity is never pickled")


# y of the eight points of order 1, 2, 4 and 8, and the two other spellings below 2^255 that decoders take (RFC 8032, 5.1.3).
_FIELD = 2**255 - 19
_ORDER_EIGHT = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _ORDER_EIGHT, _FIELD - _ORDER_EIGHT})


def check_public(public: bytes) -> None:
    """Refuse an Ed25519 key [32] of small order, under which anybody can sign; `TrustError`."""
    if int.from_bytes(public, "little") & (2**255 - 1) in _SMALL_ORDER:
        raise TrustError("public key has small order: anybody could sign for it", field="public key", value=fingerprint(public))


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raise `TrustError` unless `signature` [64] over `message` verifies under `public` [32]."""
    check_public(public)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise TrustError("signature does not verify", field="public key", value=fingerprint(public)) from error


def fingerprint(public: bytes) -> str:
    """What people read to each other: 32 base32 digits in groups of four."""
    digits = base64.b32encode(hashlib.sha256(b"choral/fingerprint\x00" + public).digest()[:20]).decode().lower()
    return "-".join(digits[i : i + 4] for i in range(0, 32, 4))


def write_private(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600, write and fsync; an existing file is refused so that no key is overwritten."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise StateError(
            "file exists and is not overwritten", field="path", value=path.name, remedy="use another folder"
        ) from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
