"""Step 13: a site's own labels for fine-tuning and evaluation; patient ids stay inside this object.

Comes in: a CSV, one row a patient: a patient column and either 0/1 columns (one or several findings) or one class
column. Goes out: `Labels` with int8 [n, k]; a class column becomes one 0/1 column a class (a single one for two
classes: the second in the alphabet). Raises `DataError` naming file, column and line, never a cell. A row is one line:
a lost quote would swallow the labels of the patients after it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.patients import Patients, unit_id
from ssl_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Labels:
    """`values` int8 [n, k] of 0 and 1 for n patients and k named findings; `exclusive`: the columns are classes."""

    units: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...]
    values: npt.NDArray[np.int8] = field(repr=False)
    exclusive: bool

    def __len__(self) -> int:
        return len(self.units)

    def align(self, patients: Patients) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
        """Indices int64 [j] of the `patients` that have labels, in their order, and those labels int8 [j, k]."""
        row = {unit: index for index, unit in enumerate(self.units)}
        found = [(index, row[unit]) for index, unit in enumerate(patients.units) if unit in row]
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], self.values[pairs[:, 1]]


def read_labels(
    path: Path,
    *,
    patient_column: str = "patient",
    label_columns: tuple[str, ...] | None = None,
    class_column: str | None = None,
) -> Labels:
    """Read a label CSV: `class_column`, or `label_columns`, or (neither given) every column but the patient's."""
    header, rows, lines = label_rows(path)
    if class_column is not None and label_columns is not None:
        raise DataError("give 0/1 columns or a class column, not both", field="class_column", value=class_column)
    columns = (class_column,) if class_column is not None else label_columns
    if columns is None:
        columns = tuple(column for column in header if column != patient_column)
    if not columns:
        raise DataError(f"no label column in file {path.name!r}", field="label_columns", remedy="add a 0/1 column")
    for column in (patient_column, *columns):
        if header.count(column) != 1:
            raise DataError(f"column {column!r} is not there exactly once in file {path.name!r}", field="column", value=column)
    place = header.index(patient_column)
    units: list[str] = []
    for line, row in zip(lines, rows, strict=True):
        unit = unit_id(row[place])
        if not unit:
            raise cell_fault(path, patient_column, line, "is empty")
        units.append(unit)
    if len(set(units)) != len(units):
        raise DataError(
            f"a patient has two rows in file {path.name!r}",
            field="column",
            value=patient_column,
            remedy="one row a patient",
        )
    if class_column is not None:
        names, values = _classes(path, class_column, [row[header.index(class_column)].strip() for row in rows], lines)
    else:
        names, values = columns, np.zeros((len(rows), len(columns)), np.int8)
        for k, column in enumerate(columns):
            for index, row in enumerate(rows):
                cell = row[header.index(column)].strip()
                if cell not in ("0", "1"):
                    raise cell_fault(path, column, lines[index], "is neither 0 nor 1")
                values[index, k] = cell == "1"
    return Labels(tuple(units), names, values, class_column is not None)


def label_units(path: Path, patient_column: str = "patient") -> tuple[str, ...]:
    """The patients of a label CSV, in order, whatever its other columns are."""
    header, rows, lines = label_rows(path)
    if header.count(patient_column) != 1:
        raise DataError(
            f"column {patient_column!r} is not there exactly once in file {path.name!r}", field="column", value=patient_column
        )
    place = header.index(patient_column)
    units = tuple(unit_id(row[place]) for row in rows)
    for line, unit in zip(lines, units, strict=True):
        if not unit:
            raise cell_fault(path, patient_column, line, "is empty")
    return units


def _classes(path: Path, column: str, cells: list[str], lines: list[int]) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    for line, cell in zip(lines, cells, strict=True):
        if not cell:
            raise cell_fault(path, column, line, "is empty")
    classes = sorted(set(cells))
    if len(classes) < 2:
        raise DataError(
            f"column {column!r} of file {path.name!r} has less than two classes", field="class_column", value=column
        )
    names = tuple(classes[1:] if len(classes) == 2 else classes)
    return names, (np.array(cells)[:, None] == np.array(names)[None, :]).astype(np.int8)


def label_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line of each row; lines count from 1."""
    rows: list[list[str]] = []
    lines: list[int] = []
    last = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for row in reader:
                if reader.line_num > last + 1:
                    raise DataError(
                        f"lines {last + 1}-{reader.line_num} of label file {path.name!r} are one row",
                        field="line",
                        value=last + 1,
                        limit="one line a row",
                        remedy="correct the quotes there; leave columns of texts out of a label file",
                    )
                last = reader.line_num
                if row:
                    rows.append(row)
                    lines.append(last)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"label file {path.name!r} cannot be read as UTF-8 CSV", field="path", value=path.name) from error
    if len(rows) < 2:
        raise DataError(f"label file {path.name!r} has no rows", field="path", value=path.name)
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(f"line {line} of label file {path.name!r} has another number of fields", field="line", value=line)
    return rows[0], rows[1:], lines[1:]


def cell_fault(path: Path, column: str, line: int, what: str) -> DataError:
    """The error of one cell, by file, column and line."""
    return DataError(f"column {column!r} of file {path.name!r} {what} in line {line}", field="column", value=column)
