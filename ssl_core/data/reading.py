"""Step 1 of 12: what a reader found in a source's files: records, their owners, and faults by file and reason.

A bad record whose patient is known stays: it is an all-padding (text) or all-zero (image) record, whose unit gives a
finite or zero row. A row without a trustworthy patient belongs to no unit and is left out. Both are counted here for
the check before approval; afterwards nothing is raised for a record (ruling 15).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class Fault(StrEnum):
    """Why a record is bad."""

    UNREADABLE = "unreadable"
    SHAPE = "differently shaped"
    NO_PATIENT = "without a patient"
    NO_WORDS = "without a word"
    NOT_FINITE = "pixels that are not finite"
    BLANK = "image without contrast"


@dataclass(slots=True)
class Tally:
    """Rows and faults of one file, while it is read."""

    file: str
    rows: int = 0
    repeated: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Reading:
    """m kept records: `owners` [m] patient ids, `order` [m] record ids, `records` [m, ...]; one tally a file."""

    owners: list[str] = field(repr=False)
    order: list[str] = field(repr=False)
    records: npt.NDArray[np.int32] | npt.NDArray[np.float32] = field(repr=False)
    tallies: tuple[Tally, ...]
