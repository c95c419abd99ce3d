"""Step 1 of 12: the copy of a site's prepared records that a study trains on, as one npz file.

Comes in: `Patients` as they were checked. Goes out: the same tags, offsets and records, bit by bit, whatever became of
the files that they were read from (ruling 15). Patient ids are left out: training needs only their tags. A tag is a hash
of an id, which whoever has a list of ids can recognise, so the file is as confidential as its source.
Both ways the records pass in parts: writing holds no further copy of them, reading one. Raises `StateError` for a file
that is missing, damaged (each array has a CRC-32) or of another form than the plan's data. Pickles are never loaded.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ssl_core.data.patients import Patients
from ssl_core.errors import DataError, StateError
from ssl_core.spec.data import Data, TextData

_FORMAT = 1


def write_kept(stream: BinaryIO, patients: Patients) -> None:
    """Write the copy to a seekable `stream`; whoever calls makes it durable."""
    np.savez(stream, format=np.int64(_FORMAT), tags=patients.tags, offsets=patients.offsets, records=patients.records)


def read_kept(path: Path, data: Data) -> Patients:
    """The units of a copy; each unit is named by the hex of its tag."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if int(stored["format"]) != _FORMAT:
                raise _damaged("format")
            tags, offsets, records = stored["tags"], stored["offsets"], stored["records"]
    except FileNotFoundError as error:
        raise StateError(
            "no copy of the approved records is kept",
            field="path",
            value=path.name,
            remedy="the study is over at this site, or its copy was removed; it cannot go on here",
        ) from error
    except (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged("file") from error
    if tags.dtype != np.uint8 or offsets.dtype != np.int64 or not _fits(records, data):
        raise _damaged("arrays")
    try:
        return Patients(tuple(bytes(tag).hex() for tag in tags), tags, offsets, records)
    except (DataError, IndexError) as error:
        raise _damaged("offsets") from error


def _fits(records: npt.NDArray[np.generic], data: Data) -> bool:
    if isinstance(data, TextData):
        return records.dtype == np.int32 and records.shape[1:] == (data.words, data.codes)
    return records.dtype == np.float32 and records.shape[1:] == (data.values,)


def _damaged(what: str) -> StateError:
    return StateError(
        "copy of the approved records is damaged",
        field=what,
        remedy="the study cannot go on at this site; look at the disk",
    )
