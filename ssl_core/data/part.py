"""Step 1 of 12: of a source that is restricted to one part of a split, the records of that part's patients.

Comes in: the keys `split` and `part` of a source TOML, and a `Reading` of all its files, of whatever kind. Goes out: the
`Reading` of the patients whom the split file (assignment.py) names in that part. The tallies stay those of the whole files: a
fault in another part's rows counts. Raises `DataError` for a split file that is missing, lies outside the TOML's folder, cannot
be read, or has no such part; and where no record is a patient's of the part.

Why the guarantee holds: who stays is told by his id and by a file that is fixed before the study, as the declaration is. So
what is read of a patient depends on his own records alone; the isolation check drives every reader through here. The file is
taken as given: what its draw made of the patients (strata, classes, sizes are of all of them at once) is no part of an epsilon.
q, steps and divisors are the plan's, whatever the part holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_core.data.assignment import read_assignment
from ssl_core.data.declared import Declared
from ssl_core.data.folder_files import inside
from ssl_core.data.reading import Reading
from ssl_core.data.rows import in_order
from ssl_core.errors import DataError


def units_of_part(declared: Declared, folder: Path) -> frozenset[str] | None:
    """The patients that a source in `folder` is restricted to; None where it declares no split."""
    if declared.split is None or declared.part is None:
        return None
    path = inside(folder, declared.split, "split")
    if not path.is_file():
        raise DataError("the split file is missing", field="split", value=declared.split, remedy="correct the source file")
    units = frozenset(read_assignment(path).units(declared.part))
    if not units:
        # Its parts are not named here: in a file with its columns interchanged they are patients.
        raise DataError(
            "the split file has no such part", field="part", value=declared.part, remedy="write it as the file does"
        )
    return units


def of_part(reading: Reading, units: frozenset[str], scratch: Path | None = None) -> Reading:
    """The records of `units`, in their order; `scratch`: where those that lie in a file are written anew."""
    rows = [row for row, owner in enumerate(reading.owners) if owner in units]
    if reading.owners and not rows:
        raise DataError(
            "no record of the source is of a patient of this part", field="part",
            remedy="write patient ids alike in the split file and in the source",
        )  # fmt: skip

    def kept(ids: Sequence[str]) -> list[str]:
        return [ids[row] for row in rows]

    return replace(
        reading,
        owners=kept(reading.owners),
        order=kept(reading.order),
        records=in_order(reading.records, np.array(rows, np.int64), scratch),
        names=None if reading.names is None else kept(reading.names),
        left_out=len(reading.owners) - len(rows),
        absent=len(units.difference(reading.owners)),
    )
