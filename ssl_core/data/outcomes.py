"""Step 13: a site's own outcomes that are numbers, or times to an event; ids stay inside these objects.

Comes in: a CSV, one row a patient: number columns, or a time and a 0/1 event column (1: it happened then; 0: until then it had
not); numbers also one row a record, where a column of records is named. Goes out: `Numbers` float64 [n, k] or `Survival`
float64 [n], bool [n]. Raises `DataError` naming file, column and line, never a cell. An empty cell is refused: leave the row
out of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.label_table import LabelTable, read_label_table
from ssl_core.data.patients import Patients, matched
from ssl_core.errors import DataError

_LARGEST = 1e12
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_Index = npt.NDArray[np.int64]
_Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` float64 [n, k] for n units (patients, or keys of records) and k named columns."""

    units: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...]
    values: _Reals = field(repr=False)

    def __len__(self) -> int:
        return len(self.units)

    def align(self, patients: Patients) -> tuple[_Index, _Reals]:
        """Indices int64 [j] of the `patients` that have values, in their order, and those values float64 [j, k]."""
        mine, theirs = matched(self.units, patients)
        return theirs, self.values[mine]


@dataclass(frozen=True, slots=True)
class Survival:
    """`time` float64 [n], above 0, to the event or to the end of observation; `event` bool [n]: did it happen then?"""

    units: tuple[str, ...] = field(repr=False)
    time: _Reals = field(repr=False)
    event: npt.NDArray[np.bool_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.units)

    def align(self, patients: Patients) -> tuple[_Index, _Reals, npt.NDArray[np.bool_]]:
        """Indices int64 [j] of the `patients` that are followed, in their order, with times and events [j]."""
        mine, theirs = matched(self.units, patients)
        return theirs, self.time[mine], self.event[mine]


def read_numbers(
    path: Path, value_columns: tuple[str, ...], *, patient_column: str = "patient", record_column: str | None = None
) -> Numbers:
    """A CSV of one row a patient, or a record; `value_columns`: what is to be told."""
    if not value_columns:
        raise DataError("no column of values is named", field="value_columns", remedy="name one")
    table = read_label_table(path)
    units = table.units(patient_column, record_column)
    return Numbers(units, value_columns, np.stack([_numbers(table, column) for column in value_columns], axis=1))


def read_survival(path: Path, time_column: str, event_column: str, *, patient_column: str = "patient") -> Survival:
    """A CSV of one row a patient with a time, in any one unit, and whether the event happened then."""
    table = read_label_table(path)
    units = table.units(patient_column)
    time = _numbers(table, time_column)
    for place in np.flatnonzero(time <= 0):
        raise table.fault(time_column, int(place), "is not above 0")
    event = table.zero_one((event_column,))[:, 0].astype(np.bool_)
    if not event.any():
        raise DataError(f"no event happened in file {path.name!r}", field="event_column", value=event_column)
    return Survival(units, time, event)


def _numbers(table: LabelTable, column: str) -> _Reals:
    out = np.zeros(len(table.rows))
    for place, cell in enumerate(table.cells(column)):
        if len(cell) > 60 or not _NUMBER.fullmatch(cell) or abs(float(cell)) > _LARGEST:
            raise table.fault(column, place, "is no number")
        out[place] = float(cell)
    return out
