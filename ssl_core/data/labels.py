"""Step 13: a site's own labels for fine-tuning and evaluation; patient ids stay inside this object.

Comes in: a CSV, one row a patient: a patient column and either 0/1 columns (one or several findings) or one class
column. Goes out: `Labels` with int8 [n, k]; a class column becomes one 0/1 column a class (a single one for two
classes: the second in the alphabet). Raises `DataError` naming file, column and line, never a cell (label_table.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.label_table import LabelTable, read_label_table
from ssl_core.data.patients import Patients
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
    table = read_label_table(path)
    if class_column is not None and label_columns is not None:
        raise DataError("give 0/1 columns or a class column, not both", field="class_column", value=class_column)
    units = table.patients(patient_column)
    if class_column is not None:
        return Labels(units, *_classes(table, class_column), True)
    columns = table.label_columns(label_columns, (patient_column,))
    return Labels(units, columns, table.zero_one(columns), False)


def label_units(path: Path, patient_column: str = "patient") -> tuple[str, ...]:
    """The patients of a label CSV, in order, whatever its other columns are; each as often as he has rows."""
    return read_label_table(path).ids(patient_column)


def _classes(table: LabelTable, column: str) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    cells = table.cells(column)
    for place, cell in enumerate(cells):
        if not cell:
            raise table.fault(column, place, "is empty")
    classes = sorted(set(cells))
    if len(classes) < 2:
        raise DataError(
            f"column {column!r} of file {table.name!r} has less than two classes", field="class_column", value=column
        )
    names = tuple(classes[1:] if len(classes) == 2 else classes)
    return names, (np.array(cells)[:, None] == np.array(names)[None, :]).astype(np.int8)
