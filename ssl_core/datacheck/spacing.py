"""Step 1 of 12: the distances of pixels and slices in a file's header, and whether the files of a source differ in them.

Comes in: a path; then spacings in millimetres of many files, by name. Goes out: (between rows, between columns, between
slices; NaN for these where a file says none), or None where a file says none at all; findings where they differ. Rows, columns
and slices of a volume are those of the pictures that its reader makes: of the declared axis, turned as it turns (nifti.py). The
study does not look at millimetres (docs/data-images.md): the same organ has another size in pixels at another spacing, and
slices are counted, so a person should know. Raises what the format's library raises for a damaged file: it is called from a
decoder (scan.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_core.data.nifti import AXES
from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight
from ssl_core.datacheck.formats import Format, format_of

_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_ALIKE = 1.05
_FAR = 1.5

# Of a header that says none, they are taken for millimetres, as all do.
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}

Spacing = tuple[float, float, float]


def spacing_of(path: Path, axis: str = "axial") -> Spacing | None:
    """Millimetres between rows, columns and slices of the pictures along `axis`, which only a volume has several of."""
    form = format_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = _dicom(path) if form is Format.DICOM else _nifti(path, AXES.index(axis)) if form is Format.NIFTI else None
    if values is None or len(values) < 2:
        return None
    found = [float(each) for each in values[:3]]
    rows, columns, slices = (each if math.isfinite(each) and each > 0 else math.nan for each in (*found, math.nan)[:3])
    return None if math.isnan(rows + columns) else (rows, columns, slices)


def _dicom(path: Path) -> Any:
    from pydicom import dcmread

    header: Any = dcmread(path, stop_before_pixels=True, defer_size=1 << 16)
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    measures = shared[0].get("PixelMeasuresSequence") or [{}]
    return next((part.get(word) for part in (header, measures[0]) for word in _KEYWORDS if part.get(word)), None)


def _nifti(path: Path, axis: int) -> Any:
    from nibabel import orientations
    from nibabel.loadsave import load

    header: Any = load(path).header
    zooms = [*map(float, header.get_zooms()[:3]), math.nan, math.nan][:3]
    io_orientation: Any = orientations.io_orientation
    turned = io_orientation(header.get_best_affine())
    if not np.isfinite(turned).all():
        return None
    # Which stored axis runs to the right, to the front and to the top of the body, as the reader turns them.
    stored = np.argsort(turned[:, 0]).tolist()
    across, down = (stored[each] for each in range(3) if each != axis)
    scale = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    return [scale * zooms[each] for each in (down, across, stored[axis])]


def spacing_findings(spacings: Mapping[str, Spacing], of: int) -> list[Finding]:
    """Findings where the spacings of the files, by name, are not alike, to 5 %: one of pixels, one of slices."""
    pixels = {name: each[:2] for name, each in spacings.items()}
    slices = {name: each[2:] for name, each in spacings.items() if not math.isnan(each[2])}
    return [
        *_mixed(
            pixels, of, "spacing", "pixels lie",
            "the study sees pixels, not millimetres: bring the files to one spacing with your own tool where sizes matter",
        ),
        *_mixed(
            slices, of, "slice distance", "slices lie",
            "the study takes slices by their number, not by millimetres: they show other parts of the body, and thick ones "
            "blur; bring the files to one distance with your own tool, or declare a source for each",
        ),
    ]  # fmt: skip


def _mixed(spacings: Mapping[str, tuple[float, ...]], of: int, topic: str, what: str, remedy: str) -> list[Finding]:
    if not spacings:
        return []
    low = min(min(each) for each in spacings.values())
    high = max(max(each) for each in spacings.values())
    if high <= _ALIKE * low:
        return []
    usual = float(np.median([each[0] for each in spacings.values()]))
    near = {name for name, each in spacings.items() if max(each) <= usual * _ALIKE and min(each) * _ALIKE >= usual}
    other = [name for name in spacings if name not in near]
    return [
        Finding(
            topic, f"{what} {low:.3g} to {high:.3g} mm apart", remedy, len(other), of, tuple(other[:MOST_PLACES]),
            Weight.WARNING if high > _FAR * low else Weight.NOTE,
        )
    ]  # fmt: skip
