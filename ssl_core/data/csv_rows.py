"""Step 1 of 12: rows of a CSV file with a header line, UTF-8: the cells of the columns that are asked for.

Comes in: an open file, its declared name, and the columns by the key of the source file that names each. Goes out, row by
row: the cells of these columns, or a `Fault`, or a `Span`. Raises `DataError` for a column that is missing or there twice.
A row with more or fewer fields than the header may have shifted columns: its patient is not trusted. Nor is a record trusted
that spans several lines, unless the source declares `multiline`: a quote that was lost swallows the rows up to the next
quote, and what is left can look like a record of one patient. All its lines are counted. After a quote in a wrong place
nothing of the file is trusted: it cannot be told whether the next line is a row or part of a patient's note that looks like
another's row, and all lines to the end are counted.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ssl_core.data.reading import Fault, Span
from ssl_core.errors import DataError


@contextmanager
def open_text(path: Path, name: str) -> Iterator[TextIO]:
    """The file for reading; bytes that are no UTF-8 come in as lone surrogates (`is_clean`)."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield stream
    except OSError as error:
        raise DataError("a declared file cannot be read", field="path", value=name, remedy=error.strerror) from error


def csv_rows(
    stream: TextIO, name: str, columns: Sequence[tuple[str, str]], *, multiline: bool
) -> Iterator[list[str] | Fault | Span]:
    """Rows of `stream`; `columns`: pairs of a source file's key and the column that it names. Empty lines are skipped."""
    reader = csv.reader(stream, strict=True)
    try:
        header = next(reader, [])
    except csv.Error:
        header = []
    if reader.line_num > 1 and not multiline:
        raise DataError(
            f"the header of file {name!r} spans several lines",
            field="multiline",
            value=f"lines 1-{reader.line_num}",
            limit="one line",
            remedy="correct its quotes, or declare multiline = true",
        )
    wanted = [_place(header, column, key, name) for key, column in columns]
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            last = reader.line_num + sum(1 for _ in stream)
            fault = Fault.UNREADABLE if multiline or last == first else Fault.LINES
            yield Span(first, last, fault) if last > first else fault
            return
        if reader.line_num > first and not multiline:
            yield Span(first, reader.line_num, Fault.LINES)
        elif len(row) == len(header):
            yield [row[place] for place in wanted]
        elif row:
            yield Fault.SHAPE


def _place(header: list[str], column: str, key: str, name: str) -> int:
    if header.count(column) != 1:
        what = "twice" if column in header else "missing"
        raise DataError(f"column {column!r} is {what} in file {name!r}", field=key, value=column)
    return header.index(column)
