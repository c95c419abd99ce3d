"""Step 1 of 12: headers that may name a person, burnt-in text, spacings, rates: in up to 200 files, evenly over a source.

Comes in: a `Source`. Goes out: findings, with names of files. The files of a folder are decoded as a reader's are, in worker
processes with bounds of time and memory (decoding.py): a damaged file is named here, and counted by its reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared import NpzSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import DicomSource, NiftiSource, PicturesSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.declared_recordings import WaveformSource
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.folder_files import Listed, evenly, list_files
from ssl_core.data.image_folders import nifti_decoder
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.npz import load_fields
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source
from ssl_core.datacheck.burnt_in import text_lines
from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight
from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.rates import rate_findings
from ssl_core.datacheck.raw import raw_array
from ssl_core.datacheck.spacing import Spacing, spacing_findings, spacing_of
from ssl_core.spec.data import Data, ImageData, PairData

_MOST = 200


@dataclass(frozen=True, slots=True)
class _Header:
    """Decoder: the names of a header's entries, one `Found` each; without a name, the distances of pixels and slices."""

    axis: str
    id_is_read: bool
    as_dicom: bool

    def __call__(self, path: Path) -> Sequence[Found]:
        spacing = spacing_of(path, self.axis)
        names = header_identifiers(path, id_is_read=self.id_is_read, as_dicom=self.as_dicom)
        entries = [Found(None, name, np.zeros(1, np.float32)) for name in names]
        return entries if spacing is None else [*entries, Found(None, "", np.array(spacing, np.float32))]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Decoder: how many lines of text the picture seems to hold; nothing where the file is no picture.

    volume: how volumes are read, of which one slice is looked at.
    """

    volume: NiftiDecoder | None = None

    def __call__(self, path: Path) -> Sequence[Found]:
        array = raw_array(path, volume=self.volume)
        picture = array is not None and array.ndim == 2
        return [Found(None, "", np.array([text_lines(array)], np.float32))] if array is not None and picture else []


@dataclass(frozen=True, slots=True)
class _Raw:
    """Decoder: what is in the file, as numbers; of frames or pages the first of `several` that are read."""

    several: int | None

    def __call__(self, path: Path) -> Sequence[Found]:
        array = raw_array(path, self.several)
        return [] if array is None else [Found(None, "", array.astype(np.float32))]


def scan_findings(source: Source, data: Data, effort: Effort) -> list[Finding]:
    """Headers and pictures; see the module docstring."""
    declared = source.declared
    if isinstance(declared, PairsSource) and isinstance(data, PairData):
        return scan_findings(replace(source, declared=declared.image), data.pixels, effort)
    if isinstance(declared, NpzSource):
        return _text_findings(*_array_lines(source, declared))
    if not isinstance(declared, FolderSource):
        return []
    files = evenly([file for file in list_files(declared, source.folder) if file.inside], _MOST)
    look = _Header(
        axis=declared.axis if isinstance(declared, NiftiSource) else "axial",
        id_is_read=declared.patient_from == "header",
        as_dicom=isinstance(declared, DicomSource | WaveformSource),
    )
    entries: Counter[str] = Counter()
    holding, closed = [], []
    spacings: dict[str, Spacing] = {}
    for file, found in decode_all(files, look, Bounds.of(declared), workers=effort.workers):
        if isinstance(found, Fault):
            closed.append(file.name)
            continue
        names = [each.name for each in found if each.name]
        entries.update(names)
        holding += [file.name] if names else []
        for each in found:
            if not each.name and not isinstance(each.content, Fault):
                rows, columns, slices = map(float, each.content)
                spacings[file.name] = (rows, columns, slices)
    looked, places = 0, []
    volume = nifti_decoder(declared, data) if isinstance(declared, NiftiSource) and isinstance(data, ImageData) else None
    pictures = files if data.kind == "image" else []
    for file, found in decode_all(pictures, _Lines(volume), Bounds.of(declared), workers=effort.workers):
        if not isinstance(found, Fault) and found:
            looked += 1
            places += [file.name] if np.any(found[0].content) else []
    return [
        *_text_findings(looked, places),
        *spacing_findings(spacings, len(files)),
        *rate_findings(source, data, effort),
        *_header_findings(entries, holding, len(files)),
        *_closed_findings(closed, len(files)),
    ]


def _header_findings(entries: Counter[str], holding: list[str], of: int) -> list[Finding]:
    if not holding:
        return []
    remedy = "no header enters a study; where the files themselves must not name patients, de-identify them with your own tool"
    what = "headers that hold " + ", ".join(f"{name} ({count})" for name, count in entries.most_common())
    return [Finding("headers", what, remedy, len(holding), of, tuple(holding[:MOST_PLACES]), Weight.NOTE)]


def _closed_findings(closed: list[str], of: int) -> list[Finding]:
    if not closed:
        return []
    what = "headers that could not be searched"
    remedy = "see whether the reader names them, too; what stands in them is not known"
    return [Finding("headers", what, remedy, len(closed), of, tuple(closed[:MOST_PLACES]), Weight.NOTE)]


def raw_of(file: Listed, declared: FolderSource, effort: Effort) -> npt.NDArray[np.float64] | None:
    """What is in one file, of frames or pages the first that is read; None where it is no numbers or cannot be decoded."""
    read = (
        declared.frames
        if isinstance(declared, DicomSource)
        else declared.pages
        if isinstance(declared, PicturesSource)
        else None
    )
    ((_, found),) = decode_all([file], _Raw(read), Bounds.of(declared), workers=min(1, effort.workers))
    if isinstance(found, Fault) or not found or isinstance(found[0].content, Fault):
        return None
    return np.asarray(found[0].content, np.float64)


def _array_lines(source: Source, declared: NpzSource) -> tuple[int, list[str]]:
    (path,) = source.files()
    images = load_fields(path, declared.path, (declared.image_field,))[declared.image_field]
    places = evenly(range(len(images)), _MOST)
    return len(places), [f"image {place + 1} of {declared.path}" for place in places if text_lines(images[place])]


def _text_findings(looked: int, places: list[str]) -> list[Finding]:
    if not places:
        return []
    remedy = (
        "look at these pictures; where a name or a date is burnt in, blank it with your own tool before the study: no reader "
        "does it. This search misses text, too"
    )
    what = "pictures whose border looks as if it held lines of text"
    return [Finding("burnt-in text", what, remedy, len(places), looked, tuple(places[:MOST_PLACES]))]
