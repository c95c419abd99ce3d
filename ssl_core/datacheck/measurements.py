"""Step 1 of 12: the rows of a long table of measurements that one record is made of, as written, and what each becomes.

Comes in: a source of vital signs, the plan's data, the id of a patient. Goes out: `Measurements` of his first record: the rows
of his first stay that lie within the record's time, those that are bad, and how many more there are. It is patient data, for
the page of `choral site data check` alone. What a row becomes is said by the reader's own rules (ssl_core/data/vitals.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ssl_core.data.cell_rows import cell_rows
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.data.reading import Effort, Fault, row_id
from ssl_core.data.source import Source
from ssl_core.data.times import microseconds
from ssl_core.data.vitals import cells_of, missing_in, plain, scales_of, value_of
from ssl_core.spec.data import Data, SignalData

MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Measurements:
    """Rows of a record: time, name and value as written, what becomes of it; by time, those without a time at the end.

    unlisted: more rows of this record; later: rows of the same stay after it; other: rows of names that are not declared.
    """

    rows: tuple[tuple[str, str, str, str], ...] = field(repr=False)
    unlisted: int
    later: int
    other: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a declared name: time in microseconds, value in the plan's scale, or why there is none."""

    written: tuple[str, str, str]
    time: int | Fault
    value: float | Fault | None
    channel: int

    @property
    def good(self) -> bool:
        return not isinstance(self.time, Fault) and isinstance(self.value, float)


def measurements(source: Source, data: Data, owner: str, effort: Effort) -> Measurements:
    """Of the patient's first record; see the module docstring."""
    declared, signal = cast("VitalsSource", source.declared), cast("SignalData", data)
    found, other = _rows(source, declared, signal, owner, effort)
    placed = list(zip(found, _samples(found, signal), strict=True))
    shared = Counter((row.channel, sample) for row, sample in placed if row.good)
    listed = [(row, sample) for row, sample in placed if sample < signal.samples]
    listed.sort(key=lambda each: (1, 0) if isinstance(each[0].time, Fault) else (0, each[0].time))
    rows = []
    for row, sample in listed[:MOST_ROWS]:
        rows.append((*row.written, _becomes(row, sample, shared[row.channel, sample], declared, signal)))
    return Measurements(tuple(rows), len(listed) - len(rows), len(found) - len(listed), other)


def _samples(found: list[_Row], data: SignalData) -> list[int]:
    """Which sample of the record each row is in or beyond; 0 for one without a time, and where no row is good."""
    begin = min((row.time for row in found if row.good and isinstance(row.time, int)), default=None)
    if begin is None:
        return [0] * len(found)
    times = np.array([begin if isinstance(row.time, Fault) else row.time for row in found], np.int64)
    samples: list[int] = cells_of(times, np.full(len(times), begin, np.int64), data).tolist()
    return samples


def _rows(source: Source, declared: VitalsSource, data: SignalData, owner: str, effort: Effort) -> tuple[list[_Row], int]:
    """The rows of declared names in the patient's first stay, in the order of the files; how many have other names."""
    scales, missing = scales_of(declared, data), missing_in(declared)
    first: str | None = None
    found, other = list[_Row](), 0
    for name, path in zip(declared.paths, source.files(), strict=True):
        for row in cell_rows(declared, path, name, declared.columns, effort):
            if not isinstance(row, list) or row_id(row[0]) != owner:
                continue
            stay = (row_id(row[4]) or "") if len(row) > 4 else ""
            first = stay if first is None else first
            scale = scales.get(plain(row[2]))
            if stay == first and scale is not None:
                time, value = microseconds(row[1], declared.time_unit), value_of(row[3], scale, missing)
                found.append(_Row((row[1], row[2], row[3]), time, value, scale.channel))
            other += stay == first and scale is None
    return found, other


def _becomes(row: _Row, sample: int, together: int, declared: VitalsSource, data: SignalData) -> str:
    if row.value is None:
        return "declared to be no value"
    for fault in (row.time, row.value):
        if isinstance(fault, Fault):
            return f"a bad row, {fault}"
    text = f"channel {row.channel + 1}, sample {sample + 1} of {data.samples}: {row.value:+.3f}"
    if together == 1:
        return text
    return f"{text}; of {together} there " + ("the mean counts" if declared.cell == "mean" else "the last counts")
