"""Step 1 of 12: the copy of a site's prepared records that a study trains on, as one npz file.

Comes in: `Patients` as they were checked. Goes out: the same tags, offsets and records, bit by bit, whatever became of
the files that they were read from (ruling 15). Patient ids are left out: training needs only their tags. A tag is a hash
of an id, which whoever has a list of ids can recognise, so the file is as confidential as its source.
Both ways the records pass in parts: writing holds no further copy of them, and reading leaves them in the file (kept_rows.py).
Raises `StateError` for a file that is missing, damaged (every record is held against its checksum here, and again whenever it
is read) or of another form than the plan's data. Pickles are never loaded.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ssl_core.data.kept_rows import KeptRows, damaged
from ssl_core.data.npz_arrays import FAULTS
from ssl_core.data.patients import Patients, Records
from ssl_core.data.rows import Values
from ssl_core.errors import DataError, StateError
from ssl_core.spec.data import Data, EventData, TextData

_FORMAT = 2
_CHUNK = 4 << 20


def write_kept(stream: BinaryIO, patients: Patients) -> None:
    """Write the copy to a seekable `stream`; whoever calls makes it durable."""
    arrays = {"tags": patients.tags, "offsets": patients.offsets, "checksums": _checksums(patients.records)}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in {"format": np.int64(_FORMAT), **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        with archive.open("records.npy", "w", force_zip64=True) as member:
            records = patients.records
            header = {"descr": np.lib.format.dtype_to_descr(records.dtype), "fortran_order": False, "shape": records.shape}
            np.lib.format.write_array_header_1_0(member, header)
            for part in _parts(records):
                member.write(part.data)


def read_kept(path: Path, data: Data) -> Patients:
    """The units of a copy; each unit is named by the hex of its tag."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if int(stored["format"]) != _FORMAT:
                raise damaged("format")
            tags, offsets, checksums = stored["tags"], stored["offsets"], stored["checksums"]
        begin, shape, dtype = _place(path)
        records = KeptRows(path, begin, shape, dtype, checksums)
    except FileNotFoundError as error:
        raise StateError(
            "no copy of the approved records is kept",
            field="path",
            value=path.name,
            remedy="the study is over at this site, or its copy was removed; it cannot go on here",
        ) from error
    except (KeyError, MemoryError, *FAULTS) as error:
        raise damaged("file") from error
    if tags.dtype != np.uint8 or offsets.dtype != np.int64 or checksums.dtype != np.uint32 or not _fits(records, data):
        raise damaged("arrays")
    if checksums.shape != shape[:1] or path.stat().st_size < begin + records.nbytes:
        raise damaged("records")
    records.verify()
    try:
        return Patients(tuple(bytes(tag).hex() for tag in tags), tags, offsets, records)
    except (DataError, IndexError) as error:
        raise damaged("offsets") from error


def _parts(records: Records) -> Iterator[Values]:
    step = max(1, _CHUNK // max(1, records.nbytes // max(1, len(records))))
    for begin in range(0, len(records), step):
        part: Values = np.require(records[begin : begin + step], requirements="C")
        yield part


def _checksums(records: Records) -> npt.NDArray[np.uint32]:
    return np.fromiter((zlib.crc32(row.data) for part in _parts(records) for row in part), np.uint32, len(records))


def _place(path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Where the records begin in the file, their shape and dtype; they are stored as they are."""
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        info = archive.getinfo("records.npy")
        stream.seek(info.header_offset)
        fixed = stream.read(30)
        if info.compress_type != zipfile.ZIP_STORED or len(fixed) != 30:
            raise damaged("records")
        # The lengths of the name and the extra field stand in the file's own header, APPNOTE 4.3.7.
        stream.seek(sum(struct.unpack("<HH", fixed[26:])), os.SEEK_CUR)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise damaged("records")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran or not shape:
            raise damaged("records")
        return stream.tell(), shape, dtype


def _fits(records: KeptRows, data: Data) -> bool:
    if isinstance(data, TextData | EventData):
        return records.dtype == np.int32 and records.shape[1:] == data.shape
    return records.dtype == np.float32 and records.shape[1:] == (data.values,)
