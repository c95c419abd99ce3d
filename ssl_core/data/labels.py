"""Step 13: a site's own labels for fine-tuning and evaluation; ids of patients and records stay inside this object.

Comes in: a CSV, one row a patient or, where a column of records is named, a record of a patient: and either 0/1 columns (one or
several findings) or one class column. Goes out: `Labels` with int8 [n, k]; a class column becomes one 0/1 column a class (a
single one for two classes: the second in the alphabet). Raises `DataError` naming file, column and line, never a cell
(label_table.py), and for a class column of more than 1,000 classes, or of ids: names of classes stand in reports and cards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.label_table import LabelTable, read_label_table
from ssl_core.data.patients import Patients, matched
from ssl_core.errors import DataError

MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Labels:
    """`values` int8 [n, k] of 0 and 1 for n units (patients, or keys of records) and k named findings.

    classes: of a class column all of them, in order; the columns of `values` are these, or the second of two.
    """

    units: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...]
    values: npt.NDArray[np.int8] = field(repr=False)
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.units)

    @property
    def exclusive(self) -> bool:
        """Are the columns classes, of which each unit has one?"""
        return bool(self.classes)

    def align(self, patients: Patients) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
        """Indices int64 [j] of the `patients` that have labels, in their order, and those labels int8 [j, k]."""
        mine, theirs = matched(self.units, patients)
        return theirs, self.values[mine]


def read_labels(
    path: Path,
    *,
    patient_column: str = "patient",
    record_column: str | None = None,
    label_columns: tuple[str, ...] | None = None,
    class_column: str | None = None,
    classes: tuple[str, ...] = (),
) -> Labels:
    """Read a label CSV: `class_column`, or `label_columns`, or (neither given) every column but those of ids.

    record_column: each row is one record of a patient; classes: those that there are, of which a test file may lack some.
    """
    table = read_label_table(path)
    if class_column is not None and label_columns is not None:
        raise DataError("give 0/1 columns or a class column, not both", field="class_column", value=class_column)
    ids = (patient_column, *([] if record_column is None else [record_column]))
    units = table.units(patient_column, record_column)
    if class_column is None:
        columns = table.label_columns(label_columns, ids)
        return Labels(units, columns, table.zero_one(columns))
    if class_column in ids:
        raise DataError("ids are no classes", field="class_column", value=class_column, remedy="name the column of classes")
    cells = table.classes(class_column, patient_column)
    found = _classes(table, class_column, cells, classes)
    names = found[1:] if len(found) == 2 else found
    number = {name: place for place, name in enumerate(names)}
    values = np.zeros((len(cells), len(names)), np.int8)
    for row, cell in enumerate(cells):
        if cell in number:
            values[row, number[cell]] = 1
    return Labels(units, names, values, found)


def label_units(path: Path, patient_column: str = "patient", record_column: str | None = None) -> tuple[str, ...]:
    """The patients of a label CSV, in order, whatever its other columns are, each as often as he has rows; or the records."""
    table = read_label_table(path)
    return table.ids(patient_column) if record_column is None else table.units(patient_column, record_column)


def _classes(table: LabelTable, column: str, cells: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """All classes, in order: those that are known or, without, the different cells of the column."""
    for place, cell in enumerate(cells):
        if not cell:
            raise table.fault(column, place, "is empty")
        if known and cell not in known:
            raise table.fault(column, place, "names a class that the labels to fit on do not have")
    found = known or tuple(sorted(set(cells)))
    if not 2 <= len(found) <= MOST_CLASSES:
        what = "less than two classes" if len(found) < 2 else "too many classes"
        raise DataError(
            f"column {column!r} of file {table.name!r} has {what}", field="class_column", value=column,
            limit=f"2 .. {MOST_CLASSES}",
        )  # fmt: skip
    return found
