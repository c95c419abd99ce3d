"""Step 1 of 12: which records have the same content: within a patient, across patients, across any other groups.

Comes in: records [m, ...] and who each belongs to. Goes out: `Contents`, 128 bits of BLAKE2b a record, so that no second copy
of the records is held. Padding stands for unreadable records and equals nothing. Equal records are reported and
never dropped: dropping one would make a patient's records depend on another's (ruling 17).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ssl_core.data.rows import Values


@dataclass(frozen=True, slots=True)
class Contents:
    """`same` int64 [m]: records of one number are equal; -1 for padding."""

    same: npt.NDArray[np.int64] = field(repr=False)

    def repeated(self, owners: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Records bool [m] that equal an earlier one of the same owner."""
        pairs = np.stack([self.same, _numbers(owners)], axis=1) if len(self.same) else np.zeros((0, 2), np.int64)
        out = np.ones(len(self.same), np.bool_)
        _, first = np.unique(pairs, axis=0, return_index=True)
        out[first] = False
        return out & (self.same >= 0)

    def shared(self, owners: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Records bool [m] whose content a record of another owner has too."""
        if not len(self.same):
            return np.zeros(0, np.bool_)
        pairs = np.unique(np.stack([self.same, _numbers(owners)], axis=1), axis=0)
        contents, count = np.unique(pairs[:, 0], return_counts=True)
        several = contents[count > 1]
        shared: npt.NDArray[np.bool_] = np.isin(self.same, several) & (self.same >= 0)
        return shared


def contents_of(records: Values, padding: Values) -> Contents:
    """The contents of m records; `padding`: the record that stands for one that could not be read (gathering.py)."""
    empty = _hash(padding.tobytes())
    hashes = bytearray()
    blank = np.zeros(len(records), np.bool_)
    for place, record in enumerate(records):
        found = _hash(record.tobytes())
        blank[place] = found == empty
        hashes += found
    halves = np.frombuffer(bytes(hashes), np.uint64).reshape(-1, 2)
    _, same = np.unique(halves, axis=0, return_inverse=True)
    return Contents(np.where(blank, -1, same.reshape(-1)).astype(np.int64))


def _numbers(owners: Sequence[str]) -> npt.NDArray[np.int64]:
    known: dict[str, int] = {}
    return np.array([known.setdefault(owner, len(known)) for owner in owners], np.int64)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
