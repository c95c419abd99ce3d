"""Step 1 of 12: what a file is, by its first bytes and its name.

Comes in: a path. Goes out: a `Format`, or None. Nothing is decoded, at most 512 bytes are read.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

_HEAD = 512


class Format(StrEnum):
    """What a file may be; the value is how people call it."""

    DICOM = "DICOM"
    PNG = "PNG"
    JPEG = "JPEG"
    TIFF = "TIFF"
    NIFTI = "NIfTI"
    WFDB = "WFDB header"
    EDF = "EDF"
    BDF = "BDF"
    WAV = "WAV"
    FLAC = "FLAC"
    PARQUET = "Parquet"
    SQLITE = "SQLite"
    NPZ = "npz"
    XML = "XML"
    JSON = "JSON"
    JSONL = "JSON lines"
    CSV = "CSV"


_MAGIC: tuple[tuple[int, bytes, Format], ...] = (
    (128, b"DICM", Format.DICOM),
    (0, b"\x89PNG\r\n\x1a\n", Format.PNG),
    (0, b"\xff\xd8\xff", Format.JPEG),
    (0, b"II*\x00", Format.TIFF),
    (0, b"MM\x00*", Format.TIFF),
    # Of more than 4 GiB, and so are NIfTI-2 and RF64.
    (0, b"II+\x00", Format.TIFF),
    (0, b"MM\x00+", Format.TIFF),
    (344, b"n+1\x00", Format.NIFTI),
    (344, b"ni1\x00", Format.NIFTI),
    (4, b"n+2\x00\r\n\x1a\n", Format.NIFTI),
    (4, b"ni2\x00\r\n\x1a\n", Format.NIFTI),
    (0, b"0       ", Format.EDF),
    (0, b"\xffBIOSEMI", Format.BDF),
    (0, b"fLaC", Format.FLAC),
    (0, b"PAR1", Format.PARQUET),
    (0, b"SQLite format 3\x00", Format.SQLITE),
)
_NAMES = {
    ".nii.gz": Format.NIFTI,
    ".hea": Format.WFDB,
    ".npz": Format.NPZ,
    ".xml": Format.XML,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
}


def format_of(path: Path) -> Format | None:
    """What the file is; None where neither its bytes nor its name tell, or it cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return None
    for place, magic, found in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return found
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return Format.WAV
    name = path.name.lower()
    for suffix, found in _NAMES.items():
        if name.endswith(suffix) and head:
            return found
    return None
