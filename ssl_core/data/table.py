"""Step 1 of 12: reader of text tables (CSV with a header line, or JSON lines), UTF-8.

Comes in: a declared table and its resolved files. Goes out: a `Reading` with int32 [m, words, codes].
Raises `DataError` for what concerns a whole file: it cannot be opened, or lacks a declared column. What concerns one
row is counted. A row with more or fewer fields than the header may have shifted columns: its patient is not trusted.
Nor is a CSV record trusted that spans several lines, unless the source declares `multiline`: a quote that was lost
swallows the rows up to the next quote, and what is left can look like a record of one patient. All its lines are counted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ssl_core.data.declared import TableSource
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Fault, Reading, Span, Tally
from ssl_core.data.words import encode, split
from ssl_core.errors import DataError
from ssl_core.spec.data import TextData

Row = tuple[object, object, object]


def read_table(source: TableSource, files: tuple[Path, ...], data: TextData) -> Reading:
    """All records of `files`; see the module docstring."""
    owners: list[str] = []
    order: list[str] = []
    texts: list[list[str]] = []
    tallies = []
    seen: set[tuple[str, str]] = set()
    for name, path in zip(source.paths, files, strict=True):
        tally = Tally(name)
        tallies.append(tally)
        for row in _rows(source, name, path):
            if isinstance(row, Span):
                tally.add_span(row)
                continue
            tally.rows += 1
            if isinstance(row, Fault):
                tally.faults[row] += 1
                continue
            owner = _id(row[0])
            if owner is None:
                tally.faults[Fault.NO_PATIENT] += 1
                continue
            record = _id(row[2])
            if record is not None:
                if (owner, record) in seen:
                    tally.repeated += 1
                    continue
                seen.add((owner, record))
            words = _words(row[1])
            if isinstance(words, Fault):
                tally.faults[words] += 1
            owners.append(owner)
            order.append(record or "")
            texts.append([] if isinstance(words, Fault) else words)
    return Reading(owners, order, encode(texts, data), tuple(tallies))


def _id(cell: object) -> str | None:
    """A patient or record id: a non-empty text, or a whole number (JSON)."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, str) and _clean(cell):
        return unit_id(cell) or None
    return None


def _words(cell: object) -> list[str] | Fault:
    if not isinstance(cell, str):
        return Fault.SHAPE
    if not _clean(cell):
        return Fault.UNREADABLE
    return split(cell) or Fault.NO_WORDS


def _clean(text: str) -> bool:
    """False where bytes were no UTF-8 (they came in as lone surrogates)."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _rows(source: TableSource, name: str, path: Path) -> Iterator[Row | Fault | Span]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield from _csv(source, name, stream) if source.format == "csv" else _jsonl(source, name, stream)
    except OSError as error:
        raise DataError("a declared file cannot be read", field="path", value=name, remedy=error.strerror) from error


def _csv(source: TableSource, name: str, stream: TextIO) -> Iterator[Row | Fault | Span]:
    reader = csv.reader(stream, strict=True)
    try:
        header = next(reader, [])
    except csv.Error:
        header = []
    if reader.line_num > 1 and not source.multiline:
        raise DataError(
            f"the header of file {name!r} spans several lines",
            field="multiline",
            value=f"lines 1-{reader.line_num}",
            limit="one line",
            remedy="correct its quotes, or declare multiline = true",
        )
    places = {column: _place(header, column, key, name) for key, column in _columns(source)}
    wanted = [places.get(c) for c in (source.patient_column, source.text_column, source.record_column) if c]
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            spans = reader.line_num > first
            fault = Fault.UNREADABLE if source.multiline or not spans else Fault.LINES
            yield Span(first, reader.line_num, fault) if spans else fault
            continue
        if reader.line_num > first and not source.multiline:
            yield Span(first, reader.line_num, Fault.LINES)
            continue
        if not row:
            continue
        if len(row) != len(header):
            yield Fault.SHAPE
            continue
        cells = [row[place] for place in wanted if place is not None]
        yield cells[0], cells[1], cells[2] if len(cells) > 2 else None


def _place(header: list[str], column: str, key: str, name: str) -> int:
    if header.count(column) != 1:
        what = "twice" if column in header else "missing"
        raise DataError(f"column {column!r} is {what} in file {name!r}", field=key, value=column)
    return header.index(column)


def _columns(source: TableSource) -> list[tuple[str, str]]:
    pairs = [("patient_column", source.patient_column), ("text_column", source.text_column)]
    return [*pairs, ("record_column", source.record_column)] if source.record_column else pairs


def _jsonl(source: TableSource, name: str, stream: TextIO) -> Iterator[Row | Fault]:
    present: set[str] = set()
    objects = 0
    for line in stream:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield Fault.UNREADABLE
            continue
        if not isinstance(row, dict):
            yield Fault.SHAPE
            continue
        objects += 1
        present.update(column for _, column in _columns(source) if column in row)
        record = row.get(source.record_column) if source.record_column else None
        yield row.get(source.patient_column), row.get(source.text_column), record
    for key, column in _columns(source):
        if objects and column not in present:
            raise DataError(f"column {column!r} is missing in file {name!r}", field=key, value=column)
