"""Step 13: which records are a patient's, and which are the padding that stands in a bad one's place (reading.py).

Comes in: units as a reader gives them, and the plan's data. Goes out: which units have a good record, and the units without the
padding of those that do. A unit's features are the mean over its records: of a patient with one good image and one that could
not be decoded, half would be those of no image. For a site's own models alone: in a study padding gives a zero gradient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ssl_core.data.gathering import padding
from ssl_core.data.patients import Patients
from ssl_core.data.rows import Values
from ssl_core.spec.data import Data


def have_good(units: Patients, data: Data) -> npt.NDArray[np.bool_]:
    """bool [n]: has a unit any record that is no padding?"""
    return _of_unit(are_good(units.whole, data), units)


def without_padding(units: Patients, data: Data) -> Patients:
    """The same units; one that has a good record has its good ones alone, another keeps its padding."""
    good = are_good(units.whole, data)
    if good.all():
        return units
    kept = good | ~np.repeat(_of_unit(good, units), units.counts())
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
    return Patients(units.units, units.tags, ends[units.offsets], units.whole[kept])


def are_good(records: Values, data: Data) -> npt.NDArray[np.bool_]:
    """bool [m]: is a record no padding?"""
    axes = tuple(range(1, records.ndim))
    good: npt.NDArray[np.bool_] = (records != padding(data)).any(axis=axes)
    return good


def _of_unit(good: npt.NDArray[np.bool_], units: Patients) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.logical_or.reduceat(good, units.offsets[:-1]) if len(units) else np.zeros(0, np.bool_)
    return found
