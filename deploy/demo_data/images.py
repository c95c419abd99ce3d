"""An image array (fields image, patient, label) -> five sites by a keyed hash of the patient.

Comes in: an npz file such as `chest_xray_64.npz`: image uint8 [m, height, width], patient text [m], label text [m].
Goes out: `DemoSites`. Patients with a label of `classes` are split by patient into pool and test; the test patients
never pretrain (`DataError` otherwise), everybody else does with all images, the label pool included.
A patient can have images of several classes, so what is labelled is the part of a patient with one label, named
"patient/label", with all its images; the split stays by patient. Two classes give one 0/1 column, the first class's;
more give one column each. These sites are hospitals by hash, not by scanner: the table must say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.demo_data.sites import (
    DemoSites,
    keyed,
    new_folder,
    require_disjoint,
    site_at,
    write_images,
    write_labels,
)
from ssl_core.data.npz import load_fields
from ssl_core.errors import DataError

_KEY = b"choral-demo-images-1"
_SITES = 5
_POOL_SHARE = 0.6
_SOURCE = "Image array {file}. Five sites by a keyed hash of the patient, not by hospital."
_TERMS = "The array's own terms hold."


@dataclass(frozen=True, slots=True)
class _Images:
    image: npt.NDArray[np.uint8]
    patient: npt.NDArray[np.str_]
    label: npt.NDArray[np.str_]


def write_sites(
    array: Path, folder: Path, *, nominal_sizes: tuple[int, int, int, int, int], classes: tuple[str, ...] | None = None
) -> DemoSites:
    """Write five sites under `folder` (new or empty); `classes` None evaluates every label that occurs."""
    images = _load(array)
    present = sorted(set(images.label.tolist()))
    wanted = tuple(present) if classes is None else classes
    missing = [name for name in wanted if name not in present]
    if missing or len(set(wanted)) < 2:
        raise DataError(
            "classes to evaluate must be at least two labels of the array",
            field="classes",
            value=", ".join(missing or wanted),
            limit=", ".join(present),
        )
    columns = wanted[:1] if len(wanted) == 2 else wanted
    labelled = np.isin(images.label, wanted)
    site = np.array([keyed(_KEY, b"site", name) % _SITES for name in images.patient.tolist()])
    in_pool = np.array([keyed(_KEY, b"pool", name) < _POOL_SHARE * 2.0**64 for name in images.patient.tolist()])
    test_patients = np.unique(images.patient[labelled & ~in_pool])
    tested = np.isin(images.patient, test_patients)
    with new_folder(folder) as draft:
        groups: list[list[str]] = []
        for number in range(_SITES):
            mine = site == number
            place = draft / f"site-{number + 1}"
            place.mkdir()
            training = mine & ~tested
            write_images(place, "images", "source.toml", images.image[training], images.patient[training])
            examined = np.char.add(np.char.add(images.patient, "/"), images.label)
            for stem, rows in (("pool", mine & labelled & ~tested), ("test", mine & labelled & tested)):
                write_images(place, stem, f"{stem}.toml", images.image[rows], examined[rows])
            pairs = sorted(set(zip(examined[mine & labelled].tolist(), images.label[mine & labelled].tolist(), strict=True)))
            write_labels(place, columns, ((name, [int(label == column) for column in columns]) for name, label in pairs))
            groups += [images.patient[training].tolist(), images.patient[mine & tested].tolist()]
        require_disjoint(groups)
    names = [f"site-{number + 1}" for number in range(_SITES)]
    return DemoSites(
        kind="images",
        folder=folder,
        sites=tuple(site_at(folder, name, size) for name, size in zip(names, nominal_sizes, strict=True)),
        label_names=columns,
        source=_SOURCE.format(file=array.name),
        terms=_TERMS,
        citation="",
    )


def _load(array: Path) -> _Images:
    fields = load_fields(array, array.name, ("image", "patient", "label"))
    image, patient, label = fields["image"], fields["patient"], fields["label"]
    if image.dtype != np.uint8 or image.ndim != 3:
        raise DataError("images must be uint8 [m, height, width]", field="image", value=f"{image.dtype} {image.ndim}-d")
    for name, column in (("patient", patient), ("label", label)):
        if column.dtype.kind != "U" or column.shape != image.shape[:1]:
            raise DataError("one text per image is needed", field=name, value=f"{column.dtype} {column.shape}")
    return _Images(image.astype(np.uint8), patient.astype(np.str_), label.astype(np.str_))
