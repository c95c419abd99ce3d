"""Adds and subtracts mask streams on a vector of Z_2^b: what hides an update, and what the server removes again.

Comes in: words [P] of b = 32 or 16 bits, 32-byte keys. The vector is changed in place by sum PRG(add) - sum
PRG(subtract) mod 2^b; PRG is AES-256-CTR (NIST SP 800-38A section 6.5) from counter zero, read as little-endian words
of b bits on every machine, so that a narrow vector costs half the stream. A key is used for one vector only, so no
counter block repeats. Threads work on disjoint spans, each entering the streams at its own counter; a piece meets many
masks while it lies in the cache.
Masking: Bonawitz et al., "Practical secure aggregation", CCS 2017, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_core.secure_sum.codec import digest
from ssl_core.secure_sum.ring import SPAN, Words
from ssl_core.secure_sum.shamir import to_bytes
from ssl_core.secure_sum.threads import on_all
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

_PIECE = 1 << 17
_STREAMS = 64


def pair_mask(element: int) -> Secret:
    """The stream key of the field element e_ij that two sites share; hashing after the reduction mod p (shamir.py)."""
    return Secret(digest("pair", to_bytes(element)))


def self_mask(element: int) -> Secret:
    """The stream key of a site's own field element b_i."""
    return Secret(digest("self", to_bytes(element)))


def apply(vector: Words, *, add: Sequence[Secret], subtract: Sequence[Secret], threads: int | None = None) -> None:
    """Change contiguous `vector` [P] in place by the streams of all keys."""

    def work(part: slice) -> None:
        apply_part(vector[part], first=part.start, add=add, subtract=subtract)

    on_all(work, len(vector), SPAN, threads)


def apply_part(part: Words, *, first: int, add: Sequence[Secret], subtract: Sequence[Secret]) -> None:
    """The same for the part of a vector that begins at coordinate `first`, a multiple of 8."""
    for keys, change in ((add, np.add), (subtract, np.subtract)):
        for begin in range(0, len(keys), _STREAMS):
            _apply(part, first, keys[begin : begin + _STREAMS], change)


def _apply(vector: Words, first: int, keys: Sequence[Secret], change: np.ufunc) -> None:
    streams = [AesCtrStream(key, block=first * vector.itemsize // 16) for key in keys]
    mask = np.empty(min(_PIECE, vector.nbytes), np.uint8)
    words = mask.view(vector.dtype.newbyteorder("<"))
    step = _PIECE // vector.itemsize
    for begin in range(0, len(vector), step):
        chunk = vector[begin : begin + step]
        drawn, part = mask[: chunk.nbytes], words[: len(chunk)]
        for stream in streams:
            stream.fill(drawn)
            change(chunk, part, out=chunk)
