"""For bench_data.py: of each format, a plan's data and a declaration, and made-up records written in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.config import parse
from ssl_core.data.declared import Declared
from ssl_core.data.declared_folder import FolderSource
from ssl_core.data.source import MODELS, Source
from ssl_core.privacy.synthetic_files import SyntheticFolders
from ssl_core.privacy.synthetic_writers import WRITERS
from ssl_core.spec.data import Data, EventData, ImageData, NumericColumn, SignalData, SoundData, TableData, TextData


@dataclass(frozen=True, slots=True)
class Case:
    """Kind of the source, a plan's data, and what else the source TOML says."""

    kind: str
    data: Data
    declared: dict[str, Any]


IMAGE = ImageData(kind="image", height=256, width=256, pool=4)
SIGNAL = SignalData(kind="signal", channels=12, samples=5000, rate_hz=500, units=("mV",), typical=(0.5,))
SOUND = SoundData(kind="sound", rate_hz=2000, seconds=10.288, mels=64, high_hz=1000, window=256, hop=160)
TEXT = TextData(kind="text", words=64, codes=2, buckets=2048)
TABLE = TableData(kind="table", numeric=tuple(NumericColumn(name=f"n{n:02d}", typical=1.0) for n in range(30)))
EVENTS = EventData(kind="events", vocabulary=tuple(f"C{n}" for n in range(100)))
HOURS = SignalData(kind="signal", channels=5, samples=48, rate_hz=1 / 3600, units=("1",), typical=(1.0,))
_LEADS = {"channels": tuple(f"lead {n}" for n in range(12)), "units": ("mV",)}
_TEXTS = {"patient_column": "patient", "text_column": "text"}
_EVENTS = {"patient_column": "patient", "time_column": "time", "code_column": "code", "record_column": "visit"}
_VITALS = {
    "path": "x", "patient_column": "patient", "time_column": "time", "name_column": "name", "value_column": "value",
    "channels": ("HR", "RR", "SpO2", "T", "MAP"), "units": ("1",), "carry": (4,),
}  # fmt: skip

CASES: dict[str, Case] = {
    "npz": Case("npz", IMAGE, {"path": "x.npz"}),
    "signals": Case("signals", SIGNAL, {"path": "x.npz", "rate_hz": 500, "units": ("mV",)}),
    "table, csv": Case("table", TEXT, {"path": "x", "format": "csv", **_TEXTS}),
    "table, parquet": Case("table", TEXT, {"path": "x", "format": "parquet", **_TEXTS}),
    "columns, csv": Case("columns", TABLE, {"path": "x", "patient_column": "patient"}),
    "columns, parquet": Case("columns", TABLE, {"path": "x", "patient_column": "patient", "format": "parquet"}),
    "events": Case("events", EVENTS, {"path": "x", **_EVENTS}),
    "vitals, csv": Case("vitals", HOURS, _VITALS),
    "vitals, parquet": Case("vitals", HOURS, {**_VITALS, "format": "parquet"}),
    "omop, notes": Case("omop", TEXT, {"url_variable": "URL"}),
    "dicom": Case("dicom", IMAGE, {"modalities": ("OT",)}),
    "pictures": Case("pictures", IMAGE, {}),
    "nifti": Case("nifti", IMAGE, {"slices": 1}),
    "wfdb": Case("wfdb", SIGNAL, _LEADS),
    "edf": Case("edf", SIGNAL, _LEADS),
    "dicom-waveform": Case("dicom-waveform", SIGNAL, _LEADS),
    "sound": Case("sound", SOUND, {}),
    "xml": Case("xml", TEXT, {"text": ("text",)}),
    "fhir, reports": Case("fhir", TEXT, {}),
}


def declared_of(name: str) -> Declared:
    """The declaration of a case."""
    case = CASES[name]
    return parse(MODELS[case.kind], {"kind": case.kind, **case.declared}, "source")


def in_folder(name: str) -> bool:
    """Is it a folder of files, which workers decode?"""
    return issubclass(MODELS[CASES[name].kind], FolderSource)


def written(name: str, records: int, folder: Path) -> tuple[Source, Data]:
    """`records` made-up records, some two or three a patient, in a folder of their own."""
    folder.mkdir(parents=True)
    case, declared = CASES[name], declared_of(name)
    made = SyntheticFolders(folder, case.data, declared, records)
    found = WRITERS[case.kind](folder, declared, case.data, made.rows()[:records])
    return Source(folder, found), case.data
