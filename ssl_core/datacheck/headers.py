"""Step 1 of 12: entries of a file's own header that may name a person: DICOM, EDF, pictures.

Comes in: a path. Goes out: names of entries that are not empty, never their values; nothing for a file of another format.
Raises what the format's library raises for a damaged file: it is called from a decoder (scan.py). The DICOM entries are those
of PS3.15, table E.1-1, that say who or when; a private tag counts as one, whatever is in it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ssl_core.datacheck.formats import Format, format_of

_DICOM = (
    "PatientName", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "OtherPatientIDs", "OtherPatientNames",
    "PatientMotherBirthName", "MilitaryRank", "AccessionNumber", "StudyDate", "AcquisitionDate", "ContentDate",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName", "InstitutionAddress",
    "StationName", "DeviceSerialNumber", "PatientComments", "ImageComments", "RequestingPhysician", "ResponsiblePerson",
)  # fmt: skip
_EXIF = {0x010E: "picture description", 0x013B: "artist", 0x9286: "comment", 0x8825: "place (GPS)", 0x0132: "date and time"}


def header_identifiers(path: Path) -> list[str]:
    """Which entries of the header hold something; see the module docstring."""
    look = {
        Format.DICOM: _dicom,
        Format.EDF: _edf,
        Format.PNG: _picture,
        Format.JPEG: _picture,
        Format.TIFF: _picture,
    }.get(found) if (found := format_of(path)) else None  # fmt: skip
    if look is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return look(path)


def _dicom(path: Path) -> list[str]:
    from pydicom import dcmread

    dataset: Any = dcmread(path, stop_before_pixels=True, defer_size=1 << 16)
    found = [name for name in _DICOM if str(dataset.get(name, "") or "").strip()]
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        found.append("BurnedInAnnotation = YES")
    return [*found, "private tags"] if any(element.tag.is_private for element in dataset) else found


def _edf(path: Path) -> list[str]:
    with path.open("rb") as stream:
        head = stream.read(184)
    fields = {"patient": head[8:88], "recording": head[88:168], "start date": head[168:176]}
    # EDF+ writes X for what is left out, 01.01.85 for a date that is.
    blank = {b"", b"01.01.85"}
    return [name for name, cell in fields.items() if cell.replace(b"X", b"").replace(b"Startdate", b"").strip() not in blank]


def _picture(path: Path) -> list[str]:
    from PIL import Image

    with Image.open(path) as picture:
        found = [name for tag, name in _EXIF.items() if picture.getexif().get(tag)]
        return [*found, "text chunks"] if any(isinstance(value, str) for value in picture.info.values()) else found
