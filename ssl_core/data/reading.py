"""Step 1 of 12: what a reader found in a source's files: records, their owners, and faults by file and reason.

A bad record whose patient is known stays: it is an all-padding (text, events) or all-zero (image, signal, table) record, whose
unit gives a finite or zero row. A row without a trustworthy patient belongs to no unit and is left out. Both are counted here
for the check before approval; afterwards nothing is read anew (ruling 15). A level that the plan does not declare is no fault:
it has a code; rows with one are counted for the site's staff. An image without a report and a report without an image are no
faults: they are left out, and counted for the site's staff. A fault that may hide several patients, nobody knows how many, is
counted as `hiding`: it refuses the source, whatever share of bad records the source declares (source.py, check.py). Lines that
one record of a CSV file swallowed are such a fault, and are counted each: there may be as many patients as lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ssl_core.data.patients import unit_id

MOST_SPANS = 5
MOST_NAMED = 10

RowT = TypeVar("RowT", bound=Sequence[object])


class Fault(StrEnum):
    """Why a record is bad."""

    UNREADABLE = "unreadable"
    EMPTY = "empty"
    OUTSIDE = "links that leave the folder"
    ENCRYPTED = "encrypted"
    WRONG_KIND = "of another kind or modality than the study asks for"
    CODEC = "in a transfer syntax or compression that cannot be decoded here"
    TOO_LARGE = "larger than the source allows"
    TOO_SLOW = "not decoded in time"
    CRASHED = "that ended the process which decoded them"
    RATE = "at another rate or spacing than the study asks for"
    UNITS = "in other units than the study asks for"
    CHANNELS = "without a channel that the study asks for"
    LINES = "lines of records that span several lines"
    QUOTES = "lines that a quote in a wrong place may have joined"
    SHAPE = "differently shaped"
    NO_PATIENT = "without a patient"
    TWO_PATIENTS = "with an address that two patients share, or a file that two headers do"
    NO_WORDS = "without a word"
    NOT_FINITE = "pixels that are not finite"
    BLANK = "image without contrast"
    MISSING = "signals with a sample that is missing or not finite"
    FLAT = "signals that never change"
    NO_NUMBER = "with a cell that is no number, or none within a million times typical"
    NO_TIME = "with a time that is no ISO 8601 date or time"
    NO_TIME_NUMBER = "with a time that is no number, or more than 10,000 years"
    NO_CODE = "without a code"
    NO_VALUE = "without a value in any column"
    NO_STUDY = "without the study that links image and report"
    OTHER_PATIENT = "of a study whose report is another patient's"


@dataclass(frozen=True, slots=True)
class Span:
    """Lines `first` to `last` of a file, counted from 1, that one bad record took; whose they are cannot be told."""

    first: int
    last: int
    fault: Fault

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(slots=True)
class Tally:
    """Rows and faults of one file or folder, while it is read; of spans and bad files only the first few are kept by name."""

    file: str
    rows: int = 0
    repeated: int = 0
    undeclared: int = 0
    unpaired: int = 0
    hiding: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    spans: list[Span] = field(default_factory=list)
    named: list[tuple[str, Fault]] = field(default_factory=list, repr=False)

    def add_bad_file(self, name: str, fault: Fault) -> None:
        """Count `fault` once; the first files of each fault are kept by name, for this site's staff."""
        self.faults[fault] += 1
        if sum(kind is fault for _, kind in self.named) < MOST_NAMED:
            self.named.append((name, fault))

    def add_span(self, span: Span) -> None:
        """Count every line of `span` as one bad row, and the span as one fault that may hide several patients."""
        self.rows += len(span)
        self.hiding += 1
        self.faults[span.fault] += len(span)
        if len(self.spans) < MOST_SPANS:
            self.spans.append(span)


def row_id(cell: object) -> str | None:
    """A patient or record id: a non-empty text, or a whole number (JSON)."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, str) and is_clean(cell):
        return unit_id(cell) or None
    return None


def is_clean(text: str) -> bool:
    """False where bytes were no UTF-8."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def owned(rows: Iterable[RowT | Fault | Span], tally: Tally) -> Iterator[tuple[str, RowT]]:
    """Rows whose first cell names a patient, with his id; all are counted in `tally`, and what is no such row by its fault."""
    for row in rows:
        if isinstance(row, Span):
            tally.add_span(row)
            continue
        tally.rows += 1
        owner = None if isinstance(row, Fault) else row_id(row[0])
        if isinstance(row, Fault) or owner is None:
            tally.faults[row if isinstance(row, Fault) else Fault.NO_PATIENT] += 1
            continue
        yield owner, row


@dataclass(frozen=True, slots=True)
class Effort:
    """How a source is read; nothing here changes what is read.

    workers: processes that decode the files of a folder; 0 decodes in this one, without bounds of time and memory.
    scratch: a folder for records that do not fit in memory; None: where the machine keeps temporary files.
    """

    workers: int = 2
    scratch: Path | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """m kept records: `owners` [m] patient ids, `order` [m] record ids, `records` [m, ...]; one tally a file.

    names: [m] record ids as labels of records name them, "" where a record has none; None where none of the source's has. Of a
    part (part.py), `left_out`: records of patients who are not in it; `absent`: patients of it without a record.
    """

    owners: list[str] = field(repr=False)
    order: list[str] = field(repr=False)
    records: npt.NDArray[np.int32] | npt.NDArray[np.float32] = field(repr=False)
    tallies: tuple[Tally, ...]
    names: list[str] | None = field(default=None, repr=False)
    left_out: int = 0
    absent: int = 0
