"""Step 1 of 12: arrays of an npz file whose sizes are known before a byte is inflated; pickled objects are never loaded.

Comes in: a zip archive of npy members (NEP 1), stored or deflated, and the bytes that the arrays which are read may take
together; None: any. Goes out: the form of an array, from its header alone, or the array. What is held is the directory of the
archive, at most a MiB, a header of at most 64 KiB, and arrays of the size that header, directory and declaration agree on: a
member that inflates to more or less than it says is damaged. Above 64 MiB one that deflated to less than a 200th is refused as
made to fill memory: no measured signal or picture does (zeros deflate to a 1,030th). Raises `DataError` that names the file.
"""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from ssl_core.errors import DataError

_DIRECTORY = 1 << 20
_CHUNK = 1 << 18
_MOST_RATIO = 200
_SMALL = 64 << 20
FAULTS = (
    OSError, EOFError, ValueError, TypeError, RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile, zlib and numpy's parser of headers, which is Python's, raise for a damaged file; a header that is nested too
deeply, MemoryError beside these."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class _Archive(io.FileIO):
    """A file of which no long part is read at once: `zipfile` asks for the length that the file itself says."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; `BadZipFile` for more than a MiB."""
        most = _DIRECTORY + 1
        part = super().read(most if size is None or size < 0 else min(size, most)) or b""
        if len(part) == most:
            raise zipfile.BadZipFile("a part of the archive is too long")
        return part


class NpzArrays:
    """An npz file while it is open; `name`: as it is declared; `largest`: bytes of the arrays that are read together."""

    def __init__(self, path: Path, name: str, largest: int | None) -> None:
        self._path, self._name, self._largest = path, name, largest
        self._held = ExitStack()

    def __enter__(self) -> NpzArrays:
        with ExitStack() as held:
            try:
                stream = held.enter_context(_Archive(self._path))
                if stream.read(2) != b"PK":
                    raise DataError(f"file {self._name!r} is no npz file", field="path", value=self._name)
                self._archive = held.enter_context(zipfile.ZipFile(stream))
            except FAULTS as error:
                raise self._unreadable() from error
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def form(self, field: str) -> Form:
        """Shape and type of an array; refused where it is too large by what directory and header say."""
        info = self._member(field)
        try:
            with self._archive.open(info) as stream:
                return self._form(info, stream)
        except (*FAULTS, MemoryError) as error:
            # Python's parser of a header that is nested too deeply says that memory is short.
            raise self._unreadable() from error

    def read(self, fields: tuple[str, ...]) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays; none is inflated before the sizes of all are known."""
        whole = sum(self.form(field).nbytes for field in fields)
        if self._largest is not None and whole > self._largest:
            raise self._too_large()
        return {field: self._array(field) for field in fields}

    def _member(self, field: str) -> zipfile.ZipInfo:
        try:
            info = self._archive.getinfo(f"{field}.npy")
        except KeyError:
            raise DataError(f"array {field!r} is missing in file {self._name!r}", field=field, value="missing") from None
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._unreadable()
        if info.file_size > max(_SMALL, _MOST_RATIO * info.compress_size):
            raise DataError(
                f"array {field!r} of file {self._name!r} is compressed to almost nothing",
                field="path",
                value=self._name,
                limit=f"a {_MOST_RATIO}th of its size, above {_SMALL >> 20} MiB",
                remedy="look at what it holds; if it is meant, write it with numpy.savez, which compresses nothing",
            )
        return info

    def _form(self, info: zipfile.ZipInfo, stream: IO[bytes]) -> Form:
        # Headers of another version are longer than 64 KiB, or hold names of structures.
        if np.lib.format.read_magic(stream) != (1, 0):
            raise self._unreadable()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject or dtype.names or dtype.subdtype or not dtype.itemsize or min(shape, default=0) < 0:
            raise self._unreadable()
        form = Form(shape, dtype, fortran)
        if stream.tell() + form.nbytes != info.file_size:
            raise self._unreadable()
        if self._largest is not None and form.nbytes > self._largest:
            raise self._too_large()
        return form

    def _array(self, field: str) -> npt.NDArray[np.generic]:
        info = self._member(field)
        try:
            with self._archive.open(info) as stream:
                form = self._form(info, stream)
                flat = np.empty(form.nbytes, np.uint8)
                rest = flat.data
                while part := stream.read(_CHUNK):
                    # The member ends where the directory says, whatever it holds; its checksum is compared there.
                    rest[: len(part)] = part
                    rest = rest[len(part) :]
        except FAULTS as error:
            raise self._unreadable() from error
        except MemoryError as error:
            raise self._too_large() from error
        if rest:
            raise self._unreadable()
        return flat.view(form.dtype).reshape(form.shape, order="F" if form.fortran else "C")

    def _unreadable(self) -> DataError:
        return DataError(
            f"file {self._name!r} cannot be read as npz",
            field="path",
            value=self._name,
            remedy="write it with numpy.savez, no objects",
        )

    def _too_large(self) -> DataError:
        return DataError(
            f"the arrays of file {self._name!r} are larger than the source allows",
            field="largest_mib",
            limit="this machine's memory" if self._largest is None else f"{self._largest >> 20} MiB",
            remedy="divide the file, or declare a larger largest_mib where the machine has the memory",
        )
