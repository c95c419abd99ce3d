"""Step 1 of 12: one DICOM file to its frames, by pydicom; what a file is, its header says, never its name.

Comes in: a path. Goes out: a record of each chosen frame, or a fault. A frame is brought to the units of its modality
(dicom_pixels.py), then prepared by the plan's constants (picture.py); what the file says of windows is not used. Its owner is
PatientID, nobody where there are several; its name orders a patient's records by date and time of the study (else of
acquisition), study, series, instance and frame. Labels name it by its SOPInstanceUID, or as declared. Issuers of ids are not
looked at: two patients to whom two issuers gave one id are one unit, protected together.
Faults: a file that is encrypted as a whole `ENCRYPTED`; another modality than declared, or nothing that is a picture (reports,
waveforms, plans, directories) `WRONG_KIND`; a transfer syntax that nothing installed here decodes `CODEC`; frames that would
take more than `largest` bytes decoded, or a deflated file that does, `TOO_LARGE`, before any is; all else `UNREADABLE`.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from ssl_core.data.decoding import Found
from ssl_core.data.dicom_pixels import check_codec, grey_frame, is_inverted
from ssl_core.data.picture import evenly, to_record
from ssl_core.data.reading import Fault
from ssl_core.data.rows import Values
from ssl_core.spec.data import ImageData

AnswerT = TypeVar("AnswerT")
RecordFrom = Literal["instance", "study", "file"]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
# PatientID, StudyInstanceUID, AccessionNumber: what says whose a file is and what it belongs to.
_ONCE = (0x00100020, 0x0020000D, 0x00080050)
_SIZES = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PREAMBLE = 128
_META_BEGIN = 144
"""Preamble, "DICM" and the element that holds the length of the file meta information (PS3.10, 7.1)."""
_ENVELOPED = bytes.fromhex("06092a864886f70d010703")
"""The object identifier of CMS enveloped data, which is what a Secure DICOM file is (PS3.15, D)."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class DicomDecoder:
    """One file to its records; `largest`: bytes that its decoded frames, or its inflated content, may take.

    `study`: the element that names the examination; `record_from`: by what labels name what is in a file.
    """

    modalities: tuple[str, ...]
    frames: int
    largest: int
    data: ImageData
    study: Literal["StudyInstanceUID", "AccessionNumber"] = "StudyInstanceUID"
    record_from: RecordFrom = "instance"

    def __call__(self, path: Path) -> Sequence[Found]:
        """The chosen frames of the file, or one fault of the whole."""
        header = _opened(path, self.largest)
        if isinstance(header, Fault):
            return [Found(None, "", header)]
        owner, name, study = patient_of(header), _time_order(header), _text(header, self.study)
        record = self._record(header)
        places = _asked(lambda: self._places(header))
        if isinstance(places, Fault):
            return [Found(owner, name, places, study, record)]
        frames = ((place, _asked(partial(self._frame, header, place))) for place in places)
        return [Found(owner, f"{name}|{place:08d}", content, study, record) for place, content in frames]

    def _record(self, header: Any) -> str | None:
        if self.record_from == "file":
            return None
        return sop_instance(header) if self.record_from == "instance" else _text(header, "StudyInstanceUID") or ""

    def _places(self, header: Any) -> list[int] | Fault:
        """The frames to decode, or what is wrong with the file before any is decoded."""
        if "DirectoryRecordSequence" in header or _text(header, "Modality") not in self.modalities:
            return Fault.WRONG_KIND
        if not any(keyword in header for keyword in _PIXELS):
            # An image that lost its pixels says how many rows it had; reports, waveforms and plans have none.
            return Fault.UNREADABLE if "Rows" in header else Fault.WRONG_KIND
        rows, columns, bits, samples = (header.get(keyword) or 0 for keyword in _SIZES)
        frames = max(1, int(header.get("NumberOfFrames") or 1))
        if min(rows, columns, bits) < 1:
            return Fault.UNREADABLE
        if rows * columns * max(1, samples) * frames * bits > 8 * self.largest:
            return Fault.TOO_LARGE
        return check_codec(header) or evenly(0, frames, self.frames)

    def _frame(self, header: Any, place: int) -> Values | Fault:
        grey = grey_frame(header, place)
        return grey if isinstance(grey, Fault) else to_record(grey, self.data, inverted=is_inverted(header))


def _asked(question: Callable[[], AnswerT]) -> AnswerT | Fault:
    """The answer, or a fault where pydicom raises: as for a whole file (decoding.py), but whose it is is known already."""
    try:
        return question()
    except MemoryError:
        return Fault.TOO_LARGE
    except Exception:
        # What it says may quote a patient.
        return Fault.UNREADABLE


def _opened(path: Path, largest: int) -> Any:
    """The data set of a file, or a fault."""
    from pydicom.errors import InvalidDicomError

    with path.open("rb") as stream:
        head = stream.read(_PREAMBLE + 4)
    if head[:1] == b"\x30" and _ENVELOPED in head[:64]:
        return Fault.ENCRYPTED
    if head[_PREAMBLE:] == b"DICM" and _inflates_beyond(path, largest):
        return Fault.TOO_LARGE
    try:
        header = data_set(path)
        # Of pixels that end too early pydicom keeps nothing at all, not even whose they are.
        return header or data_set(path, pixels=False) or Fault.UNREADABLE
    except InvalidDicomError:
        # Without the file format's own mark anything can be read as DICOM; only what then looks like an image is taken.
        header = data_set(path, force=True)
        return header if "Modality" in header and any(keyword in header for keyword in _PIXELS) else Fault.UNREADABLE


def data_set(path: Path, *, pixels: bool = True, force: bool = False) -> Any:
    """What pydicom reads of a file; of an element that stands there twice it keeps the last, so that `_ONCE` are left out."""
    from pydicom.filereader import read_partial

    named: Counter[int] = Counter()

    def stop(tag: int, kind: str | None, length: int) -> bool:
        named[tag] += tag in _ONCE
        return not pixels and tag in _PIXEL_TAGS

    with path.open("rb") as stream:
        header: Any = read_partial(stream, stop, force=force)
    for tag in _ONCE:
        if named[tag] > 1:
            del header[tag]
    return header


def patient_of(header: Any) -> str | None:
    """PatientID as it was written; None where there is none, or several."""
    value = _asked(lambda: header.get("PatientID"))
    return value if isinstance(value, str) else None


def sop_instance(header: Any) -> str:
    """SOPInstanceUID; "" where there is none."""
    return _text(header, "SOPInstanceUID") or ""


def _inflates_beyond(path: Path, largest: int) -> bool:
    """Does a deflated file hold more than `largest` bytes? pydicom would inflate all of it."""
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return False
    size = 0
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as stream:
        stream.seek(_META_BEGIN + meta.FileMetaInformationGroupLength)
        while size <= largest and not inflater.eof and (part := inflater.unconsumed_tail or stream.read(_CHUNK)):
            size += len(inflater.decompress(part, _CHUNK))
    return size > largest


def _time_order(header: Any) -> str:
    """Sorts by time: date and time of the study, else of acquisition; then series and instance."""
    when = next(
        (
            date + _digits(header, f"{what}Time").ljust(6, "0")[:6]
            for what in ("Study", "Acquisition")
            if len(date := _digits(header, f"{what}Date")) == 8
        ),
        _digits(header, "AcquisitionDateTime").ljust(14, "0")[:14],
    )
    numbers = [_digits(header, keyword).rjust(12, "0") for keyword in ("SeriesNumber", "InstanceNumber")]
    uids = [_text(header, keyword) or "" for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    return "|".join([when, uids[0], numbers[0], uids[1], numbers[1], uids[2]])


def _digits(header: Any, keyword: str) -> str:
    """The digits of an element: dates and times were once written with marks between them."""
    return "".join(char for char in _text(header, keyword) or "" if char in "0123456789")


def _text(header: Any, keyword: str) -> str | None:
    """The text of an element, as it was written; None where there is none or it cannot be read."""
    value = _asked(lambda: header.get(keyword))
    if value is None or isinstance(value, Fault):
        return None
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return "\\".join(map(str, value)) if several else str(value)
