"""Step 13: records as units of a site's own labels: this image shows it, that one does not.

Comes in: a `Reading` whose source names its records. Goes out: `Patients` whose units are keys: a patient's id and a record's,
parted by a character that neither holds (`unit_id`). All rows of one patient with one id are one record: the pieces of a
recording, the slices of a volume. A record without an id is a unit that no label can name. Raises `DataError` where no record
has an id. For a site's own models alone: a study's unit is the patient, and nothing that trains in private reads this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssl_core.data.patients import Patients, group
from ssl_core.data.reading import Reading
from ssl_core.errors import DataError

NAMELESS = "the source does not name its records"
NAME_THEM = "declare record_column (record_field of an npz file) in the source, or label patients"
_PARTED = "\0"


def record_key(patient: str, record: str) -> str:
    """The unit that is one record of a patient."""
    return f"{patient}{_PARTED}{record}"


def patient_of(unit: str) -> str:
    """Whose a unit is: of a key, the patient; a patient's own id is himself."""
    return unit.partition(_PARTED)[0]


def record_of(unit: str) -> str:
    """The id of a key's record; empty where it has none, or of a patient."""
    name = unit.partition(_PARTED)[2]
    return "" if _PARTED in name else name


def is_record(unit: str) -> bool:
    """Is it a key of a record, or a patient?"""
    return _PARTED in unit


def owners(units: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of each unit's patient, int64 [n], from 0, in the order of their ids."""
    found = [patient_of(unit) for unit in units]
    number = {patient: place for place, patient in enumerate(sorted(set(found)))}
    return np.array([number[patient] for patient in found], np.int64)


def names_records(reading: Reading) -> bool:
    """Does any record have an id?"""
    return reading.names is not None and any(reading.names)


def record_keys(reading: Reading) -> list[str]:
    """The unit of each record [m], as they were read; see the module docstring."""
    if reading.names is None or not names_records(reading):
        raise DataError(NAMELESS, field="record_column", remedy=NAME_THEM)
    # No id of a label file has the character, so a number after it is nobody's name.
    named = (name or f"{_PARTED}{row}" for row, name in enumerate(reading.names))
    return list(map(record_key, reading.owners, named))


def group_records(reading: Reading) -> Patients:
    """The records as units, their rows in the order of a patient's."""
    return group(record_keys(reading), reading.records, reading.order)
