"""Adds and subtracts mask streams on a vector of Z_2^32: what hides an update, and what the server removes again.

Comes in: vector uint32 [P], 32-byte keys. The vector is changed in place by sum PRG(add) - sum PRG(subtract) mod 2^32;
PRG is AES-256-CTR (NIST SP 800-38A section 6.5) from counter zero, read as little-endian words on every machine. A key
is used for one vector only, so no counter block repeats. A chunk meets all its masks while it lies in the L2 cache.
Masking: Bonawitz et al., "Practical secure aggregation", CCS 2017, section 4.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssl_core.secure_sum.codec import digest
from ssl_core.secure_sum.shamir import to_bytes
from ssl_core.trust.identity import Secret
from ssl_core.trust.random import AesCtrStream

_WORDS = 1 << 16
_STREAMS = 64


def pair_mask(element: int) -> Secret:
    """The stream key of the field element e_ij that two sites share; hashing after the reduction mod p (shamir.py)."""
    return Secret(digest("pair", to_bytes(element)))


def self_mask(element: int) -> Secret:
    """The stream key of a site's own field element b_i."""
    return Secret(digest("self", to_bytes(element)))


def apply(vector: npt.NDArray[np.uint32], *, add: Sequence[Secret], subtract: Sequence[Secret]) -> None:
    """Change contiguous `vector` uint32 [P] in place by the streams of all keys."""
    for first in range(0, len(add), _STREAMS):
        _apply(vector, add[first : first + _STREAMS], np.add)
    for first in range(0, len(subtract), _STREAMS):
        _apply(vector, subtract[first : first + _STREAMS], np.subtract)


def _apply(vector: npt.NDArray[np.uint32], keys: Sequence[Secret], change: np.ufunc) -> None:
    streams = [AesCtrStream(key) for key in keys]
    mask = np.empty(_WORDS, np.uint32)
    for begin in range(0, len(vector), _WORDS):
        chunk = vector[begin : begin + _WORDS]
        part = mask[: len(chunk)]
        for stream in streams:
            stream.fill(part.view(np.uint8))
            change(chunk, part if sys.byteorder == "little" else part.byteswap(), out=chunk)
