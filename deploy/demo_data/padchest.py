"""PadChest radiology reports -> five sites by scanner make, with physicians' labels for the evaluation.

Comes in: the wheel file of torchxrayvision 1.5.7, checked by SHA-256 and read as a zip file; it is never installed or
imported. Goes out: `DemoSites`. One text per (patient, report) with at least three words. Evaluation: 9,000 patients
with a physician's labels, one such report each (label pool 4,000, test 5,000), never in pretraining: `DataError`
otherwise. Every assignment is a keyed hash of the patient id, so the same wheel gives the same files everywhere.
Data: Bustos et al., Medical Image Analysis 66 (2020) 101797. Nothing of it is shipped with Choral.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo_data.findings import GROUPS
from deploy.demo_data.sites import (
    DemoSites,
    Report,
    new_folder,
    require_disjoint,
    site_at,
    write_labels,
    write_reports,
)
from ssl_core.data.assignment import keyed
from ssl_core.data.words import split
from ssl_core.errors import DataError

WHEEL = "torchxrayvision-1.5.7-py3-none-any.whl"
WHEEL_SHA256 = "95f6c3475661f3515d4258deb0855bd5d1b1a56e0b65384251d3dd3fa61fac41"
WHEEL_VARIABLE = "CHORAL_PADCHEST_WHEEL"
REQUIREMENTS = Path(__file__).with_name("padchest-requirements.txt")
FETCH_COMMAND = f"python -m pip download --no-deps --require-hashes --only-binary :all: -d data -r {REQUIREMENTS}"
TABLE = "torchxrayvision/data/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"

SOURCE = "PadChest reports (BIMCV, Hospital San Juan de Alicante), as tabulated inside the wheel torchxrayvision 1.5.7"
TERMS = (
    "PadChest is for research under the PADCHEST Dataset Research Use Agreement "
    "(https://bimcv.cipf.es/bimcv-projects/padchest/). You use it under those terms: no attempt to identify a patient, "
    "no passing on. Choral ships no row of it."
)
CITATION = (
    "Bustos, Pertusa, Salinas, de la Iglesia-Vayá: PadChest: A large chest x-ray image dataset with multi-label "
    "annotated reports. Medical Image Analysis 66, 101797 (2020). Cohen et al.: TorchXRayVision: A library of chest "
    "X-ray datasets and models. MIDL 2022."
)

# Name, nominal size (typed, one significant digit), make (0 Philips, 1 Imaging Dynamics), number among its make.
_SITES = (
    ("imaging-dynamics-1", 9_000, 1, 0),
    ("imaging-dynamics-2", 9_000, 1, 1),
    ("imaging-dynamics-3", 9_000, 1, 2),
    ("philips-1", 10_000, 0, 0),
    ("philips-2", 10_000, 0, 1),
)
_SITES_OF_MAKE = (2, 3)
_POOL, _TEST, _LEAST_WORDS = 4_000, 5_000, 3
_KEY = b"choral-demo-reports-1"
_PHILIPS = "PhilipsMedicalSystems"


@dataclass(frozen=True, slots=True)
class _Text:
    """One report with what the table says of it."""

    report: str
    text: str
    physician: bool
    labels: str


@dataclass(slots=True)
class _Patient:
    texts: list[_Text] = field(default_factory=list)
    makers: Counter[str] = field(default_factory=Counter)

    def make(self) -> int:
        """The make with most reports; Philips where they are equal."""
        return 0 if max(self.makers, key=lambda name: (self.makers[name], name)) == _PHILIPS else 1


def find_wheel() -> Path:
    """$CHORAL_PADCHEST_WHEEL, or ./data/ with the wheel's own name; `DataError` with the command that brings it."""
    named = os.environ.get(WHEEL_VARIABLE)
    path = Path(named) if named else Path("data") / WHEEL
    if not path.is_file():
        raise DataError("the PadChest table is missing", field=WHEEL_VARIABLE, value=path, remedy=FETCH_COMMAND)
    return path


def write_sites(wheel: Path, folder: Path) -> DemoSites:
    """Write the five sites under `folder` (new or empty); about 15 s."""
    patients = _read(wheel)
    physician = [name for name, patient in patients.items() if any(text.physician for text in patient.texts)]
    chosen = sorted(physician, key=lambda name: keyed(_KEY, b"evaluation", name))[: _POOL + _TEST]
    if len(chosen) != _POOL + _TEST:
        raise DataError("the table has too few physicians' labels", field="file", value=TABLE, remedy=FETCH_COMMAND)
    pool, test = frozenset(chosen[:_POOL]), frozenset(chosen[_POOL:])
    members: dict[tuple[int, int], list[str]] = {(make, number): [] for _, _, make, number in _SITES}
    for name in sorted(patients):
        make = patients[name].make()
        members[make, keyed(_KEY, b"site", name) % _SITES_OF_MAKE[make]].append(name)
    with new_folder(folder) as draft:
        groups: list[list[str]] = []
        for site, _, make, number in _SITES:
            groups += _write_site(draft / site, members[make, number], patients, pool, test)
        require_disjoint(groups)
    return DemoSites(
        kind="padchest",
        folder=folder,
        sites=tuple(site_at(folder, name, nominal) for name, nominal, _, _ in _SITES),
        label_names=tuple(GROUPS),
        source=SOURCE,
        terms=TERMS,
        citation=CITATION,
    )


def _write_site(
    folder: Path, names: list[str], patients: dict[str, _Patient], pool: frozenset[str], test: frozenset[str]
) -> list[list[str]]:
    """One site's files; the patients of pretraining, pool and test as they were written."""
    folder.mkdir()
    training = [
        Report(name, text.report, text.text)
        for name in names
        if name not in pool and name not in test
        for text in sorted(patients[name].texts, key=lambda text: text.report)
    ]
    write_reports(folder, "reports", "source.toml", training)
    scored = {name: _evaluation_text(name, patients[name]) for name in names if name in pool or name in test}
    for stem, wanted in (("pool", pool), ("test", test)):
        reports = [Report(name, text.report, text.text) for name, text in scored.items() if name in wanted]
        write_reports(folder, stem, f"{stem}.toml", reports)
    write_labels(folder, tuple(GROUPS), ((name, _findings(text.labels)) for name, text in scored.items()))
    return [[r.patient for r in training], [n for n in scored if n in pool], [n for n in scored if n in test]]


def _evaluation_text(name: str, patient: _Patient) -> _Text:
    physician = [text for text in patient.texts if text.physician]
    return min(physician, key=lambda text: keyed(_KEY, b"report", f"{name}/{text.report}"))


def _findings(labels: str) -> list[int]:
    """0/1 for each group from the table's list literal."""
    named = {str(label).strip() for label in ast.literal_eval(labels)}
    return [int(any(label in named for label in group)) for group in GROUPS.values()]


def _read(wheel: Path) -> dict[str, _Patient]:
    patients: dict[str, _Patient] = {}
    seen: set[tuple[str, str]] = set()
    for row in _rows(wheel):
        name, report = row["PatientID"], row["ReportID"]
        if (name, report) in seen or len(split(row["Report"])) < _LEAST_WORDS:
            continue
        seen.add((name, report))
        patient = patients.setdefault(name, _Patient())
        patient.texts.append(_Text(report, row["Report"].strip(), row["MethodLabel"] == "Physician", row["Labels"]))
        patient.makers[row["Manufacturer_DICOM"]] += 1
    return patients


def _rows(wheel: Path) -> Iterator[dict[str, str]]:
    try:
        with wheel.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError("the PadChest table cannot be read", field="file", value=wheel, remedy=FETCH_COMMAND) from error
    if digest != WHEEL_SHA256:
        raise DataError(
            "the wheel with the PadChest table is not the one expected",
            field="SHA-256",
            value=digest,
            limit=WHEEL_SHA256,
            remedy=f"remove it and run: {FETCH_COMMAND}",
        )
    with zipfile.ZipFile(wheel) as archive, archive.open(TABLE) as packed, gzip.open(packed) as table:
        yield from csv.DictReader(io.TextIOWrapper(table, encoding="utf-8", newline=""))
