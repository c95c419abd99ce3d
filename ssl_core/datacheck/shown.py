"""Step 1 of 12: one record as it lies in its file, beside what the study would see of it.

Comes in: a source, the plan's data and what was read of it. Goes out: `Shown`, patient data, for the eyes of the site's staff
alone. The record is the first of the patient that is asked for, else of the first patient with a good one; of pairs the first
image with a report, and both. Raises `ConfigError` where that patient has no record. `before` is None where the file's format
cannot be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared import NpzSource
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.folder_files import Listed, list_files
from ssl_core.data.npz import load_fields
from ssl_core.data.pairs import LinkedImage, linked_images
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Effort, Fault, Reading
from ssl_core.data.source import Source, read_records
from ssl_core.data.table import words_of
from ssl_core.data.words import encode, split
from ssl_core.datacheck.before import BEFORE, Before, cells_of_file, picture_of_file, text_of_file, text_of_row
from ssl_core.datacheck.measurements import Measurements
from ssl_core.errors import ConfigError
from ssl_core.spec.data import Data, ImageData, PairData, TableData, TextData

_MOST_TRIED = 50


@dataclass(frozen=True, slots=True)
class Shown:
    """A record of `patient`: as it lies in its file, and float32 or int32 as it is trained on.

    `words`: the words of a text that are read; `report`: of a pair, whose image this is.
    """

    patient: str = field(repr=False)
    before: Before = field(repr=False)
    after: npt.NDArray[np.float32] | npt.NDArray[np.int32] = field(repr=False)
    words: tuple[str, ...] = field(default=(), repr=False)
    report: Shown | None = field(default=None, repr=False)


def show(source: Source, data: Data, reading: Reading, patient: str | None, effort: Effort) -> Shown:
    """One record before and after preparation; see the module docstring."""
    wanted = None if patient is None else unit_id(patient)
    if wanted is not None and wanted not in reading.owners:
        raise ConfigError("no record of this patient was read", field="--patient", remedy="write the id as the source does")
    known = frozenset(reading.owners)
    if isinstance(source.declared, PairsSource) and isinstance(data, PairData):
        return _of_pairs(source, source.declared, data, wanted, known, effort)
    if isinstance(source.declared, FolderSource):
        return _of_folder(source, source.declared, data, wanted, known, effort)
    owner, row = _row(reading, wanted)
    before = BEFORE.get(source.declared.kind)
    return _shown(owner, None if before is None else before(source, data, owner, effort), np.array(reading.records[row]), data)


def _shown(owner: str, before: Before, after: npt.NDArray[np.float32] | npt.NDArray[np.int32], data: Data) -> Shown:
    if isinstance(before, tuple):
        before = tuple((_written(one), _written(other)) for one, other in before)
    if isinstance(before, Measurements):
        before = replace(before, rows=tuple((_written(a), _written(b), _written(c), said) for a, b, c, said in before.rows))
    if not isinstance(data, TextData) or not isinstance(before, str):
        return Shown(owner, before, after)
    text = _written(before)
    return Shown(owner, text, after, tuple(split(text)[: data.words]))


def _written(text: str) -> str:
    """Bytes that are no UTF-8 stand in a text as lone surrogates, which no page can hold."""
    return text.encode(errors="replace").decode()


def _row(reading: Reading, wanted: str | None) -> tuple[str, int]:
    """The first record of the patient, or the first record of somebody that is no padding."""
    for row, owner in enumerate(reading.owners):
        if owner == wanted or (wanted is None and _good(reading.records[row])):
            first = reading.owners.index(owner)
            return owner, first
    raise ConfigError("no record that can be shown was read", field="--patient", remedy="correct the files first")


def _good(record: npt.NDArray[np.generic]) -> bool:
    return bool((record != record.flat[0]).any())


def _of_folder(
    source: Source, declared: FolderSource, data: Data, wanted: str | None, known: frozenset[str], effort: Effort
) -> Shown:
    for file in _tried(source, declared, wanted, known):
        # Read by the site's own reader, which takes patterns of names: files of this name in other folders come along. Whose
        # may be shown is `known`: a file without a patient of the declared part is no fault here.
        within = declared.model_copy(update={"files": (escape(file.path.name),), "split": None, "part": None})
        if declared.patient_from == "header":
            below = file.path.parent.relative_to((source.folder / declared.path).resolve())
            within = within.model_copy(update={"path": (PurePosixPath(declared.path) / below.as_posix()).as_posix()})
        alone = replace(source, declared=within)
        reading = read_records(alone, data, effort)
        same = sum(each.inside and each.owner == file.owner for each in list_files(within, source.folder))
        owner = wanted or file.owner or next((each for each in reading.owners if each in known), None)
        if owner in reading.owners:
            after = np.array(reading.records[reading.owners.index(owner)])
            if wanted is None and not _good(after):
                continue
            # Of several files of one name, in folders below one another, it is not known of which the record is.
            before = None if same != 1 else _in_file(file, declared, data, owner, effort)
            return _shown(owner, before, after, data)
    raise _not_found()


def _in_file(file: Listed, declared: FolderSource, data: Data, owner: str, effort: Effort) -> Before:
    asked = owner if declared.patient_from == "header" else None
    if isinstance(data, TextData):
        return text_of_file(file, declared, asked, effort)
    if isinstance(data, TableData) and isinstance(declared, FhirSource):
        return cells_of_file(file, declared, data, asked, effort)
    return picture_of_file(file, declared, data, effort)


def _tried(source: Source, declared: FolderSource, wanted: str | None, known: frozenset[str]) -> Sequence[Listed]:
    """The first files that may hold a record of the patient."""
    files = [
        file for file in list_files(declared, source.folder) if file.inside and (file.owner is None or file.owner in known)
    ]
    if declared.patient_from != "header" and wanted is not None:
        files = [file for file in files if file.owner == wanted]
    return files[:_MOST_TRIED]


def _not_found() -> ConfigError:
    return ConfigError(
        "no file of this patient was found", field="--patient", limit=f"the first {_MOST_TRIED} files",
        remedy="name a patient of one of the first files, or none",
    )  # fmt: skip


def _of_pairs(
    source: Source, declared: PairsSource, data: PairData, wanted: str | None, known: frozenset[str], effort: Effort
) -> Shown:
    image_source = replace(source, declared=declared.image)
    files = _tried(image_source, declared.image, wanted, known) if isinstance(declared.image, FolderSource) else [None]
    texts = replace(source, declared=declared.text)
    for file in files:
        for place, image in enumerate(linked_images(source, declared, data.pixels, effort, None if file is None else [file])):
            if image.owner is None or image.owner not in known or image.study is None or isinstance(image.content, Fault):
                continue
            text = text_of_row(texts, image.owner, effort, image.study) if wanted in (None, image.owner) else None
            words = words_of(text)
            if text is not None and not isinstance(words, Fault):
                report = _shown(image.owner, text, encode([words], data.words)[0], data.words)
                return replace(_shown_image(image_source, data.pixels, file, place, image, effort), report=report)
    raise _not_found()


def _shown_image(source: Source, data: ImageData, file: Listed | None, place: int, image: LinkedImage, effort: Effort) -> Shown:
    declared = source.declared
    if isinstance(image.content, Fault) or image.owner is None:
        raise TypeError("a good image of a known patient is shown")
    before: Before = None
    if file is not None and isinstance(declared, FolderSource):
        before = picture_of_file(file, declared, data, effort)
    elif isinstance(declared, NpzSource):
        (path,) = source.files()
        before = np.asarray(load_fields(path, declared.path, (declared.image_field,))[declared.image_field][place], np.float64)
    return Shown(image.owner, before, np.asarray(image.content, np.float32))
