"""Step 1 of 12: reader of npz image arrays; pickled objects are never loaded.

Comes in: a declared npz file with images real [m, height, width] and patients text or integer [m]. Goes out: a
`Reading` with float32 [m, pixels], within the plan's window, standardised per image. Raises `DataError` for what concerns
the whole file: it cannot be read, lacks a declared field, an array has another shape or type than the plan says, or is larger
than declared: all of that is looked at in its header, before it is inflated (npz_arrays.py).
An image of the plan's size is what every `fit` makes of itself, so none is applied: a study that says `fit` for the folders
of other sites reads an array of its size too, and one of another size is for whoever wrote it to resample once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared import NpzSource, SignalSource
from ssl_core.data.images import standardise
from ssl_core.data.npz_arrays import Form, NpzArrays
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Fault, Reading, Tally
from ssl_core.errors import DataError
from ssl_core.spec.data import ImageData


def read_npz(source: NpzSource, files: tuple[Path, ...], data: ImageData) -> Reading:
    """All images of the one declared file; see the module docstring."""
    (path,) = files
    with NpzArrays(path, source.path, source.largest) as arrays:
        check_images(source, arrays.form(source.image_field), data)
        fields = arrays.read(fields_of(source, source.image_field))
    images = fields[source.image_field]
    owners = owners_of(source, fields[source.patient_field], len(images))
    records, broken, blank = standardise(images, data)
    tally = Tally(source.path, rows=len(images))
    kept = np.array([bool(owner) for owner in owners], np.bool_)
    for fault, bad in ((Fault.NO_PATIENT, ~kept), (Fault.NOT_FINITE, broken & kept), (Fault.BLANK, blank & kept)):
        if bad.any():
            tally.faults[fault] = int(bad.sum())
    names = names_of(source, fields, kept)
    return Reading([o for o in owners if o], [""] * int(kept.sum()), records[kept], (tally,), names)


def fields_of(source: NpzSource | SignalSource, *content: str) -> tuple[str, ...]:
    """The arrays that are read: those of the `content`, and those of ids."""
    ids = [source.patient_field, *([] if source.record_field is None else [source.record_field])]
    return tuple(dict.fromkeys([*content, *ids]))


def names_of(
    source: NpzSource | SignalSource, fields: dict[str, npt.NDArray[np.generic]], kept: npt.NDArray[np.bool_]
) -> list[str] | None:
    """The ids of the records that are kept, bool [m], where the source has an array of them."""
    if source.record_field is None:
        return None
    found = ids_of(source.path, "record_field", source.record_field, fields[source.record_field], len(kept))
    return [name for name, there in zip(found, kept, strict=True) if there]


def check_images(source: NpzSource, images: Form, data: ImageData) -> None:
    """Refuse an array of another shape or type than the plan says."""
    shape = (data.height, data.width)
    if len(images.shape) != 3 or images.shape[1:] != shape or images.dtype.kind not in "uif":
        raise DataError(
            f"array {source.image_field!r} of file {source.path!r} has another shape or type than the study asks for",
            field="image_field",
            value=f"{images.dtype} {['m', *images.shape[1:]]}",
            limit=f"real numbers ['m', {data.height}, {data.width}]",
            remedy=None if data.fit == "exact" else "resample the file: fit is for folders of pictures, not for an array",
        )


def owners_of(source: NpzSource | SignalSource, patients: npt.NDArray[np.generic], count: int) -> list[str]:
    """The patient id of each of `count` records, "" where there is none; `DataError` for an array of another form."""
    return ids_of(source.path, "patient_field", source.patient_field, patients, count)


def ids_of(path: str, key: str, name: str, ids: npt.NDArray[np.generic], count: int) -> list[str]:
    """The id of each of `count` records in array `name`, which the source file's `key` names, "" where there is none."""
    if ids.shape != (count,) or ids.dtype.kind not in "Uui":
        raise DataError(
            f"array {name!r} of file {path!r} must hold one text or integer per record",
            field=key,
            value=f"{ids.dtype}, {ids.ndim} dimensions",
        )
    return [_id(cell) for cell in ids.tolist()]


def load_fields(path: Path, name: str, fields: tuple[str, ...]) -> dict[str, npt.NDArray[np.generic]]:
    """The named arrays, of any size, of a file that a reader has taken, or that this program made itself."""
    with NpzArrays(path, name, None) as arrays:
        return arrays.read(fields)


def _id(cell: object) -> str:
    """The id, or "" where there is none."""
    if isinstance(cell, str):
        return "" if any("\ud800" <= char <= "\udfff" for char in cell) else unit_id(cell)
    return str(cell)
