"""Step 1 of 12: the records of a kept copy, read from its file row by row, each held against its checksum.

Comes in: a file, where its records begin, their shape [m, ...] and dtype, and a CRC-32 of each, uint32 [m]. Goes out: what is
asked for, `rows[index]`, as an array of its own; nothing else of the file is ever in memory, so that a study over any number of
records trains in the memory of a few. Raises `StateError` for a row that is damaged or cannot be read. `verify` reads them all,
so that damage ends a round before it begins, and not in the step that happens to draw the patient whose row it is.
"""

from __future__ import annotations

import os
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.data.rows import Values
from ssl_core.errors import StateError

_CHUNK = 4 << 20


class KeptRows:
    """Records [m, ...] that stay in their file. The file may lose its name, or give it to another, meanwhile."""

    def __init__(
        self, path: Path, begin: int, shape: tuple[int, ...], dtype: np.dtype[Any], checksums: npt.NDArray[np.uint32]
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._begin, self._checksums = begin, checksums
        self._bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them, in the file."""
        return len(self) * self._bytes

    def __getitem__(self, index: npt.NDArray[np.integer[Any]] | slice | int) -> Values:
        """As of an array: one row, a slice of them, or those at `index` (integers of any shape)."""
        count = len(self)
        places = np.arange(*index.indices(count)) if isinstance(index, slice) else np.asarray(index)
        if places.dtype.kind not in "iu":
            raise TypeError("records are chosen by whole numbers")
        if places.size and not -count <= places.min() <= places.max() < count:
            raise IndexError("a record beyond the last was asked for")
        places = places.astype(np.int64)
        places = np.where(places < 0, places + count, places)
        out = np.empty((*places.shape, *self.shape[1:]), self.dtype)
        rows = out.reshape(places.size, *self.shape[1:])
        for place, row in zip(places.ravel().tolist(), rows, strict=True):
            self._read(place, memoryview(row).cast("B"))
        return out

    def verify(self) -> None:
        """Hold every row against its checksum, a few at a time."""
        step = max(1, _CHUNK // max(1, self._bytes))
        for begin in range(0, len(self), step):
            _ = self[begin : begin + step]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("records that lie in a file cannot become an array without a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _read(self, place: int, into: memoryview) -> None:
        try:
            found = os.preadv(self._descriptor, [into], self._begin + place * self._bytes)
        except OSError as error:
            raise damaged("records") from error
        if found != self._bytes or zlib.crc32(into) != self._checksums[place]:
            raise damaged("records")


def damaged(what: str) -> StateError:
    """The line for a copy that is no longer what was written."""
    return StateError(
        "copy of the approved records is damaged",
        field=what,
        remedy="the study cannot go on at this site; look at the disk",
    )
