"""Step 1 of 12: a patient's first record as it lies in its file: numbers, a text, or the cells of a row.

Comes in: a source, the plan's data, the id of a patient whose records were read. Goes out: real [...], a text, pairs of texts
(for a table column and cell, for events time and code) or `Measurements`; None where it has no such form. It is patient data,
for the page of `choral site data check` alone. Texts of files in folders come out of a worker (decoding.py), as code points; a
row's cells as one JSON text. BEFORE: kinds of sources that are no folder; TEXTS: the texts of a file of a folder, each with
whose it says it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ssl_core.data.cell_rows import cell_rows
from ssl_core.data.database import connected
from ssl_core.data.declared import ColumnsSource, EventsSource, NpzSource, SignalSource, TableSource
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import NiftiSource
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.declared_xml import XmlSource
from ssl_core.data.decoding import Bounds, Found, decode_all
from ssl_core.data.events import Event, event_of
from ssl_core.data.fhir import as_written, observation_rows, report_texts
from ssl_core.data.folder_files import Listed
from ssl_core.data.image_folders import nifti_decoder
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.npz import load_fields, owners_of
from ssl_core.data.omop import note_order, note_rows, visit_rows
from ssl_core.data.reading import Effort, Fault, row_id
from ssl_core.data.source import Source
from ssl_core.data.table import table_rows
from ssl_core.data.xml_files import parse_xml
from ssl_core.data.xml_reports import owner_of, records_in, text_in
from ssl_core.datacheck.measurements import Measurements, measurements
from ssl_core.datacheck.scan import raw_of
from ssl_core.spec.data import Data, EventData, ImageData, TableData

Array = npt.NDArray[np.float64]
Cells = tuple[tuple[str, str], ...]
Before = Array | str | Cells | Measurements | None
Texts = Callable[[Any, Path], Iterator[tuple[str | None, str]]]


def text_of_row(source: Source, owner: str, effort: Effort, record: str | None = None) -> str | None:
    """The text of the first row of a table that is a patient's and, where one is given, of a record."""
    declared = cast("TableSource", source.declared)
    for name, path in zip(declared.paths, source.files(), strict=True):
        for row in table_rows(declared, name, path, effort):
            if isinstance(row, tuple) and row_id(row[0]) == owner and (record is None or row_id(row[2]) == record):
                return row[1] if isinstance(row[1], str) else None
    return None


def text_of_file(file: Listed, declared: FolderSource, owner: str | None, effort: Effort) -> str | None:
    """The first text of one file or, where an owner is given, the first that names him."""
    texts = TEXTS.get(declared.kind)
    return None if texts is None else _first_text(file, texts, declared, owner, effort)


def cells_of_file(file: Listed, declared: FhirSource, data: TableData, owner: str | None, effort: Effort) -> Cells | None:
    """Columns and cells, as written, of the first row of one file or, where an owner is given, of the first that is his."""
    text = _first_text(file, partial(_fhir_row, data=data), declared, owner, effort)
    try:
        cells = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    names = [column.name for column in data.columns]
    # The worker's word is taken for what a page may hold, and for nothing else.
    if not isinstance(cells, list) or len(cells) != len(names) or not all(isinstance(cell, str) for cell in cells):
        return None
    return tuple(zip(names, cells, strict=True))


def _first_text(file: Listed, texts: Texts, declared: FolderSource, owner: str | None, effort: Effort) -> str | None:
    ((_, found),) = decode_all([file], _FirstText(texts, declared, owner), Bounds.of(declared), workers=min(1, effort.workers))
    if isinstance(found, Fault) or not found or isinstance(found[0].content, Fault):
        return None
    return "".join(chr(point) for point in found[0].content.tolist() if 0 <= point < 0x110000)


def picture_of_file(file: Listed, declared: FolderSource, data: Data, effort: Effort) -> Array | None:
    """What is in one file, as numbers; of a volume the slice, or the patch, that is its first record."""
    if not isinstance(declared, NiftiSource) or not isinstance(data, ImageData):
        return raw_of(file, declared, effort)
    decoder = _FirstPicture(nifti_decoder(declared, data))
    ((_, found),) = decode_all([file], decoder, Bounds.of(declared), workers=min(1, effort.workers))
    if isinstance(found, Fault) or not found or isinstance(found[0].content, Fault):
        return None
    return np.asarray(found[0].content, np.float64)


@dataclass(frozen=True, slots=True)
class _FirstPicture:
    """Decoder: the first slice or patch as it is in the file, float32 [h, w]; nothing where there is none."""

    decoder: NiftiDecoder

    def __call__(self, path: Path) -> Sequence[Found]:
        pictures = self.decoder.pictures(path)
        return [] if isinstance(pictures, Fault) else [Found(None, "", next(pictures).astype(np.float32))]


@dataclass(frozen=True, slots=True)
class _FirstText:
    """Decoder: code points of the first text, int32 [characters]; nothing where there is none."""

    texts: Texts
    declared: FolderSource
    owner: str | None

    def __call__(self, path: Path) -> Sequence[Found]:
        for owner, text in self.texts(self.declared, path):
            if self.owner is None or row_id(owner) == self.owner:
                return [Found(None, "", np.array(list(map(ord, text)), np.int32))]
        return []


def _fhir(declared: FhirSource, path: Path) -> Iterator[tuple[str | None, str]]:
    for found in report_texts(path, declared):
        if not isinstance(found, Fault):
            yield found[1].owner, found[2] if isinstance(found[2], str) else ""


def _xml(declared: XmlSource, path: Path) -> Iterator[tuple[str | None, str]]:
    for record in records_in(parse_xml(path.read_bytes()), declared):
        yield owner_of(record, declared), text_in(record, declared)


def _fhir_row(declared: FhirSource, path: Path, *, data: TableData) -> Iterator[tuple[str | None, str]]:
    for row in observation_rows(path, declared, data):
        if not isinstance(row, Fault):
            yield row.owner, json.dumps(["" if part is None else as_written(part) for part in row.parts])


TEXTS: dict[str, Texts] = {"fhir": _fhir, "xml": _xml}


def _table(source: Source, data: Data, owner: str, effort: Effort) -> Before:
    return text_of_row(source, owner, effort)


def _omop(source: Source, data: Data, owner: str, effort: Effort) -> Before:
    declared = cast("OmopSource", source.declared)
    with connected(declared, source.folder) as base:
        if isinstance(data, TableData):
            for person, _, _, _, taken in visit_rows(base, declared, data):
                if row_id(person) == owner:
                    written = ("" if event is None else event.written for event in taken)
                    return tuple(zip((column.name for column in data.columns), written, strict=True))
            return None
        mine = (row for row in note_rows(base, declared) if row_id(row[0]) == owner)
        first = min(mine, key=note_order, default=None)
    return first[1] if first is not None and isinstance(first[1], str) else None


def _npz(source: Source, data: Data, owner: str, effort: Effort) -> Before:
    declared = cast("NpzSource | SignalSource", source.declared)
    content = declared.signal_field if isinstance(declared, SignalSource) else declared.image_field
    (path,) = source.files()
    fields = load_fields(path, declared.path, (content, declared.patient_field))
    owners = owners_of(declared, fields[declared.patient_field], len(fields[content]))
    return np.asarray(fields[content][owners.index(owner)], np.float64)


def _columns(source: Source, data: Data, owner: str, effort: Effort) -> Before:
    declared, table = cast("ColumnsSource", source.declared), cast("TableData", data)
    names = [column.name for column in table.columns]
    columns = [("patient_column", declared.patient_column), *((f"columns.{n}", declared.columns.get(n, n)) for n in names)]
    for name, path in zip(declared.paths, source.files(), strict=True):
        for row in cell_rows(declared, path, name, columns, effort):
            if isinstance(row, list) and row_id(row[0]) == owner:
                return tuple(zip(names, row[1:], strict=True))
    return None


def _events(source: Source, data: Data, owner: str, effort: Effort) -> Before:
    """(time, code) as written, in the order in which they are read: those of the patient's first record."""
    declared, events = cast("EventsSource", source.declared), cast("EventData", data)
    columns = [("patient_column", declared.patient_column), ("time_column", declared.time_column)]
    columns += [("code_column", declared.code_column)]
    columns += [("record_column", declared.record_column)] if declared.record_column else []
    numbers = {code: number for number, code in enumerate(events.vocabulary)}
    first: str | None = None
    found: list[tuple[Event, tuple[str, str]]] = []
    for name, path in zip(declared.paths, source.files(), strict=True):
        for row in cell_rows(declared, path, name, columns, effort):
            if not isinstance(row, list) or row_id(row[0]) != owner:
                continue
            record = (row_id(row[3]) or "") if len(row) > 3 else ""
            first = record if first is None else first
            event = event_of(row[1], row[2], numbers)
            if record == first and not isinstance(event, Fault):
                found.append((event, (row[1], row[2])))
    found.sort(key=lambda each: each[0])
    return tuple(cells for _, cells in found[: events.events])


BEFORE: dict[str, Callable[[Source, Data, str, Effort], Before]] = {
    "table": _table,
    "npz": _npz,
    "signals": _npz,
    "columns": _columns,
    "events": _events,
    "omop": _omop,
    "vitals": measurements,
}
