"""Synthetic records written as files of a site's declared kind; for the isolation check.

Comes in: a folder, a declaration, the plan's data, and rows (synthetic_rows.py). Goes out: the files, and the declaration that
reads them. A format that cannot hold a value (no infinity in whole numbers) holds the nearest it can. Nothing here is private.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ssl_core.data.declared import ColumnsSource, Declared, EventsSource, NpzSource, SignalSource, TableSource
from ssl_core.data.optional import needed
from ssl_core.privacy.synthetic_fhir import write_fhir
from ssl_core.privacy.synthetic_images import write_dicom, write_nifti, write_pictures
from ssl_core.privacy.synthetic_omop import write_omop
from ssl_core.privacy.synthetic_recordings import write_edf, write_sounds, write_waveforms, write_wfdb
from ssl_core.privacy.synthetic_rows import Content, Events, Row, numbered
from ssl_core.privacy.synthetic_xml import write_xml
from ssl_core.spec.data import TableData

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
    header = [declared.patient_column, *(declared.columns.get(c.name, c.name) for c in data.columns)]
    file = f"records.{declared.format}"
    _write_cells(folder / file, declared.format, header, [(unit, *content) for unit, content in rows])
    return declared.model_copy(update={"path": file})


def _write_events(folder: Path, declared: EventsSource, data: object, rows: Sequence[Row]) -> Declared:
    header = [declared.patient_column, declared.time_column, declared.code_column]
    header += [declared.record_column] if declared.record_column is not None else []
    written = [
        (unit, when, code, f"{unit}-{number}")[: len(header)]
        for unit, number, content in numbered(rows)
        for when, code in cast("Events", content)
    ]
    file = f"records.{declared.format}"
    _write_cells(folder / file, declared.format, header, written)
    return declared.model_copy(update={"path": file})


def _write_cells(path: Path, form: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if form == "parquet":
        _write_parquet(path, header, rows)
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def _write_parquet(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of texts, in row groups so small that one patient's rows and another's stand in several."""
    arrow, parquet = needed("pyarrow", "Parquet files"), needed("pyarrow.parquet", "Parquet files")
    columns = [arrow.array([row[place] for row in rows], arrow.string()) for place in range(len(header))]
    parquet.write_table(arrow.Table.from_arrays(columns, list(header)), path, row_group_size=7)


def _write_texts(path: Path, declared: TableSource, rows: Sequence[Row]) -> None:
    named: list[dict[str, Content]] = []
    for unit, number, content in numbered(rows):
        record = {} if declared.record_column is None else {declared.record_column: f"{unit}-{number}"}
        named.append({declared.patient_column: unit, declared.text_column: content, **record})
    if declared.format == "parquet":
        _write_parquet(path, list(named[0]), [tuple(row.values()) for row in named])
        return
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
    "events": _write_events,
    "xml": write_xml,
    "omop": write_omop,
    "fhir": write_fhir,
}
"""Kind of a source -> what writes one."""
