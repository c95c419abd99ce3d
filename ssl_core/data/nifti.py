"""Step 1 of 12: one NIfTI-1 or NIfTI-2 volume, in one file, plain or gzip, to its slices, or patches of them.

Comes in: a path. Goes out: a record of each chosen slice, or of each patch (grid.py), in order, or a fault. nibabel reads the
header; voxels are read here, so that no more of a compressed file is ever inflated than its header says and `largest` allows.
Values are scaled by scl_slope and scl_inter. Slices are those of the volume turned to right, front and top (RAS): each is
shown with front or top up, and the patient's left, or back, at the left. Which slices: evenly spaced within `first` to `last`,
by their number alone, so that no voxel decides what is read. Voxels count as they are, whatever their size in millimetres.
Faults: what is no NIfTI file, one whose voxels lie in another file, or that holds colours, complex numbers, surfaces or
matrices (CIFTI) is `WRONG_KIND`; more bytes than `largest`, by its header or inflated, `TOO_LARGE`; slices or a volume beyond
its shape, or slices smaller than a patch, `SHAPE`; a header or voxels that are not all there, or another checksum, raise, or
are `UNREADABLE`: all one.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from ssl_core.data.decoding import Found
from ssl_core.data.grid import Grid
from ssl_core.data.picture import evenly, to_record
from ssl_core.data.reading import Fault
from ssl_core.spec.data import ImageData

_GZIP = b"\x1f\x8b"
_LONGEST_HEADER = 540
_CIFTI = range(3000, 3100)
_CHUNK = 1 << 20
AXES = ("sagittal", "coronal", "axial")
"""Which way slices are numbered, by the axis of the body: right, front, top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NiftiDecoder:
    """One file to its records; `largest`: bytes that its content may take when it is no longer compressed."""

    axis: Literal["sagittal", "coronal", "axial"]
    slices: int
    first: int
    last: int | None
    volume: int
    largest: int
    data: ImageData
    grid: Grid | None = None

    def __call__(self, path: Path) -> Sequence[Found]:
        """The chosen slices or patches of the file, or one fault of the whole."""
        pictures = self.pictures(path)
        if isinstance(pictures, Fault):
            return [Found(None, "", pictures)]
        # All of one name: records of one name keep the order in which they are given.
        return [Found(None, "", to_record(picture, self.data)) for picture in pictures]

    def pictures(self, path: Path) -> Iterator[npt.NDArray[np.float64]] | Fault:
        """What becomes a record each, real [h, w] in scaled units, as they are in the file."""
        chosen = self._chosen(path)
        if isinstance(chosen, Fault):
            return chosen
        volume, slices = chosen
        if self.grid is None:
            return map(volume.plane, slices)
        across, down, _ = volume.shape
        places = self.grid.places(slices, (down, across))
        return _patches(volume, places, self.grid.size) if places else Fault.SHAPE

    def middle(self, path: Path) -> npt.NDArray[np.float64] | Fault:
        """The middle one of the chosen slices, as `pictures` has it; whole, where patches of it become records."""
        chosen = self._chosen(path)
        if isinstance(chosen, Fault):
            return chosen
        volume, slices = chosen
        return volume.plane(slices[len(slices) // 2])

    def _chosen(self, path: Path) -> tuple[_Volume, list[int]] | Fault:
        """The volume, turned, and the numbers of the slices that are read."""
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP
            plain.seek(0)
            stream = cast("BinaryIO", gzip.GzipFile(fileobj=plain)) if packed else plain
            volume = self._volume(stream, packed=packed)
        if isinstance(volume, Fault):
            return volume
        count = volume.shape[2]
        end = count if self.last is None else self.last + 1
        if not self.first < end <= count:
            return Fault.SHAPE
        return volume, evenly(self.first, end - self.first, self.slices)

    def _volume(self, stream: BinaryIO, *, packed: bool) -> _Volume | Fault:
        header = _header(stream.read(_LONGEST_HEADER))
        if isinstance(header, Fault):
            return header
        shape, dtype, begin = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
        if not 2 <= len(shape) <= 7 or min(shape) < 1 or begin < header.sizeof_hdr:
            return Fault.UNREADABLE
        if dtype.kind not in "iuf" or int(header["intent_code"]) in _CIFTI:
            return Fault.WRONG_KIND
        size = math.prod(shape[:3]) * dtype.itemsize
        several = math.prod(shape[3:])
        if begin + size * several > self.largest:
            return Fault.TOO_LARGE
        if self.volume >= several:
            return Fault.SHAPE
        stream.seek(begin + self.volume * size)
        content = stream.read(size)
        if len(content) < size:
            return Fault.UNREADABLE
        # The checksum of a compressed file stands at its end; what is inflated on the way there is not kept.
        while packed and stream.read(_CHUNK):
            if stream.tell() > self.largest:
                return Fault.TOO_LARGE
        voxels = np.frombuffer(content, dtype).reshape((*shape[:3], *([1] * (3 - len(shape)))), order="F")
        return _turned(voxels, header, AXES.index(self.axis))


def _patches(
    volume: _Volume, places: Sequence[tuple[int, int, int]], size: tuple[int, int]
) -> Iterator[npt.NDArray[np.float64]]:
    for place, group in groupby(places, key=lambda each: each[0]):
        plane = volume.plane(place)
        yield from (plane[top : top + size[0], left : left + size[1]] for _, top, left in group)


@dataclass(frozen=True, slots=True)
class _Volume:
    """Voxels as stored, turned: slice k is [:, :, k], its first axis to the right or front, its second to the front or up."""

    voxels: npt.NDArray[Any]
    slope: float
    inter: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.voxels.shape

    def plane(self, place: int) -> npt.NDArray[np.float64]:
        """Slice `place` as a picture [h, w]: its second axis upwards, its first to the right; in scaled units."""
        with np.errstate(all="ignore"):
            return self.voxels[:, :, place].T[::-1].astype(np.float64) * self.slope + self.inter


def _turned(voxels: npt.NDArray[Any], header: Any, axis: int) -> _Volume | Fault:
    from nibabel import orientations

    io_orientation: Any = orientations.io_orientation
    ornt = io_orientation(header.get_best_affine())
    if not np.isfinite(ornt).all():
        return Fault.UNREADABLE
    for stored, (_, direction) in enumerate(ornt):
        if direction < 0:
            voxels = np.flip(voxels, stored)
    # `ornt` says of each stored axis which of right, front, top it is; here the other way round, the slices' axis last.
    of_body = np.argsort(ornt[:, 0])
    slope, inter = header.get_slope_inter()
    return _Volume(
        np.transpose(voxels, [*np.delete(of_body, axis), of_body[axis]]),
        1.0 if slope is None else float(slope),
        0.0 if inter is None else float(inter),
    )


def _header(content: bytes) -> Any:
    """The header of a file whose voxels follow it, or a fault."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kinds: tuple[tuple[Any, bytes, int], ...] = (
        (Nifti1Header, b"n+1\x00", 344),
        (Nifti2Header, b"n+2\x00\r\n\x1a\n", 4),
    )
    for kind, magic, place in kinds:
        size = kind.sizeof_hdr
        if content[place : place + len(magic)] == magic:
            # Not checked by nibabel: its check may write what it finds; what is used of a header is checked by who uses it.
            return kind(content[:size], check=False) if len(content) >= size else Fault.UNREADABLE
    return Fault.WRONG_KIND
