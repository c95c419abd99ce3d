"""Step 1 of 12: a declared source TOML and its files become `Patients`.

Comes in: the path of a source TOML (its keys: `declared.py`, `declared_*.py`) and what the study plan says of the data.
Goes out: `Source`, then `Patients`. Raises `ConfigError` for the TOML, `DataError` for a missing file, a path or
symbolic link that leaves the TOML's folder, a missing column or array, or a source of another kind than the plan's.
A bad record raises nothing here; `check.py` refuses it before the site approves, and a study never reads these files
again (ruling 15). Faults that may hide several patients, as lines that a lost quote joined, raise here too: what they hide
would be missing without a word.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_core.config import read_toml
from ssl_core.data.columns import read_columns
from ssl_core.data.declared import ColumnsSource, Declared, EventsSource, NpzSource, SignalSource, TableSource
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.declared_images import DicomSource, NiftiSource, PicturesSource
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.data.declared_recordings import EdfSource, SoundSource, WaveformSource, WfdbSource
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.data.declared_xml import XmlSource
from ssl_core.data.dicom_waveforms import read_waveforms
from ssl_core.data.edf_files import read_edf
from ssl_core.data.events import read_events
from ssl_core.data.fhir import read_observations, read_reports
from ssl_core.data.folder_files import inside, list_files
from ssl_core.data.image_folders import read_images
from ssl_core.data.npz import read_npz
from ssl_core.data.omop import read_notes, read_visits
from ssl_core.data.pairs import read_pairs
from ssl_core.data.part import of_part, units_of_part
from ssl_core.data.patients import Patients, group
from ssl_core.data.reading import Effort, Fault, Reading
from ssl_core.data.record_units import group_records
from ssl_core.data.signals import read_signals
from ssl_core.data.sounds import read_sounds
from ssl_core.data.table import read_table
from ssl_core.data.vitals import read_vitals
from ssl_core.data.wfdb_files import read_wfdb
from ssl_core.data.xml_reports import read_xml
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import Data

MODELS: dict[str, type[Declared]] = {
    "table": TableSource,
    "npz": NpzSource,
    "signals": SignalSource,
    "columns": ColumnsSource,
    "dicom": DicomSource,
    "pictures": PicturesSource,
    "nifti": NiftiSource,
    "wfdb": WfdbSource,
    "edf": EdfSource,
    "dicom-waveform": WaveformSource,
    "sound": SoundSource,
    "events": EventsSource,
    "vitals": VitalsSource,
    "xml": XmlSource,
    "omop": OmopSource,
    "fhir": FhirSource,
    "pairs": PairsSource,
}
"""What may stand in a source TOML, by its `kind`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A declaration and the folder that its paths are relative to."""

    folder: Path
    declared: Declared

    def files(self) -> tuple[Path, ...]:
        """The declared files, resolved, of a database none; `DataError` where one is missing or lies outside the folder."""
        if isinstance(self.declared, PairsSource):
            return tuple(file for part in self.declared.parts for file in replace(self, declared=part).files())
        if isinstance(self.declared, FolderSource):
            return tuple(file.path for file in list_files(self.declared, self.folder))
        found = []
        for name in self.declared.paths:
            path = inside(self.folder, name, "path")
            if not path.is_file():
                raise DataError("a declared file is missing", field="path", value=name, remedy="correct the source file")
            found.append(path)
        return tuple(found)


Reader = Callable[[Source, Any, Effort], Reading]


def _of_files(read: Callable[[Any, tuple[Path, ...], Any], Reading]) -> Reader:
    return lambda source, data, effort: read(source.declared, source.files(), data)


def _of_many_files(read: Callable[[Any, tuple[Path, ...], Any, Effort], Reading]) -> Reader:
    return lambda source, data, effort: read(source.declared, source.files(), data, effort)


def _of_folder(read: Callable[[Any, Path, Any, Effort], Reading]) -> Reader:
    return lambda source, data, effort: read(source.declared, source.folder, data, effort)


READERS: dict[tuple[str, str], Reader] = {
    ("table", "text"): _of_many_files(read_table),
    ("npz", "image"): _of_files(read_npz),
    ("signals", "signal"): _of_files(read_signals),
    ("columns", "table"): _of_many_files(read_columns),
    ("dicom", "image"): read_images,
    ("pictures", "image"): read_images,
    ("nifti", "image"): read_images,
    ("wfdb", "signal"): read_wfdb,
    ("edf", "signal"): read_edf,
    ("dicom-waveform", "signal"): read_waveforms,
    ("sound", "sound"): read_sounds,
    ("events", "events"): _of_many_files(read_events),
    ("vitals", "signal"): _of_many_files(read_vitals),
    ("xml", "text"): _of_folder(read_xml),
    ("omop", "text"): _of_folder(read_notes),
    ("omop", "table"): _of_folder(read_visits),
    ("fhir", "text"): _of_folder(read_reports),
    ("fhir", "table"): _of_folder(read_observations),
    ("pairs", "pair"): read_pairs,
}
"""Who reads what: kind of the source, kind of the study's data -> reader."""


def read_source(path: Path) -> Source:
    """Read a source TOML; unknown keys, kinds and types are refused by name."""
    return Source(path.parent, read_toml(MODELS[_kind(path)], path, "source"))


def _kind(path: Path) -> str:
    """The `kind` of a source TOML; "table" where there is none or it cannot be read: `read_toml` names the fault."""
    try:
        kind = tomllib.loads(path.read_text(encoding="utf-8")).get("kind")
    except (FileNotFoundError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return "table"
    if kind is None:
        return "table"
    if not isinstance(kind, str) or kind not in MODELS:
        raise ConfigError(f"source {path.name} has an unknown kind", field="kind", value=str(kind), limit=", ".join(MODELS))
    return kind


def read_records(source: Source, data: Data, effort: Effort | None = None) -> Reading:
    """Every record of the source with the faults that were found, by file; of a source with a split, those of its part."""
    read = READERS.get((source.declared.kind, data.kind))
    if read is None:
        raise DataError(
            "the study asks for data of another kind than this source",
            field="kind",
            value=source.declared.kind,
            limit=f"{' or '.join(kind for kind, of in READERS if of == data.kind)} for {data.kind} data",
        )
    effort = effort or Effort()
    # First: it is soon read, and all else may take an hour.
    units = units_of_part(source.declared, source.folder)
    reading = read(source, data, effort)
    return reading if units is None else of_part(reading, units, effort.scratch)


def refuse_hiding(source: Source, reading: Reading) -> None:
    """`DataError` where one fault may hide several patients: neighbours would differ in more than one."""
    faulty = [tally for tally in reading.tallies if tally.hiding]
    joined = [tally for tally in faulty if tally.spans]
    if joined:
        undeclared = any(tally.faults[Fault.LINES] for tally in joined)
        raise DataError(
            "lines of a table cannot be told apart, nor whose they are; no share of bad records allows that",
            field="multiline",
            value="; ".join(f"{t.file} lines {', '.join(map(str, t.spans))}" for t in joined),
            limit="one record a line" if undeclared else "records of several lines with the header's fields",
            remedy="correct the quotes there"
            + (", or declare multiline = true where cells hold line breaks" if undeclared else ": one is missing or too many"),
        )
    if faulty:
        raise DataError(
            "a fault in a file of several patients may take others' records away with it; no share of bad records allows that",
            field="patient_from",
            value="; ".join(f"{t.file} ({', '.join(sorted(+t.faults))})" for t in faulty),
            limit=f"none, with patient_from = {getattr(source.declared, 'patient_from', None)!r}",
            remedy="choral site data check names the files: correct them, or export a file a patient and declare another rule",
        )


def share_of(counts: Iterable[tuple[int, int]]) -> float:
    """Of (rows, bad ones) of each file: bad rows divided by rows; 0 where there is no row."""
    each = list(counts)
    rows = sum(rows for rows, _ in each)
    return sum(bad for _, bad in each) / rows if rows else 0.0


def refuse_bad_share(source: Source, reading: Reading) -> None:
    """`DataError` where more records are bad than the source declares."""
    share = share_of((tally.rows, tally.faults.total()) for tally in reading.tallies)
    if share > source.declared.max_bad_share:
        bad = [f"{tally.file} ({', '.join(sorted(+tally.faults))})" for tally in reading.tallies if +tally.faults]
        raise DataError(
            "more records are bad than the source declares",
            field="max_bad_share",
            value="; ".join(bad),
            limit=source.declared.max_bad_share,
            remedy="correct these files, or declare what is known of them: max_bad_share",
        )


def load_patients(source: Source, data: Data, effort: Effort | None = None) -> Patients:
    """The source's units, for the site's own use; bad records are padding or zeros, rows without a patient left out.

    However many are bad: `load_accepted` and check.py look at their share.
    """
    reading = _trusted(source, data, effort)
    return group(reading.owners, reading.records, reading.order, effort.scratch if effort else None)


def load_records(source: Source, data: Data) -> Patients:
    """The source's records as units of their own (record_units.py), for labels of records."""
    return group_records(_trusted(source, data))


def load_accepted(source: Source, data: Data, *, by_record: bool = False) -> Patients:
    """`load_patients`, or `load_records`; `DataError` where more records are bad than the source declares."""
    reading = _trusted(source, data)
    refuse_bad_share(source, reading)
    return group_records(reading) if by_record else group(reading.owners, reading.records, reading.order)


def _trusted(source: Source, data: Data, effort: Effort | None = None) -> Reading:
    reading = read_records(source, data, effort)
    refuse_hiding(source, reading)
    return reading
