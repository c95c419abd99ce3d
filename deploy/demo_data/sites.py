"""What every demo data set looks like on disk, and how it gets there: whole or not at all.

    <folder>/<site>/reports.csv, images.npz, ... the patients that pretrain, declared by source.toml
    <folder>/<site>/pool.csv|npz, pool.toml      labelled patients from whom the few labels are drawn
    <folder>/<site>/test.csv|npz, test.toml      labelled patients that are only scored
    <folder>/<site>/sounds/, pool/, test/        of sounds: one folder a patient, in place of these files
    <folder>/<site>/labels.csv                   "patient" and one 0/1 column a finding, for pool and test

A site's nominal size is a constant that a person typed; nothing here is computed from a count (ruling 16).
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import tomli_w

from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import SignalData, TableData

SITES = 5
REPORT_COLUMNS = ("patient", "report", "text")
PATIENT_COLUMN = "patient"
_POOL, _TEST = 400, 500
_FIRST_SEED, _SEEDS_OF_A_DEMO = 1 << 32, 8

Sizes = tuple[int, int, int, int, int]
"""A nominal size for each of the five sites."""


@dataclass(frozen=True, slots=True)
class DemoSite:
    """One site's files; `folder` is inside `DemoSites.folder`."""

    name: str
    nominal_size: int
    folder: Path

    @property
    def source(self) -> Path:
        """Source TOML of the patients that pretrain."""
        return self.folder / "source.toml"

    @property
    def pool(self) -> Path:
        """Source TOML of the labelled patients that labels are drawn from."""
        return self.folder / "pool.toml"

    @property
    def test(self) -> Path:
        """Source TOML of the labelled patients that are scored."""
        return self.folder / "test.toml"

    @property
    def labels(self) -> Path:
        """Labels of pool and test."""
        return self.folder / "labels.csv"


@dataclass(frozen=True, slots=True)
class DemoSites:
    """All sites of a demo, sorted by name; `source`, `terms`, `citation` must be printed wherever results are."""

    kind: Literal["padchest", "images", "signals", "procedural"]
    folder: Path
    sites: tuple[DemoSite, ...]
    label_names: tuple[str, ...]
    source: str
    terms: str
    citation: str

    @property
    def notice(self) -> str:
        """Source, terms and citation as one text."""
        return " ".join(part for part in (self.source, self.terms, self.citation) if part)


@dataclass(frozen=True, slots=True)
class Report:
    """One text of one patient."""

    patient: str
    report: str
    text: str


def require_disjoint(groups: Iterable[Iterable[str]]) -> None:
    """`DataError` unless no patient is in two groups (sites, pretraining, pool, test)."""
    seen: set[str] = set()
    for group in groups:
        patients = set(group)
        if seen & patients:
            raise DataError("a patient of the demo data is in two groups", remedy="report this as a fault of Choral")
        seen |= patients


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name on success and is removed on any failure."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("folder for the demo data is not empty", field="folder", value=folder, remedy="name a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def site_at(folder: Path, name: str, nominal_size: int) -> DemoSite:
    """The site `name` of a demo in `folder`."""
    return DemoSite(name, nominal_size, folder / name)


def generator_seed(seed: int, site: int) -> int:
    """For a generator that a warm start uses too: far from the small seeds that people give that one."""
    return _FIRST_SEED + _SEEDS_OF_A_DEMO * seed + site


def generated_sites(
    folder: Path,
    write: Callable[[Path, int, Mapping[str, list[str]]], None],
    *,
    nominal_sizes: Sizes,
    label_names: tuple[str, ...],
    notice: str,
    patients: int,
) -> DemoSites:
    """Five sites of generated patients: `patients` that pretrain, 400 of the pool and 500 of the test each.

    `write` gets a site's folder, its number, and the patients of "source", "pool" and "test"; it writes the three tables or
    arrays with their TOML files, and labels.csv for pool and test.
    """
    if not 1 <= patients <= 1_000_000:
        raise ConfigError("number of patients is out of range", field="patients", value=patients, limit="1 .. 1000000")
    names = [f"site-{number + 1}" for number in range(SITES)]
    with new_folder(folder) as draft:
        groups: list[list[str]] = []
        for number, name in enumerate(names):
            place = draft / name
            place.mkdir()
            sizes = {"source": patients, "pool": _POOL, "test": _TEST}
            parts = {part: [f"{name}-{part}-{index:06d}" for index in range(count)] for part, count in sizes.items()}
            write(place, number, parts)
            groups += parts.values()
        require_disjoint(groups)
    return DemoSites(
        kind="procedural",
        folder=folder,
        sites=tuple(site_at(folder, name, size) for name, size in zip(names, nominal_sizes, strict=True)),
        label_names=label_names,
        source=notice,
        terms="",
        citation="",
    )


def write_reports(folder: Path, stem: str, toml: str, reports: Sequence[Report]) -> None:
    """`stem`.csv and its source TOML."""
    rows = [(report.patient, report.report, report.text) for report in reports]
    _write_csv(folder / f"{stem}.csv", REPORT_COLUMNS, rows)
    source = {"kind": "table", "path": f"{stem}.csv", "format": "csv"}
    columns = {"patient_column": "patient", "record_column": "report", "text_column": "text"}
    (folder / toml).write_text(tomli_w.dumps(source | columns), encoding="utf-8")


def write_images(folder: Path, stem: str, toml: str, images: npt.NDArray[np.uint8], patients: npt.NDArray[np.str_]) -> None:
    """`stem`.npz and its source TOML."""
    np.savez(folder / f"{stem}.npz", image=images, patient=patients)
    source = {"kind": "npz", "path": f"{stem}.npz", "image_field": "image", "patient_field": "patient"}
    (folder / toml).write_text(tomli_w.dumps(source), encoding="utf-8")


def write_pairs(
    folder: Path, stem: str, toml: str, images: npt.NDArray[np.uint8], texts: Sequence[str], patients: Sequence[str]
) -> None:
    """`stem`.npz, `stem`.csv and their source TOML: one image and its report a patient."""
    studies = [f"{patient}-study" for patient in patients]
    np.savez(folder / f"{stem}.npz", image=images, patient=np.array(patients), study=np.array(studies))
    _write_csv(folder / f"{stem}.csv", REPORT_COLUMNS, zip(patients, studies, texts, strict=True))
    table = {"kind": "table", "path": f"{stem}.csv", "format": "csv"}
    columns = {"patient_column": "patient", "record_column": "report", "text_column": "text"}
    source = {"kind": "pairs", "study_from": "field", "image": {"kind": "npz", "path": f"{stem}.npz"}, "text": table | columns}
    (folder / toml).write_text(tomli_w.dumps(source), encoding="utf-8")


def write_signals(
    folder: Path,
    stem: str,
    toml: str,
    signals: npt.NDArray[np.generic],
    patients: npt.NDArray[np.str_],
    data: SignalData,
    scale: float | None = None,
) -> None:
    """`stem`.npz and its source TOML: float32 [m, channels, samples] in the units of `data`, or int16 of `scale` units each."""
    np.savez(folder / f"{stem}.npz", signal=signals, patient=patients)
    source = {"kind": "signals", "path": f"{stem}.npz", "rate_hz": data.rate_hz, "units": list(data.units)}
    (folder / toml).write_text(tomli_w.dumps(source | ({} if scale is None else {"scale": [scale]})), encoding="utf-8")


def write_columns(
    folder: Path, stem: str, toml: str, rows: Iterable[Sequence[object]], patients: Sequence[str], data: TableData
) -> None:
    """`stem`.csv and its source TOML: one row a patient, cells in the order of `data.columns`; "" where a value is missing."""
    header = (PATIENT_COLUMN, *(column.name for column in data.columns))
    _write_csv(folder / f"{stem}.csv", header, ((name, *row) for name, row in zip(patients, rows, strict=True)))
    source = {"kind": "columns", "path": f"{stem}.csv", "patient_column": PATIENT_COLUMN}
    units = {column.name: column.unit for column in data.numeric if column.unit is not None}
    (folder / toml).write_text(tomli_w.dumps(source | ({"units": units} if units else {})), encoding="utf-8")


def write_events(folder: Path, stem: str, toml: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """`stem`.csv and its source TOML: one row an event: patient, time, code."""
    _write_csv(folder / f"{stem}.csv", ("patient", "time", "code"), rows)
    source = {"kind": "events", "path": f"{stem}.csv"}
    columns = {"patient_column": "patient", "time_column": "time", "code_column": "code"}
    (folder / toml).write_text(tomli_w.dumps(source | columns), encoding="utf-8")


def write_labels(folder: Path, names: Sequence[str], rows: Iterable[tuple[str, Sequence[int]]]) -> None:
    """labels.csv: one row a patient, 0/1 by finding."""
    _write_csv(folder / "labels.csv", ("patient", *names), [(patient, *map(int, values)) for patient, values in rows])


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
