"""Synthetic records written as files of a site's declared kind; for the isolation check.

Comes in: a folder, a declaration, the plan's data, and rows (patient, content): a text; the cells of a table's columns in the
plan's order; float32 or, for counts, int16 of the data's `shape`. Goes out: the files, and the declaration that reads them. A
format that cannot hold a value (no infinity in whole numbers) holds the nearest it can. Nothing here is private.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_core.data.declared import ColumnsSource, Declared, NpzSource, SignalSource, TableSource
from ssl_core.privacy.synthetic_images import write_dicom, write_nifti, write_pictures
from ssl_core.privacy.synthetic_recordings import write_edf, write_sounds, write_waveforms, write_wfdb
from ssl_core.spec.data import TableData

Array = npt.NDArray[np.float32] | npt.NDArray[np.int16]
Cells = tuple[str, ...]
Content = str | Cells | Array
Row = tuple[str, Content]
Writer = Callable[[Path, Any, Any, Sequence[Row]], Declared]


def _write_npz(folder: Path, declared: NpzSource | SignalSource, data: object, rows: Sequence[Row]) -> Declared:
    content = declared.signal_field if isinstance(declared, SignalSource) else declared.image_field
    fields = {
        content: np.stack([np.asarray(content) for _, content in rows]),
        declared.patient_field: np.array([unit for unit, _ in rows]),
    }
    np.savez(folder / "records.npz", allow_pickle=False, **fields)
    return declared.model_copy(update={"path": "records.npz"})


def _write_table(folder: Path, declared: TableSource, data: object, rows: Sequence[Row]) -> Declared:
    file = f"records.{declared.format}"
    _write_texts(folder / file, declared, rows)
    return declared.model_copy(update={"path": file})


def _write_columns(folder: Path, declared: ColumnsSource, data: TableData, rows: Sequence[Row]) -> Declared:
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([declared.patient_column, *(declared.columns.get(c.name, c.name) for c in data.columns)])
        writer.writerows([unit, *content] for unit, content in rows)
    return declared.model_copy(update={"path": "records.csv"})


def _write_texts(path: Path, declared: TableSource, rows: Sequence[Row]) -> None:
    # Numbered within each patient, so that one patient more changes no other record's id.
    numbers: Counter[str] = Counter()
    named: list[dict[str, Content]] = []
    for unit, content in rows:
        numbers[unit] += 1
        record = {} if declared.record_column is None else {declared.record_column: f"{unit}-{numbers[unit]}"}
        named.append({declared.patient_column: unit, declared.text_column: content, **record})
    with path.open("w", newline="", encoding="utf-8") as stream:
        if declared.format == "jsonl":
            stream.writelines(json.dumps(row) + "\n" for row in named)
            return
        writer = csv.DictWriter(stream, list(named[0]))
        writer.writeheader()
        writer.writerows(named)


WRITERS: dict[str, Writer] = {
    "table": _write_table,
    "npz": _write_npz,
    "signals": _write_npz,
    "columns": _write_columns,
    "dicom": write_dicom,
    "pictures": write_pictures,
    "nifti": write_nifti,
    "wfdb": write_wfdb,
    "edf": write_edf,
    "dicom-waveform": write_waveforms,
    "sound": write_sounds,
}
"""Kind of a source -> what writes one."""
