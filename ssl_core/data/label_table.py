"""Step 13: the rows of a CSV file of labels, outcomes or parts; what all who read one share.

Comes in: a CSV file with a header line, UTF-8, one line a row: a patient's or, where it has a column of records, a record's.
Goes out: a `LabelTable`: cells as texts, by column, with the line of each row. Raises `DataError` naming file, column and line,
never a cell: for a file that cannot be read, a row of several lines (a lost quote would swallow the labels of the patients
after it) or of another number of fields than the header, a column that is not there exactly once, an empty or repeated id, a
cell of another form. A file may hold 256 MiB, 4 million rows and 20 million cells; it is refused as soon as it shows, whatever
it says of itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from ssl_core.data.csv_rows import csv_records, open_text, remedy_of_header
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import is_clean
from ssl_core.data.record_units import record_key
from ssl_core.errors import DataError

LARGEST = 256 << 20
LONGEST_CLASS = 200
"""Characters of the name of a class, which stands in reports and cards."""
MOST_ROWS = 4_000_000
MOST_CELLS = 20_000_000
_NO_FINDING = (
    "write a finding as 0 or 1 in each row; leave other columns out of the file, or name those that are meant: --class-column, "
    "--values, or --time and --event"
)
# Of so few different cells a file of a few patients may well have one a patient.
_FEW_CLASSES = 10


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Rows of one file, each as long as `header`; `lines`: where each stands, from 1; `comment`: a first line with #."""

    name: str
    header: tuple[str, ...]
    rows: list[list[str]] = field(repr=False)
    lines: list[int] = field(repr=False)
    comment: str = field(default="", repr=False)

    def fault(self, column: str, place: int, what: str, remedy: str | None = None) -> DataError:
        """The error of one cell of row `place`, from 0, by file, column and line."""
        where = f"in line {self.lines[place]}"
        return DataError(f"column {column!r} of file {self.name!r} {what} {where}", field="column", value=column, remedy=remedy)

    def cells(self, column: str) -> list[str]:
        """One column, without space around a cell."""
        if self.header.count(column) != 1:
            raise DataError(
                f"column {column!r} is not there exactly once in file {self.name!r}", field="column", value=column,
                remedy=remedy_of_header(self.header, column),
            )  # fmt: skip
        number = self.header.index(column)
        return [row[number].strip() for row in self.rows]

    def classes(self, column: str, patient_column: str) -> list[str]:
        """A column whose cells are to be names of classes, and shown: `DataError` where they are texts, or ids."""
        cells = self.cells(column)
        for place, cell in enumerate(cells):
            if len(cell) > LONGEST_CLASS:
                raise self.fault(column, place, "is too long for the name of a class", "name the column of classes")
        patients = len(set(self.cells(patient_column)))
        if column == patient_column or len(set(cells)) > max(_FEW_CLASSES, patients // 2):
            raise DataError(
                f"column {column!r} of file {self.name!r} has cells of nearly each patient's own: they are ids, no classes",
                field="column", value=column, limit=f"{max(_FEW_CLASSES, patients // 2)} different ones",
                remedy="name the column of classes",
            )  # fmt: skip
        return cells

    def ids(self, column: str) -> tuple[str, ...]:
        """One column of ids of patients or records, none empty."""
        found = tuple(map(unit_id, self.cells(column)))
        for place, unit in enumerate(found):
            if not unit:
                raise self.fault(column, place, "is empty")
        return found

    def units(self, patient_column: str, record_column: str | None = None) -> tuple[str, ...]:
        """One column of patients or, with that of records, the keys of their records (record_units.py), each once."""
        found, column, what = self.ids(patient_column), patient_column, "a patient"
        remedy = "one row a patient; labels of records need their column of records named"
        if record_column is not None:
            found, column, what = tuple(map(record_key, found, self.ids(record_column))), record_column, "a record"
            remedy = "one row a record of a patient"
        seen: set[str] = set()
        for place, unit in enumerate(found):
            if unit in seen:
                raise self.fault(column, place, f"names {what} again", remedy)
            seen.add(unit)
        return found

    def label_columns(self, named: tuple[str, ...] | None, but: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that are `named`; without, every column but these."""
        columns = named if named is not None else tuple(each for each in self.header if each not in but)
        if not columns:
            raise DataError(f"no label column in file {self.name!r}", field="label_columns", remedy="add a 0/1 column")
        if "" in map(str.strip, columns):
            raise DataError(
                f"a column of file {self.name!r} has no name", field="label_columns",
                remedy="name it in the first line, or leave it out of the file: it may be numbers of rows",
            )  # fmt: skip
        return columns

    def zero_one(self, columns: tuple[str, ...]) -> npt.NDArray[np.int8]:
        """Columns of 0 and 1, int8 [n, k]."""
        out = np.zeros((len(self.rows), len(columns)), np.int8)
        for number, column in enumerate(columns):
            for place, cell in enumerate(self.cells(column)):
                if cell not in ("0", "1"):
                    raise self.fault(column, place, "is neither 0 nor 1", _NO_FINDING)
                out[place, number] = cell == "1"
        return out


def read_label_table(path: Path, what: str = "label file", *, commented: bool = False) -> LabelTable:
    """The rows of a file; `what`: how it is called in messages; `commented`: its first line may be a comment."""
    said = f"{what} {path.name!r}"
    rows: list[list[str]] = []
    lines: list[int] = []
    cells, comment = 0, ""
    with open_text(path, path.name) as stream:
        if os.fstat(stream.fileno()).st_size > LARGEST:
            raise _too_large(said, f"{LARGEST >> 20} MiB")
        first = next(stream, "") if commented else ""
        if first.startswith("#"):
            comment, first = first, ""
        for line, row in _one_line_each(said, first, stream, skipped=bool(comment)):
            if rows and len(row) != len(rows[0]):
                raise DataError(f"line {line} of {said} has another number of fields", field="line", value=line)
            rows.append(row)
            lines.append(line)
            cells += len(row)
            if len(rows) > MOST_ROWS or cells > MOST_CELLS:
                raise _too_large(said, f"{MOST_ROWS} rows, {MOST_CELLS} cells")
    if len(rows) < 2:
        raise DataError(f"{said} has no rows", field="path", value=path.name)
    return LabelTable(path.name, tuple(rows[0]), rows[1:], lines[1:], comment)


def _one_line_each(said: str, first: str, stream: TextIO, *, skipped: bool) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every row that is not empty; `first`: a line that was taken from the stream, or "" for none."""
    for begins, ends, row in csv_records(chain([first] if first else [], stream)):
        begin, end = begins + skipped, ends + skipped
        if row is None or not is_clean("".join(row)):
            raise DataError(
                f"{said} cannot be read as UTF-8 CSV",
                field="line",
                value=begin,
                remedy="export it as UTF-8 and parted by commas; correct its quotes",
            )
        if end > begin:
            raise DataError(
                f"lines {begin}-{end} of {said} are one row",
                field="line",
                value=begin,
                limit="one line a row",
                remedy="correct the quotes there; leave columns of texts out of the file",
            )
        if row:
            yield begin, row


def _too_large(said: str, limit: str) -> DataError:
    return DataError(
        f"{said} is too large", field="path", limit=limit, remedy="leave out the columns and rows that are not asked for"
    )
