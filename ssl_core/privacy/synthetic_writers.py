"""Synthetic records written as files of a site's declared kind; for the isolation check.

Comes in: a folder, a declaration, the plan's data, and rows (synthetic_rows.py). Goes out: the files, and the declaration that
reads them. A format that cannot hold a value (no infinity in whole numbers) holds the nearest it can. Nothing here is private.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from ssl_core.data.declared import ColumnsSource, Declared, EventsSource, NpzSource, SignalSource, TableSource, TimedSource
from ssl_core.data.declared_pairs import PairsSource
from ssl_core.privacy.synthetic_cells import write_cells, write_parquet
from ssl_core.privacy.synthetic_fhir import write_fhir
from ssl_core.privacy.synthetic_images import UID_ROOT, study_of, write_dicom, write_nifti, write_pictures
from ssl_core.privacy.synthetic_omop import write_omop
from ssl_core.privacy.synthetic_recordings import write_edf, write_sounds, write_waveforms, write_wfdb
from ssl_core.privacy.synthetic_rows import Content, Events, Pair, Row, numbered
from ssl_core.privacy.synthetic_vitals import write_vitals
from ssl_core.privacy.synthetic_xml import write_xml
from ssl_core.spec.data import PairData, TableData

_LAST_DAY = date(2025, 1, 1)

Writer = Callable[[Path, Any, Any, Sequence[Row]], Declared]


def _write_npz(folder: Path, declared: NpzSource | SignalSource, data: object, rows: Sequence[Row]) -> Declared:
    content = declared.signal_field if isinstance(declared, SignalSource) else declared.image_field
    fields = {
        content: np.stack([np.asarray(content) for _, content in rows]),
        declared.patient_field: np.array([unit for unit, _ in rows]),
    }
    if declared.record_field is not None:
        fields[declared.record_field] = np.array([f"{unit}-{number}" for unit, number, _ in numbered(rows)])
    np.savez(folder / "records.npz", allow_pickle=False, **fields)
    return declared.model_copy(update={"path": "records.npz"})


def _write_table(folder: Path, declared: TableSource, data: object, rows: Sequence[Row]) -> Declared:
    return _write_texts(folder, declared, [(unit, f"{unit}-{number}", text) for unit, number, text in numbered(rows)])


def _write_columns(folder: Path, declared: ColumnsSource, data: TableData, rows: Sequence[Row]) -> Declared:
    header = [declared.patient_column, *(declared.columns.get(c.name, c.name) for c in data.columns)]
    header += [name for name in (declared.record_column, declared.time_column) if name is not None]
    written = []
    for unit, number, content in numbered(rows):
        more = [] if declared.record_column is None else [f"{unit}-{number}"]
        more += [] if declared.time_column is None else [_time(number, declared)]
        written.append((unit, *content, *more))
    file = f"records.{declared.format}"
    write_cells(folder / file, declared.format, header, written)
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
    write_cells(folder / file, declared.format, header, written)
    return declared.model_copy(update={"path": file})


def _time(number: int, declared: TimedSource) -> str:
    """The time of a patient's record of this number: all patients' are alike, and each file has the last record first."""
    return (_LAST_DAY - timedelta(days=number)).isoformat() if declared.time_unit == "iso" else str(-number)


def _write_texts(folder: Path, declared: TableSource, rows: Sequence[tuple[str, str, Content]]) -> TableSource:
    """Rows (patient, record, text) as the one file of a table."""
    path = folder / f"records.{declared.format}"
    written = declared.model_copy(update={"path": path.name})
    named: list[dict[str, Content]] = []
    for (unit, record, content), (_, number, _) in zip(rows, numbered([(unit, text) for unit, _, text in rows]), strict=True):
        more: dict[str, Content] = {} if declared.record_column is None else {declared.record_column: record}
        more |= {} if declared.time_column is None else {declared.time_column: _time(number, declared)}
        named.append({declared.patient_column: unit, declared.text_column: content, **more})
    if declared.format == "parquet":
        write_parquet(path, list(named[0]), [tuple(row.values()) for row in named])
        return written
    with path.open("w", newline="", encoding="utf-8") as stream:
        if declared.format == "jsonl":
            stream.writelines(json.dumps(row) + "\n" for row in named)
        else:
            writer = csv.DictWriter(stream, list(named[0]))
            writer.writeheader()
            writer.writerows(named)
    return written


def _write_pairs(folder: Path, declared: PairsSource, data: PairData, rows: Sequence[Row]) -> Declared:
    """Images in one folder, reports in another; studies are numbered within a patient, so that all patients share their names.

    Two images may be of one study (`study_of`), whose report is that of the first; every fourth report of a patient stands
    under another one, of whom there is no image.
    """
    places = folder / "images", folder / "reports"
    for place in places:
        place.mkdir(exist_ok=True)
    images: list[Row] = []
    studies: list[str] = []
    reports: list[tuple[str, str, Content]] = []
    for unit, number, content in numbered(rows):
        image, text = cast("Pair", content)
        study = study_of(number)
        images.append((unit, image))
        studies.append(_study(declared, study))
        if study == number:
            reports.append((unit if study % 4 else f"another of {unit}", studies[-1], text))
    written = WRITERS[declared.image.kind](places[0], declared.image, data.pixels, images)
    if isinstance(written, NpzSource):
        fields = dict(np.load(places[0] / written.path, allow_pickle=False))
        np.savez(places[0] / written.path, allow_pickle=False, **fields | {declared.study_field: np.array(studies)})
    below = {"path": str(PurePosixPath("images", *written.paths))}
    table = _write_texts(places[1], declared.text, reports)
    changes: dict[str, object] = {"image": written.model_copy(update=below)}
    changes["text"] = table.model_copy(update={"path": str(PurePosixPath("reports", *table.paths))})
    if declared.study_from in ("pattern", "index"):
        changes |= {"study_from": "pattern", "study_pattern": r"/(?P<study>\d+)-\d+\."}
    return declared.model_copy(update=changes)


def _study(declared: PairsSource, study: int) -> str:
    """Its name, as the images of the declared kind are written with it."""
    if declared.study_from in ("uid", "accession"):
        return f"{UID_ROOT}{study}" if declared.study_from == "uid" else str(study)
    return f"{study:06d}"


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
    "vitals": write_vitals,
    "xml": write_xml,
    "omop": write_omop,
    "fhir": write_fhir,
    "pairs": _write_pairs,
}
"""Kind of a source -> what writes one."""
