"""The isolation check drives the reader of each kind of recording, over files that the formats' own libraries wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_recordings import faults

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data import source as source_module
from ssl_core.data import wfdb_files
from ssl_core.data.declared import Declared
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source, read_records
from ssl_core.errors import DataError, PrivacyError
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.synthetic_files import SyntheticFolders, check_reader, default_source
from ssl_core.privacy.synthetic_writers import WRITERS
from ssl_core.spec.data import SignalData

MAE = {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1}
SIGNAL: dict[str, Any] = {
    "data": {"kind": "signal", "channels": 2, "samples": 24, "rate_hz": 62.5, "units": ["mV", "µV"], "typical": [0.5]},
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 6},
    "objective": MAE,
}
SOUND: dict[str, Any] = {
    "data": {"kind": "sound", "rate_hz": 1000, "seconds": 0.288, "mels": 8, "high_hz": 500, "window": 64, "hop": 32},
    "encoder": {"name": "vit", "size": "nano", "patch": 4},
    "objective": MAE,
}
CHANNELS = {"channels": [["I", "MDC_ECG_LEAD_I"], "V1"], "units": ["mV", "µV"], "windows": 2}
SOURCES: dict[str, dict[str, Any]] = {
    "wfdb": CHANNELS | {"patient_from": "header", "patient_comment": "subject id"},
    "edf": CHANNELS | {"patient_from": "header"},
    "dicom-waveform": CHANNELS | {"patient_from": "header", "multiplex": "RHYTHM"},
    "sound": {"windows": 2, "patient_from": "pattern", "patient_pattern": "^(?P<patient>[0-9]+)"},
}
KINDS = pytest.mark.parametrize("kind", sorted(SOURCES))


def declared(kind: str, **changes: Any) -> Declared:
    return parse(source_module.MODELS[kind], {"kind": kind} | SOURCES[kind] | changes, "source")


@pytest.fixture
def plan_of(make_plan: Any) -> Any:
    def make(kind: str) -> StudyPlan:
        plan: StudyPlan = make_plan(SOUND if kind == "sound" else SIGNAL)
        return plan

    return make


@KINDS
def test_the_check_passes_with_the_sites_own_reader(plan_of: Any, kind: str) -> None:
    report = check_isolation(plan_of(kind), speed=SpeedSpec(chunk=2), declared=declared(kind))
    assert "not finite" in report.pairs and report.greatest_change <= TOLERANCE and report.greatest_contribution > 0.9


@KINDS
def test_what_is_written_is_what_is_read(plan_of: Any, kind: str, tmp_path: Path) -> None:
    data = plan_of(kind).data
    content = (np.random.default_rng(0).integers(-3000, 3000, data.shape) / 1000).astype(np.float32)
    rows = [("b", content), ("a", np.full(data.shape, np.nan, np.float32)), ("b", 3e38 * np.sign(content))]
    reading = read_records(Source(tmp_path, WRITERS[kind](tmp_path, declared(kind), data, rows)), data, Effort(workers=0))
    # Two windows a recording; no value that is a number is too large for a format, but for a sound's, which holds it.
    assert reading.owners == ["a"] * 2 + ["b"] * 4
    assert faults(reading) == {Fault.MISSING: 2 if kind != "sound" else 4}
    if isinstance(data, SignalData):
        found = reading.records[2].reshape(data.shape) * data.typical[0]
        np.testing.assert_allclose(found, content, rtol=1e-5, atol=1e-6)


@KINDS
def test_a_reader_that_centres_on_all_patients_fails(plan_of: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = plan_of(kind).data
    honest = source_module.READERS[kind, data.kind]

    def centring(*given: Any) -> Any:
        reading = honest(*given)
        reading.records[:] -= reading.records.mean(axis=0)
        return reading

    monkeypatch.setitem(source_module.READERS, (kind, data.kind), centring)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_isolation(plan_of(kind), speed=SpeedSpec(chunk=1), declared=declared(kind))


def test_a_record_of_wfdb_names_the_segment_of_another_patient(plan_of: Any, tmp_path: Path) -> None:
    """What the check drives: with and without the other patient, the one who names his segment has as many records."""
    data = plan_of("wfdb").data
    generator = np.random.default_rng(0)
    rows = [(unit, generator.standard_normal(data.shape)) for unit in ("p0", "p0", "p1", "p2") for _ in range(2)]
    read = {}
    for name, kept in (("all", rows), ("without", [row for row in rows if row[0] != "p1"])):
        (tmp_path / name).mkdir()
        source = Source(tmp_path / name, WRITERS["wfdb"](tmp_path / name, declared("wfdb"), data, kept))
        read[name] = read_records(source, data, Effort(workers=0))
    # Of p0 four records of two windows, the segment that p1 names, and the record whose segment is p1's.
    assert read["all"].owners.count("p0") == read["without"].owners.count("p0") == 11
    assert read["all"].owners.count("p1") == 7 and "p1" not in read["without"].owners
    assert faults(read["all"]) == {Fault.OUTSIDE: 2, Fault.UNREADABLE: 1} and faults(read["without"]) == {Fault.UNREADABLE: 2}
    mine = [row for owner, row in zip(read["all"].owners, read["all"].records, strict=True) if owner != "p1"]
    assert np.array_equal(mine, read["without"].records)


@pytest.mark.parametrize("victim", ["synthetic-000000", "synthetic-000001"])
def test_a_reader_that_leaves_out_who_names_anothers_segment_fails(
    plan_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    honest = wfdb_files._without_segments

    def stealing(files: Any, source: Any) -> Any:
        said = {file.path: wfdb_files._said(file.path, source) for file in files}
        named = {file.path: [file.path.with_name(f"{name}.hea") for name in wfdb_files._segments(file)] for file in files}
        taken = {path for path, parts in named.items() if any(said.get(part) not in (None, said[path]) for part in parts)}
        return [replace(file, inside=file.inside and file.path not in taken) for file in honest(files, source)]

    monkeypatch.setattr(wfdb_files, "_without_segments", stealing)
    folders = SyntheticFolders(tmp_path, plan_of("wfdb").data, declared("wfdb"), 2)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_reader(folders, folders.base(), victim)


def test_sounds_have_a_source_where_the_site_declares_none(plan_of: Any, tmp_path: Path) -> None:
    data = plan_of("sound").data
    patients = SyntheticFolders(tmp_path, data, default_source(data), 3).base()
    assert len(patients) == 3 and patients.records.shape[1] == data.values and patients.records.any()


@pytest.mark.parametrize(("kind", "unit"), [("edf", "mV/second"), ("wfdb", "°C"), ("dicom-waveform", "°C")])
def test_a_unit_that_the_format_cannot_say_is_refused(plan_of: Any, kind: str, unit: str, tmp_path: Path) -> None:
    data = plan_of(kind).data.model_copy(update={"units": (unit,)})
    with pytest.raises(DataError, match="cannot say the study's unit"):
        WRITERS[kind](tmp_path, declared(kind), data, [("a", np.ones(data.shape))])
