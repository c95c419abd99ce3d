"""Step 1 of 12: entries of a file's own header that may name a person: DICOM, EDF, WFDB, NIfTI, pictures, sounds.

Comes in: a path; `id_is_read` where the source takes a DICOM header's PatientID as the patient's id; `as_dicom` where a file of
no other format is read as DICOM: one without a preamble. Goes out: names of entries that are not blank, never their values;
nothing for a file of another format. Raises what the format's library raises for a damaged file: it is called from a decoder
(scan.py). Of DICOM, what may tell who, when or where by PS3.15, table E.1-1, at its top and in sequences, and private tags
(dicom_header.py; dicom_elements.py says which and what is left out); of pictures comments, EXIF, XMP, IPTC, text chunks and
thumbnails (picture_tags.py); of sounds their tags (sound_tags.py); here a comment of a WFDB header, a free text or an extension
of a NIfTI file, patient, recording and date of EDF and BDF.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ssl_core.datacheck.formats import Format, format_of
from ssl_core.datacheck.sound_tags import flac_tags, wav_tags

_NIFTI = {"descrip": "description", "aux_file": "auxiliary file", "intent_name": "name of the intent", "db_name": "database"}
_LONGEST_HEADER = 1 << 20
_DAY = re.compile(r"\s\d{1,2}/\d{1,2}/\d{4}\s*$")


def header_identifiers(path: Path, *, id_is_read: bool = False, as_dicom: bool = False) -> list[str]:
    """Which entries of the header hold something; see the module docstring."""
    found = format_of(path) or (Format.DICOM if as_dicom else None)
    looks: dict[Format, Callable[[Path], list[str]]] = {
        Format.DICOM: partial(_dicom, id_is_read=id_is_read),
        Format.EDF: _edf,
        Format.BDF: _edf,
        Format.WFDB: _wfdb,
        Format.NIFTI: _nifti,
        Format.WAV: wav_tags,
        Format.FLAC: flac_tags,
        Format.PNG: partial(_picture, form=Format.PNG),
        Format.JPEG: partial(_picture, form=Format.JPEG),
        Format.TIFF: partial(_picture, form=Format.TIFF),
    }
    if found is None or found not in looks:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return looks[found](path)


def _dicom(path: Path, id_is_read: bool) -> list[str]:
    from ssl_core.datacheck.dicom_header import dicom_entries

    return dicom_entries(path, id_is_read)


def _picture(path: Path, form: Format) -> list[str]:
    from ssl_core.datacheck.picture_tags import picture_tags

    return picture_tags(path, form)


def _edf(path: Path) -> list[str]:
    with path.open("rb") as stream:
        head = stream.read(184)
    fields = {"patient": head[8:88], "recording": head[88:168], "start date": head[168:176]}
    # EDF+ writes X for what is left out, 01.01.85 for a date that is.
    blank = {b"", b"01.01.85"}
    return [name for name, cell in fields.items() if cell.replace(b"X", b"").replace(b"Startdate", b"").strip() not in blank]


def _wfdb(path: Path) -> list[str]:
    with path.open("rb") as stream:
        lines = [line.strip() for line in stream.read(_LONGEST_HEADER).decode("latin-1").splitlines()]
    record = next((line for line in lines if line and not line.startswith("#")), "")
    found = ["comments"] if any(line.startswith("#") and line.strip("# \t") for line in lines) else []
    return [*found, "date"] if _DAY.search(record) else found


def _nifti(path: Path) -> list[str]:
    from nibabel.loadsave import load

    header: Any = load(path).header
    held = {name for name in header if name in _NIFTI and header[name].item().strip(b"\0 ")}
    found = [name for key, name in _NIFTI.items() if key in held]
    return [*found, "extensions"] if len(header.extensions) else found
