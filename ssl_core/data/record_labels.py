"""Step 13: labels of single records, where a patient's records differ: this image shows it, that one does not.

Comes in: a CSV, one row a record: a patient column, a record column, and 0/1 columns. Goes out: `RecordLabels`; `align` maps
them to the rows of `Patients.records` of one reading. Raises `DataError` naming file, column and line, never a cell; and where
the source does not name its records, so that nothing could be mapped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.labels import cell_fault, label_rows
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Reading
from ssl_core.errors import DataError


@dataclass(frozen=True, slots=True)
class RecordLabels:
    """`values` int8 [n, k] of 0 and 1; `keys`: (patient, record) of each row."""

    keys: tuple[tuple[str, str], ...] = field(repr=False)
    names: tuple[str, ...]
    values: npt.NDArray[np.int8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def align(self, reading: Reading) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
        """Rows int64 [j] of the `Patients.records` that `group` makes of `reading`, rising, and their labels int8 [j, k]."""
        # The order of `group`: by patient, then by record id.
        named = sorted(zip(reading.owners, reading.order, strict=True))
        if len(set(named)) != len(named):
            raise DataError(
                "the source does not name each record of a patient", field="record_column",
                remedy="declare record_column in the source, or label patients",
            )  # fmt: skip
        place = {key: row for row, key in enumerate(named)}
        pairs = sorted((place[key], row) for row, key in enumerate(self.keys) if key in place)
        both = np.array(pairs, np.int64).reshape(-1, 2)
        return both[:, 0], self.values[both[:, 1]]


def read_record_labels(
    path: Path, record_column: str, *, patient_column: str = "patient", label_columns: tuple[str, ...] | None = None
) -> RecordLabels:
    """Read the CSV; `label_columns`: by default every column but the patient's and the record's."""
    header, rows, lines = label_rows(path)
    columns = label_columns or tuple(each for each in header if each not in (patient_column, record_column))
    if not columns:
        raise DataError(f"no label column in file {path.name!r}", field="label_columns", remedy="add a 0/1 column")
    for column in (patient_column, record_column, *columns):
        if header.count(column) != 1:
            raise DataError(f"column {column!r} is not there exactly once in file {path.name!r}", field="column", value=column)
    keys: dict[tuple[str, str], int] = {}
    values = np.zeros((len(rows), len(columns)), np.int8)
    for place, (row, line) in enumerate(zip(rows, lines, strict=True)):
        unit, record = (unit_id(row[header.index(column)]) for column in (patient_column, record_column))
        if not unit or not record:
            raise cell_fault(path, record_column if unit else patient_column, line, "is empty")
        if keys.setdefault((unit, record), place) != place:
            raise cell_fault(path, record_column, line, "names a record again")
        for k, column in enumerate(columns):
            cell = row[header.index(column)].strip()
            if cell not in ("0", "1"):
                raise cell_fault(path, column, line, "is neither 0 nor 1")
            values[place, k] = cell == "1"
    return RecordLabels(tuple(keys), columns, values)
