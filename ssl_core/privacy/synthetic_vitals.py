"""Synthetic signals as a long table of measurements; for the isolation check.

Comes in: a folder, a declaration, the plan's data and rows. Goes out: one file of all patients, and the declaration that
reads it: the site's own but for where the file is. A patient's signals follow one another on his grid or, where records have
ids, begin at one time. Each patient begins at a time of his own, so that a grid that patients shared would show. Of a long
signal only some cells are written, so that many of them remain a small file. Beside them stands a name that nobody declared; a
value beyond what is read is the nearest that is.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ssl_core.data.columns import LARGEST
from ssl_core.data.declared import Declared
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.privacy.synthetic_cells import write_cells
from ssl_core.privacy.synthetic_rows import Row, numbered
from ssl_core.spec.data import SignalData

_FIRST_TIME = datetime(2001, 1, 1)
SPREAD_SECONDS = 1_000_003
_FARTHEST = 200_000_000_000_000_000
_MOST_VALUES = 512
_MOST_ROWS = 10**10

_Cells = tuple[str, str, str, str, str]


def write_vitals(folder: Path, declared: VitalsSource, data: SignalData, rows: Sequence[Row]) -> Declared:
    """Write `records.csv` or `records.parquet`."""
    file = f"records.{declared.format}"
    header = [column for _, column in declared.columns]
    written = [
        cells[: len(header)]
        for unit, number, content in numbered(rows)
        for cells in _measurements(declared, data, unit, number, np.asarray(content, np.float64))
    ]
    write_cells(folder / file, declared.format, header, written)
    # The site's bounds are those of one of its own files; this one holds all patients.
    return declared.model_copy(update={"path": file, "max_rows": _MOST_ROWS})


def _measurements(declared: VitalsSource, data: SignalData, unit: str, number: int, signal: np.ndarray) -> Iterator[_Cells]:
    record = f"{unit}-{number}"
    nobodys = "".join(name for names in declared.names for name in names) + "?"
    begin = 0 if declared.record_column is not None else (number - 1) * data.samples
    centre, typical = (each if len(each) > 1 else each * data.channels for each in (data.centre, data.typical))
    for place in range(0, data.samples, max(1, math.ceil(signal.size / _MOST_VALUES))):
        when = _time(declared, zlib.crc32(unit.encode()) % SPREAD_SECONDS, math.ceil((begin + place) / data.rate_hz * 1e6))
        for channel, names in enumerate(declared.names):
            name = names[place % len(names)]
            value = float(signal[channel, place])
            if math.isfinite(value):
                most = 0.99 * LARGEST * typical[channel]
                held = min(max(value, centre[channel] - most), centre[channel] + most)
                value = (held - declared.offsets.get(name, 0.0)) / declared.factors.get(name, 1.0)
            yield unit, when, name, repr(value), record
        yield unit, when, nobodys, "not a number", record


def _time(declared: VitalsSource, begin: int, microseconds: int) -> str:
    """A moment so long after `begin`, in seconds; those beyond the calendar are its last one."""
    held = min(begin * 1_000_000 + microseconds, _FARTHEST)
    if declared.time_unit == "iso":
        return (_FIRST_TIME + timedelta(microseconds=held)).isoformat()
    return repr(held / 1e6 / {"seconds": 1, "minutes": 60, "hours": 3600}[declared.time_unit])
