"""PadChest sites: from a generated table in a wheel's shape, and from the real wheel when it is there."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deploy.demo_data import padchest
from deploy.demo_data.findings import GROUPS
from ssl_core.data.check import check_source
from ssl_core.data.labels import read_labels
from ssl_core.data.source import load_patients, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import TextData

TEXT = TextData(kind="text")
ROOT = Path(__file__).parents[3]
WHEELS = [Path(os.environ.get(padchest.WHEEL_VARIABLE, "none")), ROOT / "data" / padchest.WHEEL]
WHEEL = next((path for path in WHEELS if path.is_file()), None)
COLUMNS = ("PatientID", "ReportID", "Report", "MethodLabel", "Labels", "Manufacturer_DICOM")


def fake_wheel(path: Path, patients: int) -> Path:
    """A wheel whose table has the columns that are read; two rows (images) a report; half labelled by physicians."""
    rng = np.random.default_rng(2)
    labels = sorted(label for group in GROUPS.values() for label in group)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for patient in range(patients):
        maker = "PhilipsMedicalSystems" if patient % 2 else "ImagingDynamicsCompanyLtd"
        for report in range(1 + patient % 3):
            words = " ".join(f"w{n}" for n in rng.integers(0, 99, 2 if report == 2 else 9))
            method = "Physician" if patient % 4 < 2 else "RNN_model"
            named = [f" {labels[n]}" for n in rng.integers(0, len(labels), 3)]
            for _ in range(2):
                writer.writerow((f"id{patient}", f"r{patient}-{report}", words, method, repr(named), maker))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(padchest.TABLE, gzip.compress(text.getvalue().encode()))
    return path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = fake_wheel(tmp_path / "fake.whl", 800)
    monkeypatch.setattr(padchest, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(padchest, "_POOL", 150)
    monkeypatch.setattr(padchest, "_TEST", 200)
    return path


def test_sites_from_a_table(wheel: Path, tmp_path: Path) -> None:
    demo = padchest.write_sites(wheel, tmp_path / "a")
    assert [(s.name, s.nominal_size) for s in demo.sites][2:4] == [("imaging-dynamics-3", 9000), ("philips-1", 10000)]
    counts = {"pool": 0, "test": 0}
    trained: set[str] = set()
    scored: set[str] = set()
    for site in demo.sites:
        patients = load_patients(read_source(site.source), TEXT)
        assert check_source(read_source(site.source), TEXT).files[0].repeated == 0
        assert patients.counts().max() == 2, "reports of two words are left out"
        make = {int(unit[2:]) % 2 for unit in patients.units}
        assert make == {1 if site.name.startswith("philips") else 0}
        trained |= set(patients.units)
        labels = read_labels(site.labels)
        for stem, toml in (("pool", site.pool), ("test", site.test)):
            some = load_patients(read_source(toml), TEXT)
            counts[stem] += len(some)
            assert (some.counts() == 1).all() and len(labels.align(some)[0]) == len(some)
            assert all(int(unit[2:]) % 4 < 2 for unit in some.units), "physicians' labels only"
            assert not scored & set(some.units)
            scored |= set(some.units)
    assert counts == {"pool": 150, "test": 200} and not trained & scored and len(trained | scored) == 800
    again = padchest.write_sites(wheel, tmp_path / "b")
    for site, same in zip(demo.sites, again.sites, strict=True):
        for path in site.folder.iterdir():
            assert path.read_bytes() == (same.folder / path.name).read_bytes()


def test_findings_follow_the_groups() -> None:
    assert padchest._findings("[' pleural effusion', 'nodule', 'unknown thing']") == [
        int(name in ("pleural", "nodule")) for name in GROUPS
    ]
    assert sum(padchest._findings("[]")) == 0
    every = [label for group in GROUPS.values() for label in group]
    assert len(every) == len(set(every)) and len(GROUPS) == 10


def test_another_file_under_the_wheels_name_is_refused(tmp_path: Path) -> None:
    path = fake_wheel(tmp_path / padchest.WHEEL, 4)
    with pytest.raises(DataError, match="not the one expected") as raised:
        padchest.write_sites(path, tmp_path / "a")
    assert padchest.WHEEL_SHA256 in str(raised.value) and not (tmp_path / "a").exists()


def test_a_missing_wheel_prints_the_command_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(padchest.WHEEL_VARIABLE, raising=False)
    with pytest.raises(DataError, match="--require-hashes"):
        padchest.find_wheel()
    monkeypatch.setenv(padchest.WHEEL_VARIABLE, str(tmp_path / "elsewhere.whl"))
    with pytest.raises(DataError, match=r"elsewhere\.whl"):
        padchest.find_wheel()
    (tmp_path / "elsewhere.whl").touch()
    assert padchest.find_wheel() == tmp_path / "elsewhere.whl"


def test_the_pinned_hash_stands_in_the_requirements_file() -> None:
    lines = padchest.REQUIREMENTS.read_text(encoding="utf-8").split()
    assert lines == ["torchxrayvision==1.5.7", f"--hash=sha256:{padchest.WHEEL_SHA256}"]


def test_too_few_physicians_labels_are_refused(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padchest, "_TEST", 5000)
    with pytest.raises(DataError, match="too few"):
        padchest.write_sites(wheel, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(WHEEL is None, reason=f"no {padchest.WHEEL} in ./data and {padchest.WHEEL_VARIABLE} is not set")
def test_the_real_table(tmp_path: Path) -> None:
    assert WHEEL is not None
    demo = padchest.write_sites(WHEEL, tmp_path / "a")
    loaded = [[load_patients(read_source(p), TEXT) for p in (s.source, s.pool, s.test)] for s in demo.sites]
    assert [sum(len(site[part]) for site in loaded) for part in range(3)] == [53_139, 4_000, 5_000]
    assert sum(len(part.records) for site in loaded for part in site[:1]) == 84_635
    assert len({unit for site in loaded for part in site for unit in part.units}) == 62_139
    prevalence = sum(read_labels(s.labels).values.sum(axis=0) for s in demo.sites) / 9_000
    assert prevalence.min() > 0.07 and prevalence.max() < 0.35
