"""Step 1 of 12: every text that a source gives, searched for what looks like a person; places, never the text.

Comes in: a `Source`, the plan's data, label files. Goes out: findings. NOTES: the texts that a study reads; each kind of source
that gives texts stands there. CODES: what stands where a code or a level is asked for and is none that is declared; it counts
where it is free text, with letters and spaces (or an @), since a code may well be a long number. Of such a text a study sees
only that it is not declared. A place is a file (a database's table) and the line, row, record or report in it, from 1.

Files of a folder are searched in workers, as a reader decodes them (decoding.py). What comes back of a file are numbers, int32
[1 + found, 1 + patterns]: a row with how many texts there are, then of each in which something was found its number and a flag
a pattern.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ssl_core.data.cell_rows import cell_rows
from ssl_core.data.csv_rows import csv_rows, open_text
from ssl_core.data.database import connected
from ssl_core.data.declared import ColumnsSource, EventsSource, LinesSource, TableSource
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.data.declared_xml import XmlSource
from ssl_core.data.decoding import Bounds, Decoder, Found, decode_all
from ssl_core.data.fhir import report_texts, undeclared_texts
from ssl_core.data.folder_files import list_files
from ssl_core.data.label_table import read_label_table
from ssl_core.data.omop import note_rows
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source
from ssl_core.data.xml_files import parse_xml
from ssl_core.data.xml_reports import records_in, text_in
from ssl_core.datacheck.findings import MOST_PLACES, Finding, Weight
from ssl_core.datacheck.identifiers import KINDS, Places, kinds_in
from ssl_core.spec.data import Data, EventData, PairData, TableData

_NO_TEXT = (Fault.OUTSIDE, Fault.EMPTY)
_READ_PERHAPS = (Fault.TOO_SLOW, Fault.TOO_LARGE, Fault.CRASHED)


@dataclass(slots=True)
class Search:
    """What was found so far, how many files of a folder were opened, and those that could not be searched."""

    places: Places = field(default_factory=Places)
    files: int = 0
    unread: list[str] = field(default_factory=list)
    weight: Weight = Weight.NOTE


def note_findings(source: Source, data: Data, effort: Effort, labels: Sequence[Path] = ()) -> list[Finding]:
    """What looks like a person in the texts of a source and of label files; see the module docstring."""
    if isinstance(source.declared, PairsSource) and isinstance(data, PairData):
        return note_findings(replace(source, declared=source.declared.text), data.words, effort, labels)
    out = _label_findings(labels)
    if data.kind == "text":
        search = Search()
        NOTES[source.declared.kind](source, effort, search)
        remedy = (
            "de-identify the notes with your own tool: the study's noise protects a patient, not a name that many notes hold"
        )
        out += search.places.findings("notes", "notes with what looks like", remedy)
        return out + _unread_findings(search)
    if source.declared.kind in CODES:
        search = Search()
        CODES[source.declared.kind](source, data, effort, search)
        remedy = "a study sees of such a text only that it is not declared: write codes there, or leave the column out"
        what = "texts where a code is asked for, with what looks like"
        out += search.places.findings("codes", what, remedy, Weight.NOTE)
        return out + _unread_findings(search)
    return out


def _label_findings(labels: Sequence[Path]) -> list[Finding]:
    found = Places()
    for path in labels:
        table = read_label_table(path)
        for line, row in zip(table.lines, table.rows, strict=True):
            for name, cell in zip(table.header, row, strict=True):
                if name != "patient":
                    found.add(f"{path.name}, line {line}", kinds_in(cell) if _is_free(cell) else ())
    remedy = "labels never leave the site; keep numbers or short names of classes in a label file, nothing else"
    return found.findings("labels", "cells of label files with what looks like", remedy, Weight.NOTE)


def _unread_findings(search: Search) -> list[Finding]:
    if not search.unread:
        return []
    what = "files whose texts could not be searched"
    remedy = "see the bad records; a file that is none takes too long to search: raise seconds_a_file in the source file"
    return [Finding("notes", what, remedy, len(search.unread), search.files, tuple(search.unread[:MOST_PLACES]), search.weight)]


def _is_free(text: str) -> bool:
    words = text.split()
    return "@" in text or (len(words) > 1 and any(char.isalpha() for char in text))


# -- texts of tables


def _table(source: Source, effort: Effort, search: Search) -> None:
    declared = cast("TableSource", source.declared)
    if declared.format == "jsonl":
        for name, path in zip(declared.paths, source.files(), strict=True):
            with open_text(path, name) as stream:
                for number, text in _json_texts(declared.text_column, stream):
                    search.places.add(f"{name}, line {number}", kinds_in(text))
        return
    for place, (text,) in _cells(source, declared, effort, [("text_column", declared.text_column)]):
        search.places.add(place, kinds_in(text))


def _json_texts(column: str, stream: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # counted by the reader
        text = row.get(column) if isinstance(row, dict) else None
        if isinstance(text, str):
            yield number, text


def _cells(
    source: Source, declared: LinesSource, effort: Effort, columns: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of every row that a reader would trust."""
    for name, path in zip(declared.paths, source.files(), strict=True):
        if declared.format == "parquet":
            found = cell_rows(declared, path, name, columns, effort)
            yield from ((f"{name}, row {number}", row) for number, row in enumerate(found, start=1) if isinstance(row, list))
            continue
        with open_text(path, name) as stream:
            counted = _Counted(stream)
            rows = csv_rows(counted, name, columns, multiline=declared.multiline)
            yield from ((f"{name}, line {counted.line}", row) for row in rows if isinstance(row, list))


class _Counted:
    """Lines of a stream, and how many were taken: the last line of the row at hand."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.line = iter(lines), 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = next(self._lines)
        self.line += 1
        return text


def _events(source: Source, data: Data, effort: Effort, search: Search) -> None:
    declared, events = cast("EventsSource", source.declared), cast("EventData", data)
    known = set(events.vocabulary)
    for place, (code,) in _cells(source, declared, effort, [("code_column", declared.code_column)]):
        _add_code(search, place, code, known)


def _columns(source: Source, data: Data, effort: Effort, search: Search) -> None:
    declared, table = cast("ColumnsSource", source.declared), cast("TableData", data)
    wanted = [(f"columns.{each.name}", declared.columns.get(each.name, each.name)) for each in table.categorical]
    known = [{*each.levels, *declared.missing} for each in table.categorical]
    for place, cells in _cells(source, declared, effort, wanted):
        for cell, (_, column), levels in zip(cells, wanted, known, strict=True):
            _add_code(search, f"{place}, column {column}", cell, levels)


def _vitals(source: Source, data: Data, effort: Effort, search: Search) -> None:
    declared = cast("VitalsSource", source.declared)
    known = {name for names in declared.names for name in names}
    for place, (name,) in _cells(source, declared, effort, [("name_column", declared.name_column)]):
        _add_code(search, place, name, known)


def _add_code(search: Search, place: str, cell: str, known: set[str]) -> None:
    declared = unicodedata.normalize("NFC", cell).strip() in known or not _is_free(cell)
    search.places.add(place, () if declared else kinds_in(cell))


# -- texts of a database


def _notes_of_omop(source: Source, effort: Effort, search: Search) -> None:
    declared = cast("OmopSource", source.declared)
    with connected(declared, source.folder) as connection:
        for row in note_rows(connection, declared):
            # Of SQLite, whose columns hold anything: an id that is no number might itself be a name.
            place = f"note {row[4]}" if isinstance(row[4], int) else "note without a number"
            search.places.add(place, kinds_in(row[1]) if isinstance(row[1], str) else ())


# -- texts of files in folders


@dataclass(frozen=True, slots=True)
class _Searched:
    """Decoder: what was found in the texts of a file; see the module docstring."""

    texts: Callable[[Any, Path], Iterator[tuple[int, str]]]
    declared: FolderSource

    def __call__(self, path: Path) -> Sequence[Found]:
        rows, count = [], 0
        for number, text in self.texts(self.declared, path):
            count += 1
            if kinds := kinds_in(text):
                rows.append([number, *(kind in kinds for kind in KINDS)])
        return [Found(None, "", np.array([[count, *(0 for _ in KINDS)], *rows], np.int32))]


def _fhir_reports(declared: FhirSource, path: Path) -> Iterator[tuple[int, str]]:
    for found in report_texts(path, declared):
        if not isinstance(found, Fault) and isinstance(found[2], str):
            yield found[0] + 1, found[2]


def _fhir_values(declared: FhirSource, path: Path) -> Iterator[tuple[int, str]]:
    return ((number, text if _is_free(text) else "") for number, text in undeclared_texts(path, declared))


def _xml_records(declared: XmlSource, path: Path) -> Iterator[tuple[int, str]]:
    records = records_in(parse_xml(path.read_bytes()), declared)
    return ((number, text_in(record, declared)) for number, record in enumerate(records, start=1))


def _of_folder(texts: Callable[[Any, Path], Iterator[tuple[int, str]]], what: str) -> Callable[[Source, Effort, Search], None]:
    def search_files(source: Source, effort: Effort, search: Search) -> None:
        declared = cast("FolderSource", source.declared)
        decoder: Decoder = _Searched(texts, declared)
        files = list_files(declared, source.folder)
        for file, result in decode_all(files, decoder, Bounds.of(declared), workers=effort.workers):
            search.files += 1
            rows = _rows(result)
            if rows is None:
                search.unread += [] if result in _NO_TEXT else [file.name]
                if result in _READ_PERHAPS:
                    # A bound that searching met and reading may not: then a study reads what nobody searched.
                    search.weight = Weight.WARNING
                continue
            search.places.looked += rows[0][0] - len(rows[1:])
            for number, *flags in rows[1:]:
                kinds = [kind for kind, flag in zip(KINDS, flags, strict=True) if flag]
                search.places.add(f"{file.name}, {what} {number}", kinds)

    return search_files


def _rows(result: Sequence[Found] | Fault) -> list[list[int]] | None:
    """What `_Searched` told; None where the file could not be searched, or took its worker over."""
    content = result[0].content if not isinstance(result, Fault) and len(result) == 1 else Fault.UNREADABLE
    if isinstance(content, Fault) or content.dtype != np.int32 or content.ndim != 2:
        return None
    return cast("list[list[int]]", content.tolist()) if len(content) and content.shape[1] == 1 + len(KINDS) else None


_fhir_codes = _of_folder(_fhir_values, "observation")

NOTES: dict[str, Callable[[Source, Effort, Search], None]] = {
    "table": _table,
    "xml": _of_folder(_xml_records, "record"),
    "fhir": _of_folder(_fhir_reports, "report"),
    "omop": _notes_of_omop,
}
"""Kind of a source -> a search of the texts that a study reads."""

CODES: dict[str, Callable[[Source, Data, Effort, Search], None]] = {
    "events": _events,
    "columns": _columns,
    "vitals": _vitals,
    "fhir": lambda source, data, effort, search: _fhir_codes(source, effort, search),
}
"""Kind of a source -> a search of what stands where a code or a level is asked for."""
