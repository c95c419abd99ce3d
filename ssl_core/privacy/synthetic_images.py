"""Synthetic records as DICOM files, pictures and NIfTI volumes; for the isolation check.

Comes in: a folder, a declaration, the plan's data, and rows (patient, float32 [height, width]). Goes out: one file a row, in
a folder of its patient, named by study and number, and the declaration that reads them: whose a file is, its header says
where that is declared, else its folder. Where the study says how sizes are made equal, the files have another size than its
own. Whole numbers are written as such, anything else as floats, so that what no picture should hold is met too. Nothing here
is private.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import DicomSource, NiftiSource, Patches, PicturesSource
from ssl_core.data.optional import needed
from ssl_core.spec.data import ImageData

Floats = npt.NDArray[np.float32]

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
UID_ROOT = "2.25."
_PATTERNS = {"dicom": ("*.dcm",), "pictures": ("*.png", "*.tif"), "nifti": ("*.nii.gz",)}


def write_dicom(folder: Path, declared: DicomSource, data: ImageData, rows: Sequence[tuple[str, Any]]) -> FolderSource:
    """Secondary captures of whole numbers, other values as floats of a parametric map."""
    pydicom = needed("pydicom", "files of this kind")
    for path, unit, number, content in _named(folder, data, rows):
        whole, intercept, slope = _whole(content, data)
        header = pydicom.Dataset()
        header.SOPClassUID = _PARAMETRIC_MAP if whole is None else _SECONDARY_CAPTURE
        header.SOPInstanceUID, header.StudyInstanceUID = f"{UID_ROOT}{number}", f"{UID_ROOT}{study_of(number)}"
        header.AccessionNumber = str(study_of(number))
        header.PatientID, header.Modality = unit, declared.modalities[0]
        header.StudyDate, header.StudyTime, header.InstanceNumber = "20200101", "120000", number
        header.Rows, header.Columns, header.SamplesPerPixel = *content.shape, 1
        header.PhotometricInterpretation = "MONOCHROME2"
        if whole is None:
            header.BitsAllocated, header.FloatPixelData = 32, content.tobytes()
        else:
            header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
            header.RescaleIntercept, header.RescaleSlope = f"{intercept:.9g}", f"{slope:.9g}"
            header.PixelData = whole.tobytes()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = _EXPLICIT_LITTLE
        header.save_as(path.with_suffix(".dcm"), enforce_file_format=True)
    return _declared(declared, keeps="header")


def write_pictures(folder: Path, declared: PicturesSource, data: ImageData, rows: Sequence[tuple[str, Any]]) -> FolderSource:
    """PNG of 16 bits; TIFF of floats for what is no such number."""
    image = needed("PIL.Image", "files of this kind")
    for path, _, _, content in _named(folder, data, rows):
        whole, intercept, slope = _whole(content, data)
        if whole is None or (intercept, slope) != (0.0, 1.0):
            image.fromarray(content).save(path.with_suffix(".tif"))
        else:
            image.fromarray(whole).save(path.with_suffix(".png"))
    return _declared(declared)


def write_nifti(folder: Path, declared: NiftiSource, data: ImageData, rows: Sequence[tuple[str, Any]]) -> FolderSource:
    """Volumes of as many slices as are declared, each the row turned over by one line more.

    For patches a slice holds two steps of the grid on each side, the row in the first patch and over again beyond it.
    """
    nibabel = needed("nibabel", "files of this kind")
    count = 1 + (declared.first if declared.last is None else declared.last)
    axis = ("sagittal", "coronal", "axial").index(declared.axis)
    for path, _, _, given in _named(folder, data, rows):
        content = given if declared.patches is None else _repeated(given, declared.patches)
        slices = [np.roll(content, place, axis=0)[::-1].T for place in range(count)]
        volume = np.stack(slices, axis=axis)
        series = np.stack([volume] * (declared.volume + 1), axis=3)
        nibabel.Nifti1Image(series, np.eye(4)).to_filename(path.with_suffix(".nii.gz"))
    return _declared(declared)


def _repeated(content: Floats, patches: Patches) -> Floats:
    stride = patches.stride or patches.size
    down, across = (
        (np.arange(2 * margin + size + step) - margin) % length
        for margin, size, step, length in zip(patches.margin, patches.size, stride, content.shape, strict=True)
    )
    return content[np.ix_(down, across)]


def study_of(number: int) -> int:
    """The study of a patient's image of that number, from 1: every third image is of the study of the one before it."""
    return number - (number % 3 == 0)


def _named(folder: Path, data: ImageData, rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[Path, str, int, Floats]]:
    """A path without suffix for each row, its patient, its number within the patient, and its content in the files' size."""
    # Numbered within each patient, so that one patient more changes no other record's name.
    numbers: Counter[str] = Counter()
    for unit, given in rows:
        numbers[unit] += 1
        place = folder / unit
        place.mkdir(exist_ok=True)
        content = np.asarray(given, np.float32)
        if data.fit != "exact":
            content = np.ascontiguousarray(np.repeat(content, 2, axis=0)[:-1])
        yield place / f"{study_of(numbers[unit]):06d}-{numbers[unit]:06d}", unit, numbers[unit], content


def _whole(content: Floats, data: ImageData) -> tuple[npt.NDArray[np.uint16] | None, float, float]:
    """Stored numbers, and the intercept and slope that give the content back; None for what 16 bits do not hold."""
    low, high = data.window or (0.0, 65535.0)
    slope = 1.0 if data.window is None else (high - low) / 65535
    if not np.isfinite(content).all() or content.min() < low or content.max() > high:
        return None, 0.0, 1.0
    return np.round((content.astype(np.float64) - low) / slope).astype(np.uint16), low, slope


def _declared(declared: FolderSource, *, keeps: str = "folder") -> FolderSource:
    rule = "header" if declared.patient_from == keeps == "header" else "folder"
    changes = {"path": ".", "files": _PATTERNS[declared.kind], "patient_from": rule, "patient_pattern": None, "index": None}
    return declared.model_copy(update=changes)
