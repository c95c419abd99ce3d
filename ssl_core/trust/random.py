"""Random streams from AES-256-CTR, and per-unit coins from AES-256 as a pseudo-random function.

`AesCtrStream` turns a 32-byte key into bytes, 53-bit uniforms and 32-bit integers. `FreshStream` draws its key from
`os.urandom` and re-keys itself in a forked child. `UnitCoins` gives every unit its own coins: one AES block of the
unit's 128-bit tag under a key derived from the step key, so a coin depends on (step key, unit id) alone (rulings 16, 17).
AES-CTR: NIST SP 800-38A section 6.5; derivation: HKDF, RFC 5869.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ssl_core.errors import PrivacyError
from ssl_core.trust.identity import Secret

_CHUNK = 1 << 18
_ZEROS = memoryview(bytes(_CHUNK))


def derive(key: Secret, label: bytes, length: int = 32) -> Secret:
    """HKDF-Expand of `key` under `label`: independent keys for independent uses."""
    return Secret(HKDFExpand(hashes.SHA256(), length, b"choral/v1/" + label).derive(key.reveal()))


class AesCtrStream:
    """The key stream of AES-256 in counter mode, counter from `nonce` [16]. Not thread safe; refuses to run after fork.

    `block` enters the stream that many 16-byte blocks after its beginning, so that threads can share out one stream.
    """

    __slots__ = ("_encryptor", "_pid")

    def __init__(self, key: Secret, *, nonce: bytes = bytes(16), block: int = 0) -> None:
        if len(key) != 32:
            raise PrivacyError("stream key has the wrong length", field="key bytes", value=len(key), limit=32)
        counter = int.from_bytes(nonce, "big") + block
        if len(nonce) != 16 or block < 0 or counter >= 1 << 128:
            raise PrivacyError("counter does not fit its 16 bytes", field="nonce, block", value=block, limit="below 2^128")
        self._start(key, counter.to_bytes(16, "big"))

    def _start(self, key: Secret, nonce: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES256(key.reveal()), modes.CTR(nonce)).encryptor()
        self._pid = os.getpid()

    def _after_fork(self) -> None:
        raise PrivacyError("a keyed random stream was copied by fork", remedy="derive a stream in each process")

    def fill(self, out: npt.NDArray[np.uint8]) -> None:
        """Overwrite `out` (contiguous uint8 [n]) with the next n bytes of the stream."""
        if os.getpid() != self._pid:
            self._after_fork()
        view = out.reshape(-1).data
        for begin in range(0, len(view), _CHUNK):
            part = view[begin : begin + _CHUNK]
            self._encryptor.update_into(_ZEROS[: len(part)], part)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        out = np.empty(count, np.uint8)
        self.fill(out)
        return out.tobytes()

    def uint32(self, count: int) -> npt.NDArray[np.uint32]:
        """Uniform integers, uint32 [count], little endian on every machine."""
        out = np.empty(4 * count, np.uint8)
        self.fill(out)
        return out.view("<u4").astype(np.uint32, copy=False)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """53-bit uniforms in (0, 1], float64 [count]; never 0, so that a logarithm is finite."""
        out = np.empty(8 * count, np.uint8)
        self.fill(out)
        return to_uniform(out.view("<u8"))


class FreshStream(AesCtrStream):
    """A stream under a new key from the operating system; re-keyed in a forked child; its key is never stored."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Secret(os.urandom(32)))

    def _after_fork(self) -> None:
        self._start(Secret(os.urandom(32)), bytes(16))


def to_uniform(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """uint64 words to float64 uniforms in (0, 1] with 53 random bits."""
    return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53


def unit_tag(unit: str) -> bytes:
    """The 128-bit tag of a unit id; distinct units have distinct tags but for hash collisions (2^-64 at 2^32 units)."""
    return hashlib.sha256(b"choral/unit\x00" + unit.encode()).digest()[:16]


class UnitCoins:
    """Coins of one step: for each unit a function of (step key, unit tag) alone, whatever the other units are."""

    __slots__ = ("_step_key",)

    def __init__(self, step_key: Secret) -> None:
        self._step_key = step_key

    @classmethod
    def fresh(cls) -> UnitCoins:
        """Coins under a step key from `os.urandom` that is never stored (ruling 17)."""
        return cls(Secret(os.urandom(32)))

    def uniform(self, tags: npt.NDArray[np.uint8], label: str, count: int) -> npt.NDArray[np.float64]:
        """float64 [n, count] uniforms in (0, 1] for unit `tags` uint8 [n, 16]; `label` separates uses of one step."""
        if tags.ndim != 2 or tags.shape[1] != 16:
            raise PrivacyError("unit tags have the wrong shape", field="tags", value=tags.shape, limit="[n, 16]")
        blocks = np.ascontiguousarray(tags)
        columns = []
        for index in range((count + 1) // 2):
            key = derive(self._step_key, f"unit/{label}/{index}".encode())
            cipher = Cipher(algorithms.AES256(key.reveal()), modes.ECB()).encryptor()  # noqa: S305 - a PRF on distinct blocks
            columns.append(np.frombuffer(cipher.update(blocks.tobytes()), "<u8").reshape(-1, 2))
        words = np.concatenate(columns, axis=1)[:, :count] if columns else np.empty((len(tags), 0), np.uint64)
        return to_uniform(words)
