"""Stores that kill their process at one write; and a secure sum that remembers what it has computed, for cheap rounds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest

from ssl_core.secure_sum import codec, statements
from ssl_core.secure_sum.history import MemoryModels
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.trust.identity import Identity


class Killed(BaseException):
    """The process ends here; nothing may catch it."""


class MortalStore(MemoryStore):
    """What `kept` holds, until `left` writes were made: the last of them kills, before or after it `reaches` the disk.

    `writes` counts them all.
    """

    def __init__(self, kept: MemoryStore) -> None:
        super().__init__()
        self.__dict__.update(kept.copy().__dict__)
        self.writes = 0
        self.left = 0
        self.reaches = False

    def _write(self, method, *values):
        self.writes += 1
        dies = self.left == 1
        self.left -= self.left > 0
        if not dies or self.reaches:
            method(*values)
        if dies:
            raise Killed

    def write_secrets(self, data):
        self._write(super().write_secrets, data)

    def append(self, record):
        self._write(super().append, record)

    def write_parts(self, round, parts):
        self._write(super().write_parts, round, parts)

    def write_vector(self, round, vector):
        self._write(super().write_vector, round, vector)

    def drop_vectors(self, before):
        self._write(super().drop_vectors, before)


class MortalModels(MemoryModels):
    """The global model on the same disk: its writes count with the store's."""

    def __init__(self, kept: MemoryModels, store: MortalStore) -> None:
        super().__init__()
        self._kept = kept.read()
        self._store = store

    def write(self, standing):
        self._store._write(super().write, standing)


@contextmanager
def remembered() -> Iterator[None]:
    """Pure functions on immutable values answer from memory the second time: codec and Ed25519, same results, cheap.

    A message is verified, decoded and encoded again by every party and after every restart; that is most of a round's
    time. A signature that was made here is known to verify; any other goes to the curve.
    """
    plain = (codec.decode, codec.encode, statements.parts_leaves)
    swaps = {function: lru_cache(1 << 15)(function) for function in plain}
    signed: dict[tuple[bytes, bytes], bytes] = {}
    sign, verify = Identity.sign, statements.verify

    def quick_sign(identity: Identity, message: bytes) -> bytes:
        if len(signed) > 1 << 15:
            signed.clear()
        if (identity.public, message) not in signed:
            signed[identity.public, message] = sign(identity, message)
        return signed[identity.public, message]

    def quick_verify(public: bytes, message: bytes, signature: bytes) -> None:
        if signed.get((public, message)) != signature:
            verify(public, message, signature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Identity, "sign", quick_sign)
        patch.setattr(statements, "verify", quick_verify)
        for module in [module for name, module in sys.modules.items() if name.startswith("ssl_core.secure_sum.")]:
            for function, quick in swaps.items():
                if getattr(module, function.__name__, None) is function:
                    patch.setattr(module, function.__name__, quick)
        yield
