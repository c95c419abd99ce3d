"""Step 1 of 12: the distances of pixels in a file's header, and whether the files of a source differ in them.

Comes in: a path; then spacings in millimetres of many files, by name. Goes out: (between rows, between columns), or None where
a file says none; a finding where they differ. The study does not look at millimetres (docs/data-images.md): the same organ has
another size in pixels at another spacing, so a person should know. Raises what the format's library raises for a damaged file:
it is called from a decoder (scan.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight
from ssl_core.datacheck.formats import Format, format_of

_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_ALIKE = 1.05
_FAR = 1.5

Spacing = tuple[float, float]


def spacing_of(path: Path) -> Spacing | None:
    """Millimetres between rows and between columns, of NIfTI along its first two axes."""
    form = format_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = _dicom(path) if form is Format.DICOM else _nifti(path) if form is Format.NIFTI else None
    if values is None or len(values) < 2:
        return None
    first, second = float(values[0]), float(values[1])
    return (first, second) if all(math.isfinite(each) and each > 0 for each in (first, second)) else None


def _dicom(path: Path) -> Any:
    from pydicom import dcmread

    header: Any = dcmread(path, stop_before_pixels=True, defer_size=1 << 16)
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    measures = shared[0].get("PixelMeasuresSequence") or [{}]
    return next((part.get(word) for part in (header, measures[0]) for word in _KEYWORDS if part.get(word)), None)


def _nifti(path: Path) -> Any:
    from nibabel.loadsave import load

    image: Any = load(path)
    return image.header.get_zooms()


def spacing_findings(spacings: Mapping[str, Spacing], of: int) -> list[Finding]:
    """One finding where the spacings of the files, by name, are not alike, to 5 %."""
    if not spacings:
        return []
    low = min(min(each) for each in spacings.values())
    high = max(max(each) for each in spacings.values())
    if high <= _ALIKE * low:
        return []
    usual = float(np.median([each[0] for each in spacings.values()]))
    other = [name for name, each in spacings.items() if not usual / _ALIKE <= each[0] <= usual * _ALIKE or each[1] != each[0]]
    return [
        Finding(
            "spacing",
            f"pixels lie {low:.3g} to {high:.3g} mm apart",
            "the study sees pixels, not millimetres: bring the files to one spacing with your own tool where sizes matter",
            len(other), of, tuple(other[:MOST_PLACES]), Weight.WARNING if high > _FAR * low else Weight.NOTE,
        )
    ]  # fmt: skip
