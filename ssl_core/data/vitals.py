"""Step 1 of 12: reader of vital signs as long tables (CSV, Parquet): patient, time, name, value; one row a measurement.

Comes in: a declared table and its resolved files. Goes out: a `Reading` with float32 [m, channels * samples], channel after
channel, (value in units - centre) / typical: each patient's measurements on a grid of the plan's rate that begins at his own
first one, cut into pieces of the plan's length (declared_vitals.py). Pieces without a measurement are no records, nor are those
after the declared number. All constants are the plan's or declared; a record depends on one patient's rows alone, in no order.

A name counts as written, in Unicode NFC, without space around it. Rows of a name that is not declared are passed over, whatever
their time and value, and counted for the site's staff. A row without a time, or with a value that is no number or is one beyond
a million times `typical`, is bad and is no measurement; a patient, or record, that has none left is a record of zeros.
A time less than a millionth of a cell, or than a microsecond, before the beginning of a cell is in it: neither a rate such as
1/3600 nor a time such as 1/360 s has an exact form.
Raises `DataError` for what concerns the whole source: a file that cannot be opened, a column that is missing, channels or units
that are not the plan's. `check_names`, before approval, refuses a source in which there is none of the declared names.
"""

from __future__ import annotations

import unicodedata
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.cell_rows import cell_rows
from ssl_core.data.columns import LARGEST
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.data.numbers import number_of
from ssl_core.data.reading import Effort, Fault, Reading, Tally, is_clean, owned, row_id
from ssl_core.data.rows import Rows, Values
from ssl_core.data.scaling import check_channels, check_units
from ssl_core.data.times import in_order, microseconds
from ssl_core.errors import DataError
from ssl_core.spec.data import SignalData

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_EARLY = 1e-6
_FASTEST_HZ = 1000.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A declared name: its channel, and by what its values enter."""

    channel: int
    factor: float
    offset: float
    centre: float
    typical: float


@dataclass(slots=True)
class _Measured:
    """Measurements as they are read, 26 bytes each: number of the stream, microseconds, channel, value in the plan's scale."""

    stream: array[int] = field(default_factory=lambda: array("q"))
    time: array[int] = field(default_factory=lambda: array("q"))
    channel: array[int] = field(default_factory=lambda: array("H"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def add(self, stream: int, time: int, channel: int, value: float) -> None:
        self.stream.append(stream)
        self.time.append(time)
        self.channel.append(channel)
        self.value.append(value)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Cells that hold a value, by stream, channel and place; of stream s those from bounds[s] to bounds[s + 1].

    bounds int64 [streams + 1]; begin int64 [streams], microseconds; channel, cell int64 [k]; value float64 [k].
    """

    bounds: Ints
    begin: Ints
    channel: Ints
    cell: Ints
    value: Floats


def read_vitals(source: VitalsSource, files: tuple[Path, ...], data: SignalData, effort: Effort) -> Reading:
    """All records of `files`; see the module docstring."""
    scales, missing = scales_of(source, data), missing_in(source)
    streams: dict[tuple[str, str], int] = {}
    measured = _Measured()
    tallies = []
    for name, path in zip(source.paths, files, strict=True):
        tally = Tally(name)
        tallies.append(tally)
        for owner, row in owned(cell_rows(source, path, name, source.columns, effort), tally):
            stream = streams.setdefault((owner, (row_id(row[4]) or "") if len(row) > 4 else ""), len(streams))
            scale = scales.get(plain(row[2]))
            if scale is None:
                tally.undeclared += 1
                continue
            value, time = value_of(row[3], scale, missing), microseconds(row[1], source.time_unit)
            if value is None:
                continue
            if isinstance(time, Fault):
                tally.faults[time] += 1
            elif isinstance(value, Fault):
                tally.faults[value] += 1
            else:
                measured.add(stream, time, scale.channel, value)
    grid = _on_grid(measured, len(streams), source, data)
    carry = source.carry if len(source.carry) > 1 else source.carry * data.channels
    owners, order, names = list[str](), list[str](), list[str]()
    with Rows(np.zeros(data.values, np.float32), effort.scratch) as rows:
        for (owner, record), stream in streams.items():
            for begin in _pieces(grid, stream, data.samples)[: source.windows] or [None]:
                when = 0 if begin is None else int(grid.begin[stream]) + int(begin / data.rate_hz * 1e6)
                owners.append(owner)
                order.append(f"{in_order(when)} {record}")
                names.append(record)
                rows.add(np.zeros(data.values, np.float32) if begin is None else _record(grid, stream, begin, carry, data))
        return Reading(owners, order, rows.array(), tuple(tallies), names)


def plain(cell: str) -> str:
    """A cell as names and values are compared: in Unicode NFC, without space around it."""
    return unicodedata.normalize("NFC", cell).strip()


def missing_in(source: VitalsSource) -> set[str]:
    """The cells that stand for no value, as `value_of` compares them."""
    return {plain(cell) for cell in source.missing}


def value_of(cell: str, scale: Scale, missing: set[str]) -> float | Fault | None:
    """A cell in the plan's scale; None where it stands for no value."""
    if not is_clean(cell):
        return Fault.UNREADABLE
    text = plain(cell)
    if text in missing:
        return None
    if not text:
        return Fault.NO_VALUE
    number = number_of(text)
    if number is None:
        return Fault.NO_NUMBER
    value = (number * scale.factor + scale.offset - scale.centre) / scale.typical
    # Without this, -0.0 and 0.0 of one time would stand in the order of their rows.
    return value + 0.0 if abs(value) <= LARGEST else Fault.NO_NUMBER


def cells_of(time: Ints, begin: Ints, data: SignalData) -> Ints:
    """Which cell of the grid that begins at `begin` a time is in, int64 [k], both in microseconds."""
    cells: Ints = np.floor((time - begin) * (data.rate_hz / 1e6) + _EARLY * max(1.0, data.rate_hz)).astype(np.int64)
    return cells


def _on_grid(measured: _Measured, streams: int, source: VitalsSource, data: SignalData) -> _Grid:
    """One value of each cell that has any."""
    stream, time = np.array(measured.stream, np.int64), np.array(measured.time, np.int64)
    channel, value = np.array(measured.channel, np.int64), np.array(measured.value, np.float64)
    begin = np.full(streams, np.iinfo(np.int64).max)
    np.minimum.at(begin, stream, time)
    order = np.lexsort((value, time, channel, stream))
    stream, time, channel, value = stream[order], time[order], channel[order], value[order]
    cell = cells_of(time, begin[stream], data)
    changes = (np.diff(stream) != 0) | (np.diff(channel) != 0) | (np.diff(cell) != 0)
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(cell)), np.bool_), changes]))
    ends = np.append(first, len(cell))[1:]
    if source.cell == "last":
        kept = value[ends - 1]
    else:
        # Added up one after another in a sorted order: neither the rows' places nor other patients' sums have a part in it.
        group = np.repeat(np.arange(len(first)), ends - first)
        kept = np.bincount(group, weights=value, minlength=len(first)) / (ends - first)
    bounds = np.searchsorted(stream[first], np.arange(streams + 1))
    return _Grid(bounds.astype(np.int64), begin, channel[first], cell[first], kept)


def _pieces(grid: _Grid, stream: int, samples: int) -> list[int | None]:
    """The first cells of the pieces that hold a value, in order."""
    cells = grid.cell[grid.bounds[stream] : grid.bounds[stream + 1]]
    return [int(piece) * samples for piece in np.unique(cells // samples)]


def _record(grid: _Grid, stream: int, begin: int, carry: tuple[int, ...], data: SignalData) -> Values:
    """The piece from cell `begin`, float32 [channels * samples]; a value may be carried into it from before."""
    own = slice(grid.bounds[stream], grid.bounds[stream + 1])
    channel, cell, value = grid.channel[own], grid.cell[own], grid.value[own]
    edges = np.searchsorted(channel, np.arange(data.channels + 1))
    places = np.arange(begin, begin + data.samples)
    out = np.zeros(data.shape, np.float32)
    for number, reach in enumerate(carry):
        at, held = cell[edges[number] : edges[number + 1]], value[edges[number] : edges[number + 1]]
        before = np.searchsorted(at, places, "right") - 1
        there = np.flatnonzero(before >= 0)
        there = there[places[there] - at[before[there]] <= reach]
        out[number, there] = held[before[there]]
    return out.reshape(data.values)


def scales_of(source: VitalsSource, data: SignalData) -> dict[str, Scale]:
    """What each declared name stands for; refused where channels, units or carries are not the plan's."""
    check_channels(len(source.channels), data)
    if data.rate_hz > _FASTEST_HZ:
        raise DataError(
            "the study asks for a rate that times of a table, read to a microsecond, cannot give",
            field="rate_hz",
            value=data.rate_hz,
            limit=_FASTEST_HZ,
            remedy="take a format of recordings for it",
        )
    check_units(
        source.units, data, "declare the study's units, and in factors and offsets what brings the file's values into them"
    )
    if len(source.carry) not in (1, data.channels):
        raise DataError(
            "carry must have one entry, or one a channel", field="carry", value=len(source.carry), limit=data.channels
        )
    centre, typical = (each if len(each) > 1 else each * data.channels for each in (data.centre, data.typical))
    return {
        name: Scale(place, source.factors.get(name, 1.0), source.offsets.get(name, 0.0), centre[place], typical[place])
        for place, names in enumerate(source.names)
        for name in names
    }


def check_names(reading: Reading, source: VitalsSource) -> None:
    """Refuse rows of which none has a declared name; part of the check before approval."""
    if any(tally.undeclared for tally in reading.tallies) and not reading.records.any():
        raise DataError(
            "no row with a value has a name that the source declares",
            field="channels",
            limit=", ".join(name for names in source.names for name in names[:20]),
            remedy="write the names as they stand in the file",
        )
