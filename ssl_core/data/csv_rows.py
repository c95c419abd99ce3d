"""Step 1 of 12: rows of a CSV file with a header line, UTF-8: the cells of the columns that are asked for.

Comes in: an open file, its declared name, and the columns by the key of the source file that names each. Goes out, row by
row: the cells of these columns, or a `Fault`, or a `Span`. Raises `DataError` for a column that is missing or there twice.
A row with more or fewer fields than the header may have shifted columns: its patient is not trusted. Nor is a record trusted
that spans several lines, unless the source declares `multiline`: a quote that was lost swallows the rows up to the next
quote, and what is left can look like a record of one patient. After a quote in a wrong place, and after a record of more than
`LONGEST`, nothing of the file is trusted: it cannot be told whether the next line is a row or part of a patient's note that
looks like another's row. Such lines, with `multiline` those too of a record that spans several and has other fields than the
header, come out as one `Span`: whose they are nobody knows, and no share of bad records excuses them (reading.py). No more than
one line, or record, is held at a time: a line that does not end is a `DataError`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from ssl_core.data.reading import Fault, Span, is_clean
from ssl_core.errors import DataError

LONGEST = 4 << 20
"""Characters of a line, or of a record."""

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

# Of a cell csv takes 131,072 by itself, and gives up the rest of the file at a longer one.
csv.field_size_limit(LONGEST)


class _Lines(TextIOWrapper):
    """A text whose lines are bounded; `csv` and `for` ask for lines, and would read one that does not end into memory."""

    said = ""
    line = 0

    def __next__(self) -> str:  # type: ignore[override]  # typeshed: of bytes in the base, of texts in its own TextIOWrapper
        text = self.readline(LONGEST + 1)
        self.line += 1
        if len(text) > LONGEST:
            raise DataError(
                f"a line of file {self.said!r} is too long for a row",
                field="path",
                value=f"line {self.line}",
                limit=f"{LONGEST} characters",
                remedy="write the file again with one row a line; it may be of another format",
            )
        if not text:
            raise StopIteration
        return text


class _Record:
    """Lines of a stream, counted in characters from the beginning of a record."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.length, self.count = iter(lines), 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = next(self._lines)
        self.count += 1
        self.length += len(text)
        if self.length > LONGEST:
            raise csv.Error
        return text


@contextmanager
def open_text(path: Path, name: str) -> Iterator[TextIO]:
    """The file for reading; bytes that are no UTF-8 come in as lone surrogates (`is_clean`)."""
    try:
        with path.open("rb") as raw, _Lines(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            stream.said = name
            yield stream
    except OSError as error:
        raise DataError("a file cannot be read", field="path", value=name, remedy=error.strerror) from error


def csv_records(stream: Iterable[str]) -> Iterator[tuple[int, int, list[str] | None]]:
    """First and last line of each record, from 1, and its cells; None for all lines to the end that cannot be parsed."""
    lines = _Record(stream)
    reader = csv.reader(lines, strict=True)
    while True:
        first = lines.count + 1
        lines.length = 0
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield first, lines.count + sum(1 for _ in stream), None
            return
        yield first, lines.count, row


def csv_rows(
    stream: Iterable[str], name: str, columns: Sequence[tuple[str, str]], *, multiline: bool
) -> Iterator[list[str] | Fault | Span]:
    """Rows of `stream`; `columns`: pairs of a source file's key and the column that it names. Empty lines are skipped."""
    found = csv_records(stream)
    _, ends, header = next(found, (1, 1, []))
    if header is None or (ends > 1 and not multiline):
        raise DataError(
            f"the header of file {name!r} spans several lines, or its quotes cannot be told apart",
            field="multiline",
            value=f"lines 1-{ends}",
            limit="one line",
            remedy="correct its quotes (fields are parted by commas), or declare multiline = true",
        )
    wanted = [_place(header, column, key, name) for key, column in columns]
    joined = Fault.QUOTES if multiline else Fault.LINES
    for first, last, row in found:
        if row is None:
            yield Span(first, last, joined) if last > first else Fault.UNREADABLE
        elif last > first and (not multiline or len(row) != len(header)):
            yield Span(first, last, joined)
        elif len(row) == len(header):
            yield [row[place] for place in wanted]
        elif row:
            yield Fault.SHAPE


def no_utf8(header: Sequence[str]) -> bool:
    """Was a first line written in another encoding, such as a spreadsheet's UTF-16?"""
    return any(not is_clean(cell) or "\0" in cell for cell in header)


def other_separator(header: Sequence[str]) -> str | None:
    """By what else than commas a first line seems to be parted, where it has a single cell."""
    return next((said for parted, said in _OTHER_SEPARATORS.items() if len(header) == 1 and parted in header[0]), None)


def remedy_of_header(header: Sequence[str], column: str) -> str:
    """What may be wrong with a first line that does not name `column` once; no cell of it is shown: it may be a patient's."""
    whole = ",".join(header)
    if column in header:
        return "give each column a name of its own"
    if no_utf8(header):
        return "the first line is no UTF-8: export the file as UTF-8"
    for parted, said in _OTHER_SEPARATORS.items():
        if column in [cell.strip(' "') for cell in whole.split(parted)]:
            return f"the first line is parted by {said}: export the file parted by commas"
    for cell in header:
        if cell.strip().casefold() == column.strip().casefold():
            return "the first line has it with other capitals, or with a space: name it just as it stands there"
    return "the file's first line must name its columns; name this one as it stands there"


def _place(header: list[str], column: str, key: str, name: str) -> int:
    if header.count(column) != 1:
        what = "twice" if column in header else "missing"
        raise DataError(
            f"column {column!r} is {what} in file {name!r}", field=key, value=column, remedy=remedy_of_header(header, column)
        )
    return header.index(column)
