"""Step 1 of 12: reader of event streams (CSV, Parquet): patient, time, code, and optionally the record that an event is of.

Comes in: a declared table and its resolved files. Goes out: a `Reading` with int32 [m, events, 2], each event's number of code
and of gap (spec/data.py), -1 where there is no event. All events of one patient and record id, whatever file or row they stand
in, are brought into the order of their times, those of one time into that of their codes; so nothing of the order of rows is
left. A record of more events than the plan's is cut into several, each full but the last; the first event of each has gap 0. A
time that names a zone is taken in UTC, one that names none as it is: a source must write all times in one of these ways.
A code counts as written, in Unicode NFC, without space around it. A row without a time or a code is bad and is no event; a
record that has none left is one of padding. Rows with a code that the plan does not declare are counted for the site's staff.
Raises `DataError` for what concerns a whole file. `check_codes`, before approval, refuses a source without any declared code.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssl_core.data.cell_rows import cell_rows
from ssl_core.data.declared import EventsSource
from ssl_core.data.reading import Effort, Fault, Reading, Tally, is_clean, owned, row_id
from ssl_core.data.rows import Rows
from ssl_core.data.times import moment
from ssl_core.errors import DataError
from ssl_core.spec.data import EventData

Event = tuple[datetime, int]


def read_events(source: EventsSource, files: tuple[Path, ...], data: EventData, effort: Effort) -> Reading:
    """All records of `files`; see the module docstring."""
    columns = [("patient_column", source.patient_column), ("time_column", source.time_column)]
    columns += [("code_column", source.code_column)]
    columns += [("record_column", source.record_column)] if source.record_column else []
    numbers = {code: number for number, code in enumerate(data.vocabulary)}
    streams: dict[tuple[str, str], list[Event]] = {}
    tallies = []
    for name, path in zip(source.paths, files, strict=True):
        tally = Tally(name)
        tallies.append(tally)
        for owner, row in owned(cell_rows(source, path, name, columns, effort), tally):
            stream = streams.setdefault((owner, (row_id(row[3]) or "") if len(row) > 3 else ""), [])
            event = event_of(row[1], row[2], numbers)
            if isinstance(event, Fault):
                tally.faults[event] += 1
                continue
            tally.undeclared += event[1] == len(numbers)
            stream.append(event)
    owners, order, names = list[str](), list[str](), list[str]()
    with Rows(np.full(data.shape, -1, np.int32), effort.scratch) as rows:
        for (owner, record), stream in streams.items():
            stream.sort()
            for begin in range(0, max(len(stream), 1), data.events):
                part = stream[begin : begin + data.events]
                owners.append(owner)
                order.append(f"{part[0][0].isoformat() if part else ''} {record} {begin:012d}")
                names.append(record)
                rows.add(_record(part, data))
        return Reading(owners, order, rows.array(), tuple(tallies), names)


def event_of(when: str, code: str, numbers: dict[str, int]) -> Event | Fault:
    """Time and number of the code of one row; `numbers`: place of each declared code."""
    if not is_clean(when) or not is_clean(code):
        return Fault.UNREADABLE
    found = moment(when)
    if found is None:
        return Fault.NO_TIME
    text = unicodedata.normalize("NFC", code).strip()
    return (found, numbers.get(text, len(numbers))) if text else Fault.NO_CODE


def _record(events: Sequence[Event], data: EventData) -> npt.NDArray[np.int32]:
    """Events in their order to int32 [events, 2]."""
    out = np.full(data.shape, -1, np.int32)
    for place, (when, code) in enumerate(events):
        out[place] = code, 0
        if place:
            hours = (when - events[place - 1][0]).total_seconds() / 3600
            out[place, 1] = 1 + bisect_right(data.gap_hours, hours)
    return out


def check_codes(records: npt.NDArray[np.int32] | npt.NDArray[np.float32], data: EventData) -> None:
    """Refuse records in which there are codes but none that the plan declares; part of the check before approval."""
    codes = records[:, :, 0]
    if (codes >= 0).any() and not ((codes >= 0) & (codes < len(data.vocabulary))).any():
        raise DataError(
            "no event has a code that the study declares",
            field="code_column",
            limit=", ".join(data.vocabulary[:20]),
            remedy="write the codes as the study does",
        )
