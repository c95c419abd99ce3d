"""Step 1 of 12: one record as it lies in its file, beside what the study would see of it.

Comes in: a source, the plan's data and what was read of it. Goes out: `Shown`, patient data, for the eyes of the site's staff
alone. The record is the first of the patient that is asked for, else of the first patient with a good one. Raises
`ConfigError` where that patient has no record. `before` is None where the file's format cannot be shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from ssl_core.data.csv_rows import csv_rows, open_text
from ssl_core.data.declared import ColumnsSource, NpzSource, SignalSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.folder_files import list_files
from ssl_core.data.npz import load_fields, owners_of
from ssl_core.data.patients import unit_id
from ssl_core.data.reading import Effort, Reading
from ssl_core.data.source import Source, read_records
from ssl_core.data.words import split
from ssl_core.datacheck.scan import raw_of
from ssl_core.errors import ConfigError
from ssl_core.spec.data import Data, TableData, TextData

_MOST_TRIED = 50

Array = npt.NDArray[np.float64]
Cells = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A record of `patient`: as it lies in its file, and float32 or int32 as it is trained on.

    `words`: the words of a text that are read.
    """

    patient: str = field(repr=False)
    before: Array | str | Cells | None = field(repr=False)
    after: npt.NDArray[np.float32] | npt.NDArray[np.int32] = field(repr=False)
    words: tuple[str, ...] = field(default=(), repr=False)


def show(source: Source, data: Data, reading: Reading, patient: str | None, effort: Effort) -> Shown:
    """One record before and after preparation; see the module docstring."""
    wanted = None if patient is None else unit_id(patient)
    if wanted is not None and wanted not in reading.owners:
        raise ConfigError("no record of this patient was read", field="--patient", remedy="write the id as the source does")
    if isinstance(source.declared, FolderSource):
        return _of_folder(source, source.declared, data, wanted, effort)
    owner, row = _row(reading, wanted)
    after = np.array(reading.records[row])
    if isinstance(data, TextData):
        text = _text(source, owner)
        return Shown(owner, text, after, tuple(split(text or "")[: data.words]))
    before = BEFORE.get(source.declared.kind)
    return Shown(owner, None if before is None else before(source, data, owner), after)


def _row(reading: Reading, wanted: str | None) -> tuple[str, int]:
    """The first record of the patient, or the first record of somebody that is no padding."""
    for row, owner in enumerate(reading.owners):
        if owner == wanted or (wanted is None and _good(reading.records[row])):
            first = reading.owners.index(owner)
            return owner, first
    raise ConfigError("no record that can be shown was read", field="--patient", remedy="correct the files first")


def _good(record: npt.NDArray[np.generic]) -> bool:
    return bool((record != record.flat[0]).any())


def _of_folder(source: Source, declared: FolderSource, data: Data, wanted: str | None, effort: Effort) -> Shown:
    files = [file for file in list_files(declared, source.folder) if file.inside]
    if declared.patient_from != "header" and wanted is not None:
        files = [file for file in files if file.owner == wanted]
    for file in files[:_MOST_TRIED]:
        # Read by the site's own reader, which takes patterns of names: files of this name in other folders come along.
        within = declared.model_copy(update={"files": (escape(file.path.name),)})
        if declared.patient_from == "header":
            below = file.path.parent.relative_to((source.folder / declared.path).resolve())
            within = within.model_copy(update={"path": (PurePosixPath(declared.path) / below.as_posix()).as_posix()})
        alone = replace(source, declared=within)
        reading = read_records(alone, data, effort)
        same = sum(each.inside and each.owner == file.owner for each in list_files(within, source.folder))
        owner = wanted or file.owner or (reading.owners[0] if reading.owners else None)
        if owner in reading.owners:
            after = np.array(reading.records[reading.owners.index(owner)])
            if wanted is None and not _good(after):
                continue
            # Of several files of one name, in folders below one another, it is not known of which the record is.
            return Shown(owner, raw_of(file, declared, effort) if same == 1 else None, after)
    raise ConfigError(
        "no file of this patient was found", field="--patient", limit=f"the first {_MOST_TRIED} files",
        remedy="name a patient of one of the first files, or none",
    )  # fmt: skip


def _text(source: Source, owner: str) -> str | None:
    from ssl_core.data.declared import TableSource

    declared = source.declared
    if not isinstance(declared, TableSource) or declared.format != "csv":
        return None
    columns = [("patient_column", declared.patient_column), ("text_column", declared.text_column)]
    for name, path in zip(declared.paths, source.files(), strict=True):
        with open_text(path, name) as stream:
            for row in csv_rows(stream, name, columns, multiline=declared.multiline):
                if isinstance(row, list) and unit_id(row[0]) == owner:
                    return row[1]
    return None


def _npz(source: Source, data: Data, owner: str) -> Array | None:
    declared = source.declared
    if not isinstance(declared, NpzSource | SignalSource):
        return None
    content = declared.signal_field if isinstance(declared, SignalSource) else declared.image_field
    (path,) = source.files()
    fields = load_fields(path, declared.path, (content, declared.patient_field))
    owners = owners_of(declared, fields[declared.patient_field], len(fields[content]))
    return np.asarray(fields[content][owners.index(owner)], np.float64)


def _columns(source: Source, data: Data, owner: str) -> Cells | None:
    declared = source.declared
    if not isinstance(declared, ColumnsSource) or not isinstance(data, TableData):
        return None
    if getattr(declared, "format", "csv") != "csv":
        return None
    names = [column.name for column in data.columns]
    columns = [("patient_column", declared.patient_column), *((f"columns.{n}", declared.columns.get(n, n)) for n in names)]
    for name, path in zip(declared.paths, source.files(), strict=True):
        with open_text(path, name) as stream:
            for row in csv_rows(stream, name, columns, multiline=declared.multiline):
                if isinstance(row, list) and unit_id(row[0]) == owner:
                    return tuple(zip(names, row[1:], strict=True))
    return None


BEFORE: dict[str, Callable[[Source, Data, str], Array | Cells | str | None]] = {
    "npz": _npz,
    "signals": _npz,
    "columns": _columns,
}
"""Kind of a source that is no folder -> the first record of a patient as it lies in the file."""
