"""Step 1 of 12: reader of text tables (CSV with a header line, JSON lines, Parquet), UTF-8.

Comes in: a declared table and its resolved files. Goes out: a `Reading` with int32 [m, words, codes].
Where the source names a column of times, a patient's records stand in the order of theirs, and a row without one is bad.
Raises `DataError` for what concerns a whole file: it cannot be opened, or lacks a declared column. What concerns one
row is counted; which rows of a CSV file are trusted: csv_rows.py; how a Parquet cell is read: parquet_rows.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from ssl_core.data.cell_rows import at_most, cell_rows, check_size
from ssl_core.data.csv_rows import open_text
from ssl_core.data.declared import TableSource
from ssl_core.data.reading import Effort, Fault, Reading, Span, Tally, is_clean, owned, row_id
from ssl_core.data.rows import Rows
from ssl_core.data.times import in_order, microseconds
from ssl_core.data.words import encode, split
from ssl_core.errors import DataError
from ssl_core.spec.data import TextData

Row = tuple[object, object, object, object]

_AT_ONCE = 1024


def read_table(source: TableSource, files: tuple[Path, ...], data: TextData, effort: Effort) -> Reading:
    """All records of `files`; see the module docstring."""
    owners: list[str] = []
    order: list[str] = []
    names: list[str] = []
    tallies = []
    seen: set[tuple[str, str]] = set()
    waiting: list[list[str]] = []
    with Rows(np.full(data.shape, -1, np.int32), effort.scratch) as rows:
        for name, path in zip(source.paths, files, strict=True):
            tally = Tally(name)
            tallies.append(tally)
            for owner, row in owned(table_rows(source, name, path, effort), tally):
                record = row_id(row[2])
                if record is not None:
                    if (owner, record) in seen:
                        tally.repeated += 1
                        continue
                    seen.add((owner, record))
                when = _time_of(row[3], source)
                words = when if isinstance(when, Fault) else words_of(row[1])
                if isinstance(words, Fault):
                    tally.faults[words] += 1
                owners.append(owner)
                names.append(record or "")
                order.append(names[-1] if isinstance(when, Fault | None) else f"{in_order(when)} {names[-1]}")
                waiting.append([] if isinstance(words, Fault) else words[: data.words])
                if len(waiting) == _AT_ONCE:
                    _encode_to(rows, waiting, data)
        _encode_to(rows, waiting, data)
        return Reading(owners, order, rows.array(), tuple(tallies), names)


def _time_of(cell: object, source: TableSource) -> int | Fault | None:
    """Microseconds; None where the source names no column of times."""
    if source.time_column is None:
        return None
    number = isinstance(cell, int | float) and not isinstance(cell, bool) and source.time_unit != "iso"
    return microseconds(cell if isinstance(cell, str) else repr(cell) if number else "", source.time_unit)


def _encode_to(rows: Rows, texts: list[list[str]], data: TextData) -> None:
    """The texts that wait, encoded together: a word that stands in several of them is hashed once."""
    for record in encode(texts, data):
        rows.add(record)
    texts.clear()


def words_of(cell: object) -> list[str] | Fault:
    if not isinstance(cell, str):
        return Fault.SHAPE
    if not is_clean(cell):
        return Fault.UNREADABLE
    return split(cell) or Fault.NO_WORDS


def table_rows(source: TableSource, name: str, path: Path, effort: Effort) -> Iterator[Row | Fault | Span]:
    """Patient, text, record and time of every row of one file, as they stand there."""
    if source.format != "jsonl":
        yield from (_row(cells, source) for cells in cell_rows(source, path, name, _columns(source), effort))
        return
    with open_text(path, name) as stream:
        check_size(source, stream, name)
        yield from at_most(source, name, _jsonl(source, name, stream))


def _row(cells: list[str] | Fault | Span, source: TableSource) -> Row | Fault | Span:
    if not isinstance(cells, list):
        return cells
    record = cells[2] if source.record_column else None
    return cells[0], cells[1], record, cells[-1] if source.time_column else None


def _columns(source: TableSource) -> list[tuple[str, str]]:
    pairs = [("patient_column", source.patient_column), ("text_column", source.text_column)]
    pairs += [("record_column", source.record_column)] if source.record_column else []
    return [*pairs, ("time_column", source.time_column)] if source.time_column else pairs


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
        when = row.get(source.time_column) if source.time_column else None
        yield row.get(source.patient_column), row.get(source.text_column), record, when
    for key, column in _columns(source):
        if objects and column not in present:
            raise DataError(f"column {column!r} is missing in file {name!r}", field=key, value=column)
