"""For bench_data.py: of each format, a plan's data and a declaration, and made-up records written in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.data.declared import Declared
from ssl_core.data.source import MODELS, Source
from ssl_core.privacy.synthetic_files import SyntheticFolders
from ssl_core.privacy.synthetic_writers import WRITERS
from ssl_core.spec.data import Data, ImageData, NumericColumn, SignalData, TableData, TextData


@dataclass(frozen=True, slots=True)
class Case:
    """A plan's data, and what a source TOML says but for its kind."""

    data: Data
    declared: dict[str, Any]
    folder: bool


IMAGE = ImageData(kind="image", height=256, width=256, pool=4)
SIGNAL = SignalData(kind="signal", channels=12, samples=5000, rate_hz=500, units=("mV",), typical=(0.5,))
TEXT = TextData(kind="text", words=64, codes=2, buckets=2048)
TABLE = TableData(kind="table", numeric=tuple(NumericColumn(name=f"n{n:02d}", typical=1.0) for n in range(30)))

CASES: dict[str, Case] = {
    "npz": Case(IMAGE, {"path": "x.npz"}, folder=False),
    "signals": Case(SIGNAL, {"path": "x.npz", "rate_hz": 500, "units": ("mV",)}, folder=False),
    "table": Case(TEXT, {"path": "x", "format": "csv", "patient_column": "patient", "text_column": "text"}, folder=False),
    "columns": Case(TABLE, {"path": "x", "patient_column": "patient"}, folder=False),
}


def declared_of(kind: str) -> Declared:
    """The declaration of a case."""
    return MODELS[kind].model_validate({"kind": kind, **CASES[kind].declared})


def written(kind: str, records: int, folder: Path) -> tuple[Source, Data]:
    """`records` made-up records of four a patient, in a folder of their own."""
    folder.mkdir(parents=True)
    case, declared = CASES[kind], declared_of(kind)
    made = SyntheticFolders(folder, case.data, declared, max(1, records // 2))
    found = WRITERS[kind](folder, declared, case.data, made._rows()[:records])
    return Source(folder, found), case.data
