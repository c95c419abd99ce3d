"""Step 1 of 12: reader of images with their reports: each image joined to the report of its study and its patient.

Comes in: a `PairsSource` and the plan's data. Goes out: a `Reading`, one record an image that has a report, float32 [pixels +
words * codes] (pair_rows.py); the first tally is that of the images, the others are those of the reports' files. The link is
(patient, study): what is read of a patient depends on his images and his reports alone. An image of a study whose report
stands under another patient is never joined to it, and is a fault. Images without a report and reports without an image are
left out and counted. A bad image with a report, and an image whose report has no word, are a record of padding. Of several
reports of one study and patient the first is read, as of any table. Raises `DataError` for what concerns a whole file or
folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ssl_core.data.declared import NpzSource, TableSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.folder_files import Listed, read_index
from ssl_core.data.gathering import found_in, owner_of, record_of
from ssl_core.data.image_folders import Study, decode_images
from ssl_core.data.images import standardise
from ssl_core.data.npz import check_images, fields_of, ids_of, names_of, owners_of
from ssl_core.data.npz_arrays import NpzArrays
from ssl_core.data.pair_rows import Codes, joined, padding_row
from ssl_core.data.reading import Effort, Fault, Reading, Tally, row_id
from ssl_core.data.rows import Rows, Values
from ssl_core.data.table import read_table
from ssl_core.spec.data import ImageData, PairData, TextData

if TYPE_CHECKING:
    # source.py lists this reader, so it cannot be imported first.
    from ssl_core.data.source import Source


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """One image and its study, by the name of its file or its row; `order`: its place among its patient's; `record`: its id."""

    name: str = field(repr=False)
    owner: str | None = field(repr=False)
    study: str | None = field(repr=False)
    order: str = field(repr=False)
    content: Values | Fault = field(repr=False)
    record: str = field(default="", repr=False)


@dataclass(slots=True)
class _Reports:
    """Words of reports int32 [words, codes] by (patient, study), the file of each, and who has a report of a study."""

    words: dict[tuple[str, str], Codes] = field(default_factory=dict, repr=False)
    of: dict[tuple[str, str], Tally] = field(default_factory=dict, repr=False)
    studies: set[str] = field(default_factory=set, repr=False)
    tallies: list[Tally] = field(default_factory=list)


def read_pairs(source: Source, data: PairData, effort: Effort) -> Reading:
    """All pairs; see the module docstring."""
    declared = cast("PairsSource", source.declared)
    reports = _read_reports(declared.text, replace(source, declared=declared.text).files(), data.words, effort)
    tally = Tally(declared.image.path)
    owners: list[str] = []
    order: list[str] = []
    names: list[str] = []
    used: set[tuple[str, str]] = set()
    blank = padding_row(data)
    with Rows(blank, effort.scratch) as rows:
        for image in linked_images(source, declared, data.pixels, effort):
            tally.rows += 1
            link = (image.owner or "", image.study or "")
            words = reports.words.get(link)
            fault = _fault(image, reports, words)
            if fault is not None:
                tally.add_bad_file(image.name, fault)
            if words is None or fault is Fault.WRONG_KIND:
                tally.unpaired += fault is None
                continue
            used.add(link)
            owners.append(link[0])
            order.append(image.order)
            names.append(image.record)
            rows.add(blank if isinstance(image.content, Fault) else joined(image.content.astype("float32"), words, data))
        for link in reports.words.keys() - used:
            reports.of[link].unpaired += 1
        return Reading(owners, order, rows.array(), (tally, *reports.tallies), names)


def _fault(image: LinkedImage, reports: _Reports, words: Codes | None) -> Fault | None:
    if isinstance(image.content, Fault):
        return image.content
    if image.owner is None:
        return Fault.NO_PATIENT
    if image.study is None:
        return Fault.NO_STUDY
    return Fault.OTHER_PATIENT if words is None and image.study in reports.studies else None


def _read_reports(source: TableSource, files: tuple[Path, ...], data: TextData, effort: Effort) -> _Reports:
    found = _Reports()
    for name, path in zip(source.paths, files, strict=True):
        reading = read_table(source.model_copy(update={"path": name}), (path,), data, effort)
        (tally,) = reading.tallies
        found.tallies.append(tally)
        for owner, study, words in zip(reading.owners, reading.order, cast("Codes", reading.records), strict=True):
            if not study:
                # A row without a word is a fault already.
                tally.faults[Fault.NO_STUDY] += bool(words[0, 0] >= 0)
            elif (owner, study) in found.words:
                tally.repeated += 1
            else:
                found.words[owner, study], found.of[owner, study] = words, tally
                found.studies.add(study)
    return found


def linked_images(
    source: Source, declared: PairsSource, data: ImageData, effort: Effort, files: Sequence[Listed] | None = None
) -> Iterator[LinkedImage]:
    """Every image of the source, or of `files` of its folder, in order."""
    part = replace(source, declared=declared.image)
    if isinstance(declared.image, NpzSource):
        (path,) = part.files()
        yield from _of_array(declared.image, declared.study_field, path, data)
        return
    element: Study = "AccessionNumber" if declared.study_from == "accession" else "StudyInstanceUID"
    decoded = decode_images(part, data, effort, element, files)
    study_of = _study_of(declared, declared.image, source.folder)
    for file, result in decoded:
        for found in found_in(result):
            study = study_of(file.name) if study_of else row_id(found.study)
            order = found.name or file.name
            yield LinkedImage(file.name, owner_of(file, found), study, order, found.content, record_of(file, found))


def _of_array(source: NpzSource, study_field: str, path: Path, data: ImageData) -> Iterator[LinkedImage]:
    with NpzArrays(path, source.path, source.largest) as arrays:
        check_images(source, arrays.form(source.image_field), data)
        fields = arrays.read(fields_of(source, source.image_field, study_field))
    images = fields[source.image_field]
    owners = owners_of(source, fields[source.patient_field], len(images))
    studies = ids_of(source.path, "study_field", study_field, fields[study_field], len(images))
    names = names_of(source, fields, np.ones(len(images), np.bool_)) or [""] * len(images)
    records, broken, blank = standardise(images, data)
    for row, content in enumerate(records):
        fault = Fault.NOT_FINITE if broken[row] else Fault.BLANK if blank[row] else None
        # Rows of one patient keep their order.
        yield LinkedImage(f"row {row + 1}", owners[row] or None, studies[row] or None, "", fault or content, names[row])


def _study_of(declared: PairsSource, image: FolderSource, folder: Path) -> Callable[[str], str | None] | None:
    """File name below the declared folder -> study; None where the file's own header says it."""
    if declared.study_from == "index" and image.index is not None:
        columns = ("file_column", image.file_column), ("study_column", declared.study_column)
        return read_index(folder, image.index, *columns, "study").get
    if declared.study_pattern is None:
        return None
    pattern = re.compile(declared.study_pattern)

    def matched(name: str) -> str | None:
        match = pattern.search(name)
        return row_id(match["study"] or "") if match else None

    return matched
