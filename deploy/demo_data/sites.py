"""What every demo data set looks like on disk, and how it gets there: whole or not at all.

    <folder>/<site>/reports.csv or images.npz    the patients that pretrain, declared by source.toml
    <folder>/<site>/pool.csv|npz, pool.toml      labelled patients from whom the few labels are drawn
    <folder>/<site>/test.csv|npz, test.toml      labelled patients that are only scored
    <folder>/<site>/labels.csv                   "patient" and one 0/1 column a finding, for pool and test

A site's nominal size is a constant that a person typed; nothing here is computed from a count (ruling 16).
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import tomli_w

from ssl_core.errors import ConfigError, DataError

REPORT_COLUMNS = ("patient", "report", "text")


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

    kind: Literal["padchest", "images", "procedural"]
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


def keyed(key: bytes, purpose: bytes, text: str) -> int:
    """A 64-bit number from a keyed hash: assignment to sites and splits without random state or file order."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=key, person=purpose).digest()
    return int.from_bytes(digest, "big")


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


def write_labels(folder: Path, names: Sequence[str], rows: Iterable[tuple[str, Sequence[int]]]) -> None:
    """labels.csv: one row a patient, 0/1 by finding."""
    _write_csv(folder / "labels.csv", ("patient", *names), [(patient, *map(int, values)) for patient, values in rows])


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
