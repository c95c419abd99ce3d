"""Recordings at several rates: sounds, WFDB, EDF and DICOM waveforms, each as its own library writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tomli_w
from pydicom import dcmread
from pydicom.data import get_testdata_file
from tests_recordings import DATA, waves, write_wfdb

from ssl_core.data.reading import Effort
from ssl_core.data.source import Source, read_records, read_source
from ssl_core.datacheck.findings import Finding, Weight
from ssl_core.datacheck.rates import DECODERS, rate_findings
from ssl_core.datacheck.scan import scan_findings
from ssl_core.spec.data import Data, ImageData
from ssl_core.spec.sound import SoundData

SOUND = SoundData(kind="sound", rate_hz=4000, seconds=0.2, mels=16, low_hz=50, high_hz=1800, window=256, hop=128)
ONE = Effort(workers=1)
HERE = Effort(workers=0)


def declare(folder: Path, kind: str, **keys: Any) -> Source:
    body = {"kind": kind, "path": "files", "patient_from": "folder", **keys}
    (folder / "s.toml").write_text(tomli_w.dumps(body))
    return read_source(folder / "s.toml")


def sound(folder: Path, patient: str, rate: int, name: str = "a.wav") -> Path:
    path = folder / "files" / patient / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(rate).uniform(-0.5, 0.5, rate), rate)
    return path


def found(source: Source, data: Data, effort: Effort = HERE) -> list[Finding]:
    return [each for each in scan_findings(source, data, effort) if each.topic == "sampling rates"]


def test_sounds_at_several_rates_are_counted_by_rate(tmp_path: Path) -> None:
    for number, rate in enumerate((8000, 8000, 8000, 4000, 44100)):
        sound(tmp_path, f"p{number}", rate, "a.flac" if number % 2 else "a.wav")
    (tmp_path / "files" / "p0" / "bad.wav").write_bytes(b"RIFF")
    source = declare(tmp_path, "sound", resample=True, max_bad_share=0.5)
    assert sum(read_records(source, SOUND).tallies[0].faults.values()) == 1
    (mixed,) = found(source, SOUND, ONE)
    assert mixed.what == "recordings at 4000 Hz (1), 8000 Hz (3), 44100 Hz (1); the study asks for 4000 Hz"
    assert (mixed.count, mixed.of, mixed.weight) == (2, 6, Weight.NOTE) and mixed.places == ("p3/a.flac", "p4/a.wav")
    assert "brought to the study's rate" in mixed.remedy
    (slow,) = found(source, SOUND.model_copy(update={"rate_hz": 8000}))
    assert slow.weight is Weight.WARNING and "holds nothing above half of it" in slow.remedy
    (unasked,) = found(declare(tmp_path, "sound", resample=False), SOUND)
    assert unasked.weight is Weight.WARNING and "resample = true" in unasked.remedy


def test_one_rate_is_no_finding_and_a_picture_has_none(tmp_path: Path) -> None:
    for number in range(3):
        sound(tmp_path, f"p{number}", 8000)
    source = declare(tmp_path, "sound", resample=True)
    assert found(source, SOUND) == [] == rate_findings(source, ImageData(kind="image", height=8, width=8), HERE)


def test_wfdb_records_at_several_rates_of_the_channels_that_are_read(tmp_path: Path) -> None:
    for number, rate in enumerate((100, 100, 250)):
        write_wfdb(tmp_path / "files" / f"p{number}", f"r{number}", waves(), fs=rate)
    source = declare(tmp_path, "wfdb", channels=["II", "V1"], units=["mV"], resample=True)
    (mixed,) = found(source, DATA)
    assert "100 Hz (2), 250 Hz (1)" in mixed.what and mixed.places == ("p2/r2.hea",)
    assert found(declare(tmp_path, "wfdb", channels=["III"], units=["mV"]), DATA.model_copy(update={"channels": 1})) == []


def test_edf_channels_that_are_not_read_may_have_any_rate(tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    (tmp_path / "files").mkdir()
    for number, (eeg, warmth) in enumerate(((100, 1), (100, 10), (200, 1))):
        lines = [
            edfio.EdfSignal(np.sin(np.arange(10 * rate)), rate, label=label) for rate, label in ((eeg, "EEG"), (warmth, "T"))
        ]
        (tmp_path / "files" / f"p{number}").mkdir()
        edfio.Edf(lines).write(tmp_path / "files" / f"p{number}" / "a.edf")
    one = DATA.model_copy(update={"channels": 1})
    (mixed,) = found(declare(tmp_path, "edf", channels=["EEG"], units=["mV"], resample=True), one)
    assert "100 Hz (2), 200 Hz (1)" in mixed.what
    (both,) = found(declare(tmp_path, "edf", channels=["EEG", "T"], units=["mV"], resample=True), DATA)
    assert "1 and 100 Hz (1), 1 and 200 Hz (1), 10 and 100 Hz (1)" in both.what and both.weight is Weight.WARNING


def test_dicom_waveforms_at_several_rates(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    whole = Path(str(get_testdata_file("waveform_ecg.dcm")))
    for number, rate in enumerate((1000.0, 500.0, 500.0)):
        dataset = dcmread(whole)
        for item in dataset.WaveformSequence:
            item.SamplingFrequency = rate
        (tmp_path / "files" / f"p{number}").mkdir()
        dataset.save_as(tmp_path / "files" / f"p{number}" / "a.dcm")
    source = declare(
        tmp_path, "dicom-waveform", channels=["Lead I (Einthoven)", "Lead II"], units=["mV"], resample=True, files=["*.dcm"]
    )
    (mixed,) = found(source, DATA)
    assert "500 Hz (2), 1000 Hz (1)" in mixed.what and mixed.places == ("p0/a.dcm",)


def test_every_kind_of_recording_says_its_rates() -> None:
    from ssl_core.data.declared_recordings import PiecesSource
    from ssl_core.data.source import MODELS

    assert set(DECODERS) == {kind for kind, model in MODELS.items() if issubclass(model, PiecesSource)}
