"""Entries of headers that may name a person, in files that the formats' own libraries wrote; names of entries, no value."""

from __future__ import annotations

import json
from datetime import datetime, time
from pathlib import Path

import numpy as np
import pytest
from tests_recordings import DATA, waves, write_wfdb

from ssl_core.data.reading import Effort
from ssl_core.data.source import read_source
from ssl_core.datacheck.findings import Weight
from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.look import look_at
from ssl_core.datacheck.raw import raw_array
from ssl_core.datacheck.spacing import spacing_of

SECRET = "Jane SECRET Doe"  # noqa: S105 - a name that nothing may show


def test_comments_and_the_date_of_a_wfdb_header(tmp_path: Path) -> None:
    plain = write_wfdb(tmp_path, "p1", waves())
    told = write_wfdb(tmp_path, "p2", waves(), comments=[f"name: {SECRET}"], base_datetime=datetime(2024, 3, 5, 8, 30))
    clock = write_wfdb(tmp_path, "p3", waves(), base_time=time(8, 30))
    assert header_identifiers(plain) == header_identifiers(clock) == []
    plain.write_text(plain.read_text() + "#\n# \t\n")
    assert header_identifiers(plain) == []
    assert header_identifiers(told) == ["comments", "date"]


def test_texts_and_extensions_of_nifti_files_of_both_versions(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        image = kind(volume, np.diag([2.0, 2, 3, 1]))
        for name in ("a.nii", "a.nii.gz"):
            nibabel.save(image, tmp_path / name)
            assert header_identifiers(tmp_path / name) == []
            assert spacing_of(tmp_path / name) == (2, 2, 3)
        image.header["descrip"], image.header["aux_file"], image.header["intent_name"] = SECRET, SECRET, SECRET
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", SECRET.encode()))
        nibabel.save(image, tmp_path / "b.nii.gz")
        expected = ["description", "auxiliary file", "name of the intent", "extensions"]
        assert header_identifiers(tmp_path / "b.nii.gz") == expected


def test_patient_recording_and_date_of_bdf_files(tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    wave = np.sin(np.arange(2000) / 20)
    signals = [edfio.BdfSignal(wave, 100, label="I")]
    edfio.Bdf(signals).write(tmp_path / "a.bdf")
    edfio.Bdf(
        signals, patient=edfio.Patient(name="SECRET"), recording=edfio.Recording(hospital_administration_code="H1")
    ).write(tmp_path / "b.bdf")
    assert header_identifiers(tmp_path / "a.bdf") == []
    assert header_identifiers(tmp_path / "b.bdf") == ["patient", "recording"]
    shown = raw_array(tmp_path / "b.bdf")
    assert shown is not None and np.allclose(shown, wave[None], atol=1e-5)


def test_the_check_tells_how_many_files_and_what_to_do_and_no_value(tmp_path: Path) -> None:
    for number in range(3):
        write_wfdb(tmp_path / "x", f"p{number}", waves(seed=number), comments=[f"name: {SECRET}"] if number else [])
    (tmp_path / "s.toml").write_text(
        'kind = "wfdb"\npath = "x"\npatient_from = "pattern"\npatient_pattern = "(?P<patient>p[0-9])"\n'
        'channels = ["II", "V1"]\nunits = ["mV"]\n'
    )
    look = look_at(read_source(tmp_path / "s.toml"), DATA, Effort(1))
    (finding,) = [each for each in look.findings if each.topic == "headers"]
    assert finding.what == "headers that hold comments (2)"
    assert (finding.count, finding.of, finding.places, finding.weight) == (2, 3, ("p1.hea", "p2.hea"), Weight.NOTE)
    assert "de-identify" in finding.remedy and "SECRET" not in json.dumps(look.to_json())
