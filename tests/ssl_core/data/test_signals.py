"""npz signals: scaling by constants alone, missing samples, rate and units, refusals."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from ssl_core.data.check import check_source, inspect_source
from ssl_core.data.reading import Fault
from ssl_core.data.source import Source, load_patients, read_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import SignalData

DATA = SignalData(
    kind="signal", channels=2, samples=10, rate_hz=4.0, units=("mV", "bpm"), typical=(0.5, 20.0), centre=(0.0, 80.0)
)
NAMES = np.array(["a", "b", "SECRETPATIENT", "d"])


def declare(folder: Path, changes: dict[str, Any] | None = None, **arrays: object) -> Source:
    np.savez(folder / "x.npz", **arrays)
    body = {"kind": "signals", "path": "x.npz", "rate_hz": 4, "units": ["mV", "bpm"]} | (changes or {})
    (folder / "source.toml").write_text(tomli_w.dumps({k: v for k, v in body.items() if v is not None}), encoding="utf-8")
    return read_source(folder / "source.toml")


def floats(count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(1)
    out: np.ndarray = np.stack([rng.normal(0, 1, (count, 10)), rng.normal(80, 10, (count, 10))], axis=1).astype(np.float32)
    return out


def counts(count: int = 4) -> np.ndarray:
    out: np.ndarray = np.random.default_rng(2).integers(-3000, 3000, (count, 2, 10)).astype(np.int16)
    return out


def test_values_in_units_are_scaled_by_the_plans_constants(tmp_path: Path) -> None:
    some = floats()
    patients = load_patients(declare(tmp_path, signal=some, patient=np.array(["b", "a", "b", "c"])), DATA)
    assert patients.units == ("a", "b", "c") and patients.counts().tolist() == [1, 2, 1]
    assert patients.records.dtype == np.float32 and patients.records.shape == (4, 20)
    wide = some[[1, 0, 2, 3]].astype(np.float64)
    expected = np.concatenate([wide[:, 0] / 0.5, (wide[:, 1] - 80) / 20], axis=1)
    np.testing.assert_allclose(patients.records, expected, rtol=1e-6)


def test_an_array_names_records_for_labels(tmp_path: Path) -> None:
    source = declare(tmp_path, {"record_field": "n"}, signal=floats(), patient=np.array(["b", "a", "", "c"]), n=np.arange(4))
    assert read_records(source, DATA).names == ["0", "1", "3"]


def test_counts_are_scaled_into_units_first(tmp_path: Path) -> None:
    some = counts()
    source = declare(tmp_path, {"scale": [0.001, 0.05]}, signal=some, patient=np.arange(4))
    expected = np.concatenate([some[:, 0] * 0.001 / 0.5, (some[:, 1] * 0.05 - 80) / 20], axis=1)
    np.testing.assert_allclose(load_patients(source, DATA).records, expected, rtol=1e-5, atol=1e-6)
    one = declare(tmp_path, {"scale": [0.001]}, signal=some, patient=np.arange(4))
    np.testing.assert_allclose(load_patients(one, DATA).records[:, 10:], (some[:, 1] * 0.001 - 80) / 20, rtol=1e-5)


def test_no_record_changes_another(tmp_path: Path) -> None:
    some, other = floats(), floats()
    other[2] *= 1e6
    mine = load_patients(declare(tmp_path, signal=some, patient=NAMES), DATA).records
    theirs = load_patients(declare(tmp_path, signal=other, patient=NAMES), DATA).records
    assert [bool((a == b).all()) for a, b in zip(mine, theirs, strict=True)].count(False) == 1


def test_one_channel_may_do_without_its_dimension(tmp_path: Path) -> None:
    data = DATA.model_copy(update={"channels": 1, "units": ("mV",), "typical": (0.5,), "centre": (0.0,)})
    flat = load_patients(declare(tmp_path, {"units": ["mV"]}, signal=floats()[:, 0], patient=NAMES), data)
    deep = load_patients(declare(tmp_path, {"units": ["mV"]}, signal=floats()[:, :1], patient=NAMES), data)
    assert flat.records.tobytes() == deep.records.tobytes() and flat.records.shape == (4, 10)


@pytest.mark.parametrize(
    ("value", "fault"),
    [(np.nan, Fault.MISSING), (np.inf, Fault.MISSING), (-3e38, Fault.MISSING), (None, Fault.FLAT)],
)
def test_bad_signals_are_refused_by_the_check_and_zero_afterwards(tmp_path: Path, value: float | None, fault: Fault) -> None:
    some = floats()
    if value is None:
        some[2] = np.array([[0.0], [83.5]])
    else:
        some[2, 1, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = declare(tmp_path, signal=some, patient=NAMES)
        assert inspect_source(source, DATA).files[0].faults == {fault: 1}
        with pytest.raises(DataError, match=r"x\.npz") as raised:
            check_source(source, DATA)
        patients = load_patients(source, DATA)
    assert "SECRETPATIENT" not in str(raised.value)
    assert [bool(row.any()) for row in patients.records] == [unit != "SECRETPATIENT" for unit in patients.units]
    whole = load_patients(declare(tmp_path, signal=floats(), patient=NAMES), DATA)
    others = [unit != "SECRETPATIENT" for unit in whole.units]
    assert np.array_equal(patients.records[others], whole.records[others])


def test_a_value_that_only_the_scale_makes_too_large_is_bad_too(tmp_path: Path) -> None:
    some = floats()
    some[2, 0, 0] = 9e29
    data = DATA.model_copy(update={"typical": (1e-9, 1.0)})
    source = declare(tmp_path, signal=some, patient=NAMES)
    assert inspect_source(source, data).files[0].faults == {Fault.MISSING: 1}
    assert np.isfinite(load_patients(source, data).records).all()


def test_the_count_that_stands_for_no_sample_makes_a_signal_bad(tmp_path: Path) -> None:
    some = counts()
    some[2, 1, 9] = -32768
    source = declare(tmp_path, {"scale": [0.001]}, signal=some, patient=NAMES)
    assert inspect_source(source, DATA).accepted
    source = declare(tmp_path, {"scale": [0.001], "missing": -32768}, signal=some, patient=NAMES)
    assert inspect_source(source, DATA).files[0].faults == {Fault.MISSING: 1}
    patients = load_patients(source, DATA)
    assert not patients.records[patients.units.index("SECRETPATIENT")].any()


def test_one_lead_that_is_off_is_no_fault(tmp_path: Path) -> None:
    some = floats()
    some[:, 0] = 0.0
    assert check_source(declare(tmp_path, signal=some, patient=NAMES), DATA).accepted


def test_a_signal_without_a_patient_is_left_out(tmp_path: Path) -> None:
    source = declare(tmp_path, signal=floats(3), patient=np.array(["a", " ", "b"]))
    assert inspect_source(source, DATA).files[0].faults == {Fault.NO_PATIENT: 1}
    assert load_patients(source, DATA).units == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "arrays", "message"),
    [
        ({}, {"signal": floats()}, "'patient' is missing"),
        ({}, {"patient": NAMES}, "'signal' is missing"),
        ({}, {"signal": floats()[:, :, :9], "patient": NAMES}, r"another shape.*float32 \['m', 2, 9\].*\['m', 2, 10\]"),
        ({}, {"signal": floats()[:, 0], "patient": NAMES}, "another shape"),
        ({}, {"signal": floats().astype(np.float64), "patient": NAMES}, "float64"),
        ({}, {"signal": floats(), "patient": NAMES[:3]}, "one text or integer per record"),
        ({}, {"signal": counts(), "patient": NAMES}, "is int16; field: scale; value: missing; remedy: declare scale"),
        ({"scale": [0.1]}, {"signal": floats(), "patient": NAMES}, "is float32; field: scale; value: declared"),
        ({"scale": [0.1, 0.1, 0.1]}, {"signal": counts(), "patient": NAMES}, "one entry, or one a channel"),
        ({"missing": -1}, {"signal": floats(), "patient": NAMES}, "missing is for int16"),
        ({"rate_hz": 5}, {"signal": floats(), "patient": NAMES}, "another rate.*value: 5.0; limit: 4.0; remedy: resample"),
        ({"units": ["uV", "bpm"]}, {"signal": floats(), "patient": NAMES}, "other units.*uV, bpm; limit: mV, bpm"),
        ({"units": ["mV"]}, {"signal": floats(), "patient": NAMES}, "other units"),
    ],
)
def test_what_does_not_fit_the_study_is_named(
    tmp_path: Path, changes: dict[str, Any], arrays: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check_source(declare(tmp_path, changes, **arrays), DATA)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rate_hz": None}, "rate_hz"),
        ({"units": None}, "units"),
        ({"scale": [0.0]}, "scale"),
        ({"missing": 40000}, "missing"),
        ({"path": "../x.npz"}, "path"),
        ({"image_field": "signal"}, "image_field"),
        ({"kind": "wave"}, "table, npz, signals"),
        ({"kind": ["signals"]}, "unknown kind"),
    ],
)
def test_declarations_that_are_wrong_are_refused(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        declare(tmp_path, changes, signal=floats(), patient=NAMES)


def test_equal_units_may_be_written_once_or_for_each_channel(tmp_path: Path) -> None:
    data = DATA.model_copy(update={"units": ("mV",)})
    source = declare(tmp_path, {"units": ["mV", "mV"]}, signal=floats(), patient=NAMES)
    assert check_source(source, data).accepted


def test_a_source_of_another_kind_than_the_plans_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((2, 8, 8)), patient=np.arange(2))
    (tmp_path / "source.toml").write_text('kind = "npz"\npath = "x.npz"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"limit: signals or .* for signal data"):
        load_patients(read_source(tmp_path / "source.toml"), DATA)
