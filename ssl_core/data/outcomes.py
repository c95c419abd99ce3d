"""Step 13: a site's own outcomes that are numbers, or times to an event; patient ids stay inside these objects.

Comes in: a CSV, one row a patient: number columns, or a time and a 0/1 event column (1: it happened then; 0: until then it had
not). Goes out: `Numbers` float64 [n, k] or `Survival` float64 [n], bool [n]. Raises `DataError` naming file, column and line,
never a cell. An empty cell is refused: leave the row out of the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.labels import cell_fault, label_rows
from ssl_core.data.patients import Patients, unit_id
from ssl_core.errors import DataError

_LARGEST = 1e12
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_Index = npt.NDArray[np.int64]
_Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` float64 [n, k] for n patients and k named columns."""

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


def matched(units: Sequence[str], patients: Patients) -> tuple[_Index, _Index]:
    """Positions int64 [j] in `units` and in `patients` of everybody who is in both, in the order of `patients`."""
    row = {unit: place for place, unit in enumerate(units)}
    pairs = [(row[unit], place) for place, unit in enumerate(patients.units) if unit in row]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def read_numbers(path: Path, value_columns: tuple[str, ...], *, patient_column: str = "patient") -> Numbers:
    """A CSV of one row a patient; `value_columns`: what is to be told."""
    if not value_columns:
        raise DataError("no column of values is named", field="value_columns", remedy="name one")
    units, cells, lines = _read(path, patient_column, value_columns)
    values = np.array([_number(path, c, line, cell) for row, line in zip(cells, lines, strict=True)
                       for c, cell in zip(value_columns, row, strict=True)])  # fmt: skip
    return Numbers(units, value_columns, values.reshape(len(units), len(value_columns)))


def read_survival(path: Path, time_column: str, event_column: str, *, patient_column: str = "patient") -> Survival:
    """A CSV of one row a patient with a time, in any one unit, and whether the event happened then."""
    units, cells, lines = _read(path, patient_column, (time_column, event_column))
    time = np.zeros(len(units))
    event = np.zeros(len(units), np.bool_)
    for place, (row, line) in enumerate(zip(cells, lines, strict=True)):
        time[place] = _number(path, time_column, line, row[0])
        if time[place] <= 0:
            raise cell_fault(path, time_column, line, "is not above 0")
        if row[1] not in ("0", "1"):
            raise cell_fault(path, event_column, line, "is neither 0 nor 1")
        event[place] = row[1] == "1"
    if not event.any():
        raise DataError(f"no event happened in file {path.name!r}", field="event_column", value=event_column)
    return Survival(units, time, event)


def _number(path: Path, column: str, line: int, cell: str) -> float:
    if len(cell) > 60 or not _NUMBER.fullmatch(cell) or abs(float(cell)) > _LARGEST:
        raise cell_fault(path, column, line, "is no number")
    return float(cell)


def _read(path: Path, patient_column: str, columns: tuple[str, ...]) -> tuple[tuple[str, ...], list[list[str]], list[int]]:
    """Patients, the cells of `columns`, and the line of each row; each patient once."""
    header, rows, lines = label_rows(path)
    for column in (patient_column, *columns):
        if header.count(column) != 1:
            raise DataError(f"column {column!r} is not there exactly once in file {path.name!r}", field="column", value=column)
    seen: set[str] = set()
    units = []
    for row, line in zip(rows, lines, strict=True):
        unit = unit_id(row[header.index(patient_column)])
        if not unit or unit in seen:
            raise cell_fault(path, patient_column, line, "names a patient again" if unit else "is empty")
        seen.add(unit)
        units.append(unit)
    places = [header.index(column) for column in columns]
    return tuple(units), [[row[place].strip() for place in places] for row in rows], lines
