"""Step 1 of 12: records of one form, in memory while they are few, else in a file without a name.

Comes in: records [...] one by one. Goes out: one array [m, ...]. The file has no name from the start, so that the kernel
removes it whatever becomes of this process; it lies in `scratch`, else where the machine keeps temporary files. Raises
`DataError` for a record of another form, `StateError` where the disk is full.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError, StateError

Values = npt.NDArray[np.float32] | npt.NDArray[np.int32]

IN_MEMORY = 256 << 20
_CHUNK = 4 << 20


class Rows:
    """Records of one shape and dtype, added one by one: in memory, or in an unnamed file once they are many."""

    def __init__(self, like: Values, scratch: Path | None) -> None:
        self._like, self._scratch = like, scratch
        self._parts: list[Values] = []
        self._count = 0
        self._held = ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def add(self, record: Values) -> None:
        """One more; `DataError` where it is not like the others."""
        if record.shape != self._like.shape or record.dtype != self._like.dtype:
            raise DataError(
                "a reader gave a record of another form", field="records", value=f"{record.dtype} {record.shape}",
                limit=f"{self._like.dtype} {self._like.shape}",
            )  # fmt: skip
        self._parts.append(record)
        self._count += 1
        if len(self._parts) * self._like.nbytes >= (IN_MEMORY if self._file is None else _CHUNK):
            self._spill()

    def array(self) -> Values:
        """All of them, [m, ...]; of a file, mapped into memory: it lives as long as the array."""
        if self._file is None:
            whole: Values = np.zeros((len(self._parts), *self._like.shape), self._like.dtype)
            for place, part in enumerate(self._parts):
                whole[place] = part
            return whole
        self._spill()
        _flush(self._file)
        return _mapped(self._file, self._count, self._like)

    def _spill(self) -> None:
        if self._file is None:
            self._file = self._held.enter_context(_unnamed(self._scratch))
        for part in self._parts:
            _write(self._file, part)
        self._parts.clear()


def in_order(records: Values, index: npt.NDArray[np.int64], scratch: Path | None = None) -> Values:
    """`records[index]`; of records that lie in a file, in another one."""
    if not isinstance(records, np.memmap):
        return records[index]
    with _unnamed(scratch) as stream:
        step = max(1, _CHUNK // max(1, records[:1].nbytes))
        for begin in range(0, len(index), step):
            _write(stream, records[index[begin : begin + step]])
        _flush(stream)
        return _mapped(stream, len(index), records[0])


def _mapped(stream: BinaryIO, count: int, like: Values) -> Values:
    return cast("Values", np.memmap(stream, like.dtype, "r+", shape=(count, *like.shape)))


def _unnamed(scratch: Path | None) -> BinaryIO:
    try:
        return tempfile.TemporaryFile(dir=scratch)
    except OSError as error:
        raise _full(error) from error


def _write(stream: BinaryIO, part: Values) -> None:
    try:
        stream.write(np.ascontiguousarray(part).data)
    except OSError as error:
        raise _full(error) from error


def _flush(stream: BinaryIO) -> None:
    try:
        stream.flush()
    except OSError as error:
        raise _full(error) from error


def _full(error: OSError) -> StateError:
    return StateError(
        "records could not be written to the disk while they were read",
        field="scratch",
        value=error.strerror,
        remedy="make room there, or set TMPDIR to a folder of a larger disk",
    )
