"""pydicom's 12-lead ECG, as it is and spoilt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from pydicom.data import get_testdata_file
from tests_recordings import decode, faults, mutate, pieces, read

from ssl_core.data.declared_recordings import WaveformSource
from ssl_core.data.dicom_waveforms import WaveformDecoder
from ssl_core.data.reading import Fault, Reading
from ssl_core.spec.data import SignalData

ECG = str(get_testdata_file("waveform_ecg.dcm"))
DATA = SignalData(kind="signal", channels=2, samples=2000, rate_hz=1000, units=("mV",), typical=(0.5,))
LEADS = (("I", "Lead I (Einthoven)"), "5.6.3-9-2")


def recorded(root: Path, data: SignalData = DATA, **more: Any) -> Reading:
    return read(WaveformSource, root, data, **({"kind": "dicom-waveform", "channels": LEADS, "patient_from": "header"} | more))


def changed(folder: Path, change: Callable[[Any], Any]) -> Path:
    whole = pydicom.dcmread(ECG)
    change(whole)
    whole.save_as(folder / "a.dcm")
    return folder


def lead(whole: Any, place: int = 0, group: int = 0) -> Any:
    return whole.WaveformSequence[group].ChannelDefinitionSequence[place]


def test_the_rhythm_is_read_as_pydicom_reads_it(tmp_path: Path) -> None:
    reading = recorded(changed(tmp_path, lambda _: None), windows=5)
    assert reading.owners == ["642341"] * 5 and reading.order == ["20130125105919"] * 5 and not faults(reading)
    assert reading.names == [str(pydicom.dcmread(ECG).SOPInstanceUID)] * 5
    theirs = pydicom.dcmread(ECG).waveform_array(0)[:, :2] / 1000
    np.testing.assert_allclose(pieces(reading, DATA).reshape(10_000, 2), theirs, rtol=1e-5, atol=1e-7)


def test_a_group_is_chosen_by_its_label_or_by_its_rate(tmp_path: Path) -> None:
    short = DATA.model_copy(update={"samples": 1200})
    changed(tmp_path, lambda _: None)
    beat = pieces(recorded(tmp_path, short, multiplex="MEDIAN BEAT"), short)[0]
    np.testing.assert_allclose(beat, pydicom.dcmread(ECG).waveform_array(1)[:, :2] / 1000, rtol=1e-5, atol=1e-7)
    assert faults(recorded(tmp_path, multiplex="MEDIAN BEAT")) == {Fault.SHAPE: 1}
    assert faults(recorded(tmp_path, multiplex="MEDIAN")) == {Fault.CHANNELS: 1}

    def slower(whole: Any) -> None:
        whole.WaveformSequence[0].SamplingFrequency = "500"

    found = pieces(recorded(changed(tmp_path, slower), short), short)[0]
    assert np.array_equal(found, beat)
    assert faults(recorded(tmp_path, multiplex="RHYTHM")) == {Fault.RATE: 1}


def test_ten_seconds_at_a_thousand_hertz_are_brought_to_the_plans_rate(tmp_path: Path) -> None:
    data = DATA.model_copy(update={"rate_hz": 100.0, "samples": 1000})
    changed(tmp_path, lambda _: None)
    assert faults(recorded(tmp_path, data)) == {Fault.RATE: 1}
    found = pieces(recorded(tmp_path, data, resample=True), data)[0]
    whole = pydicom.dcmread(ECG).waveform_array(0)[:, :2] / 1000
    assert 0.9 < np.corrcoef(found[:, 0], whole[::10, 0])[0, 1] <= 1.0


def test_sensitivity_correction_and_baseline_are_applied(tmp_path: Path) -> None:
    before = pieces(recorded(changed(tmp_path, lambda _: None)), DATA)[0]

    def scale(whole: Any) -> None:
        lead(whole).ChannelSensitivity, lead(whole).ChannelSensitivityCorrectionFactor = "2.5", "3"
        lead(whole).ChannelBaseline = "40"

    after = pieces(recorded(changed(tmp_path, scale)), DATA)[0]
    np.testing.assert_allclose(after[:, 0], 6 * before[:, 0] + 0.04, rtol=1e-5, atol=1e-6)
    assert np.array_equal(after[:, 1], before[:, 1])


def _no_units(whole: Any) -> None:
    del lead(whole).ChannelSensitivityUnitsSequence


def _no_sensitivity(whole: Any) -> None:
    del lead(whole).ChannelSensitivity


def _other_units(whole: Any) -> None:
    lead(whole).ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"


def _no_leads(whole: Any) -> None:
    for group in whole.WaveformSequence:
        group.ChannelDefinitionSequence[0].ChannelSourceSequence[0].CodeMeaning = "Lead aVR"


def _cut(whole: Any) -> None:
    whole.WaveformSequence[0].WaveformData = whole.WaveformSequence[0].WaveformData[:1000]


def _padded(whole: Any) -> None:
    raw = np.frombuffer(whole.WaveformSequence[0].WaveformData, "<i2").reshape(-1, 12).copy()
    raw[4500, 1] = -32768
    whole.WaveformSequence[0].WaveformData = raw.tobytes()
    whole.WaveformSequence[0].add_new("WaveformPaddingValue", "OW", b"\x00\x80")


def _law(whole: Any) -> None:
    whole.WaveformSequence[0].WaveformBitsAllocated, whole.WaveformSequence[0].WaveformSampleInterpretation = 8, "MB"


def _no_waveform(whole: Any) -> None:
    del whole.WaveformSequence


def _enormous(whole: Any) -> None:
    whole.WaveformSequence[0].NumberOfWaveformSamples = 1 << 31


def _fewer(whole: Any) -> None:
    whole.WaveformSequence[0].NumberOfWaveformChannels = 6


@pytest.mark.parametrize(
    ("change", "fault"),
    [(_no_units, Fault.UNITS), (_no_sensitivity, Fault.UNITS), (_other_units, Fault.UNITS), (_no_leads, Fault.CHANNELS),
     (_cut, Fault.UNREADABLE), (_padded, Fault.MISSING), (_law, Fault.CODEC), (_no_waveform, Fault.WRONG_KIND),
     (_enormous, Fault.TOO_LARGE), (_fewer, Fault.UNREADABLE)],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path: Path, change: Callable[[Any], Any], fault: Fault) -> None:
    reading = recorded(changed(tmp_path, change))
    assert faults(reading) == {fault: 1} and not reading.records.any()
    assert reading.owners == ([] if fault is Fault.WRONG_KIND else ["642341"])


def test_an_object_without_a_patient_belongs_to_nobody(tmp_path: Path) -> None:
    reading = recorded(changed(tmp_path, lambda whole: setattr(whole, "PatientID", "")))
    assert not reading.owners and faults(reading) == {Fault.NO_PATIENT: 1}
    (tmp_path / "p1").mkdir()
    changed(tmp_path / "p1", lambda _: None)
    assert recorded(tmp_path, patient_from="folder").owners == ["p1"]


def test_time_is_that_of_acquisition_content_or_study(tmp_path: Path) -> None:
    def content(whole: Any) -> None:
        del whole.AcquisitionDateTime
        whole.ContentDate, whole.ContentTime = "20130126", "101112.5"

    def study(whole: Any) -> None:
        content(whole)
        del whole.ContentDate
        whole.StudyDate, whole.StudyTime = "20130127", ""

    assert recorded(changed(tmp_path, content)).order == ["20130126101112.5"]
    assert recorded(changed(tmp_path, study)).order == ["20130127"]


def test_other_files_of_pydicom_are_of_another_kind_or_unreadable(tmp_path: Path) -> None:
    names = ["CT_small.dcm", "MR_small.dcm", "reportsi.dcm", "no_meta.dcm", "DICOMDIR"]
    for name in names:
        (tmp_path / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    reading = recorded(tmp_path)
    assert sum(faults(reading).values()) == len(names) + faults(reading).get(Fault.NO_PATIENT, 0)
    assert set(faults(reading)) <= {Fault.WRONG_KIND, Fault.UNREADABLE}
    assert faults(reading)[Fault.WRONG_KIND] >= 3


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_make_the_decoder_raise(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("fuzz")

    def shorter(whole: Any) -> None:
        del whole.WaveformSequence[1]
        whole.WaveformSequence[0].NumberOfWaveformSamples = 200
        whole.WaveformSequence[0].WaveformData = whole.WaveformSequence[0].WaveformData[:4800]

    path = changed(folder, shorter) / "a.dcm"
    path.write_bytes(mutate(path.read_bytes(), data.draw, st))
    source = WaveformSource(kind="dicom-waveform", channels=LEADS, units=("mV",), largest_mib=1, resample=True, pad=True)
    found = decode(WaveformDecoder(source, DATA), path)
    if not isinstance(found, Fault):
        for each in found:
            assert isinstance(each.content, Fault) or (each.content.shape == (4000,) and np.isfinite(each.content).all())
