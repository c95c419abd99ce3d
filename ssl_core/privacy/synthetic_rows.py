"""Synthetic records as rows, whatever format they are written in; for the isolation check.

A row is a patient and a content: a text; the cells of a table's columns in the plan's order; the events of a
record, each a time and a code; float32 or, for counts, int16 of the data's `shape`; an image and its report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32] | npt.NDArray[np.int16]
Cells = tuple[str, ...]
Events = tuple[tuple[str, str], ...]
Pair = tuple[Array, str]
Content = str | Cells | Array | Events | Pair
Row = tuple[str, Content]


def numbered(rows: Sequence[Row]) -> Iterator[tuple[str, int, Content]]:
    """Rows with their number, from 1, within each patient: one patient more changes no other record's id."""
    numbers: Counter[str] = Counter()
    for unit, content in rows:
        numbers[unit] += 1
        yield unit, numbers[unit], content
