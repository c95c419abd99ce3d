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

from ssl_core.data.label_table import read_label_table
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
        # The order of `group`: by patient, then by time or record id.
        rows = sorted(range(len(reading.owners)), key=lambda row: (reading.owners[row], reading.order[row]))
        ids = reading.order if reading.names is None else reading.names
        named = [(reading.owners[row], ids[row]) for row in rows]
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
    table = read_label_table(path)
    columns = table.label_columns(label_columns, (patient_column, record_column))
    units, records = table.ids(patient_column), table.ids(record_column)
    seen: set[tuple[str, str]] = set()
    for place, key in enumerate(zip(units, records, strict=True)):
        if key in seen:
            raise table.fault(record_column, place, "names a record again")
        seen.add(key)
    return RecordLabels(tuple(zip(units, records, strict=True)), columns, table.zero_one(columns))
