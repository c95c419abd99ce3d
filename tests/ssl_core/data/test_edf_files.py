"""EDF and BDF files written by edfio's own writer, their headers spoilt by hand."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import edfio
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests_recordings import DATA, NAMES, decode, faults, mutate, pieces, read, waves

from ssl_core.data.declared_recordings import EdfSource
from ssl_core.data.edf_files import EdfDecoder
from ssl_core.data.reading import Fault, Reading

MIDNIGHT = datetime.time(1, 2, 3)


def write(path: Path, values: np.ndarray, *, rates: tuple[float, float] = (100, 100), **more: Any) -> Path:
    """II in mV and V1 in uV, with annotations as EDF+C or BDF+C has them."""
    whole, signal = (edfio.Bdf, edfio.BdfSignal) if path.suffix == ".bdf" else (edfio.Edf, edfio.EdfSignal)
    given = {
        "patient": edfio.Patient(code="c1", name="A_B"),
        "recording": edfio.Recording(startdate=datetime.date(2020, 5, 4)),
        "starttime": MIDNIGHT,
        "annotations": [edfio.EdfAnnotation(1, None, "apnoea")],
    } | more
    units = {"II": ("mV", 1.0), "V1": ("uV", 1000.0)}
    signals = [
        signal(line * units[name][1], rate, label=name, physical_dimension=units[name][0])
        for name, line, rate in zip(NAMES, values.T, rates, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    whole(signals, **given).write(path)
    return path


def recorded(root: Path, **more: Any) -> Reading:
    return read(EdfSource, root, kind="edf", **more)


def patch(path: Path, place: int, text: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[place : place + len(text)] = text
    path.write_bytes(bytes(whole))


@pytest.mark.parametrize("name", ["a.edf", "a.bdf", "A.EDF"])
@pytest.mark.parametrize("annotations", [None, [edfio.EdfAnnotation(1, None, "x")]])
def test_what_edfio_writes_is_read_as_edfio_reads_it(tmp_path: Path, name: str, annotations: Any) -> None:
    values = waves()
    path = write(tmp_path / "p1" / name, values, annotations=annotations)
    reading = recorded(tmp_path, windows=2)
    assert not faults(reading) and reading.owners == ["p1", "p1"] and reading.order == ["2020-05-04T01:02:03"] * 2
    assert reading.names == [f"p1/{name}"] * 2
    assert np.abs(pieces(reading) - np.stack([values[:500], values[800:]])).max() < 1e-4
    whole = edfio.read_bdf(path) if path.suffix == ".bdf" else edfio.read_edf(path)
    for place, factor in enumerate((1, 1000)):
        theirs = whole.get_signal(NAMES[place]).data[:500] / factor
        np.testing.assert_allclose(pieces(reading)[0][:, place], theirs, rtol=1e-5, atol=1e-6)


def test_signals_of_other_rates_are_resampled_where_it_is_declared(tmp_path: Path) -> None:
    fast, slow = waves(2600, 200)[:, 0], waves()[:, 1]
    signals = [
        edfio.EdfSignal(fast, 200, label="II", physical_dimension="mV"),
        edfio.EdfSignal(slow, 100, label="V1", physical_dimension="mV"),
    ]
    (tmp_path / "p1").mkdir()
    edfio.Edf(signals).write(tmp_path / "p1" / "a.edf")
    assert faults(recorded(tmp_path)) == {Fault.RATE: 1}
    found = pieces(recorded(tmp_path, resample=True))[0]
    assert np.abs(found - waves()[400:900]).max() < 0.06 and np.abs(found[:, 1] - slow[400:900]).max() < 1e-4


@pytest.mark.parametrize(
    ("field", "owner"),
    [(b"c7 F 02-MAY-1951 A_B", "c7"), (b"c7 X X X", "c7"), (b"X F 02-MAY-1951 A_B", None), (b"John Smith", None), (b"", None),
     (b"John M Smith junior", None), (b"Smith John M 1951", None), (b"\xe97 F X X", "é7")],
)  # fmt: skip
def test_the_patient_code_is_read_where_the_header_follows_edf_plus(tmp_path: Path, field: bytes, owner: str | None) -> None:
    patch(write(tmp_path / "p1" / "a.edf", waves()), 8, field.ljust(80))
    reading = recorded(tmp_path, patient_from="header")
    assert reading.owners == ([owner] if owner else []) and faults(reading) == ({} if owner else {Fault.NO_PATIENT: 1})
    assert recorded(tmp_path).owners == ["p1"]


def test_a_date_that_is_hidden_leaves_the_order_to_the_names(tmp_path: Path) -> None:
    write(tmp_path / "p1" / "a.edf", waves(), recording=edfio.Recording())
    assert recorded(tmp_path).order == ["p1/a.edf"]


@pytest.mark.parametrize(
    ("place", "text", "start"),
    [(88, b"free text", "2020-05-04T01:02:03"), (88, b"Startdate X X X X", ""),
     (88, b"Startdate 30-FEB-2020 X X X", "2020-05-04T01:02:03"), (88, b"Startdate", "2020-05-04T01:02:03"),
     (176, b"25.00.00", ""), (88, b"Startdate 07-MAR-1999 X X X", "1999-03-07T01:02:03")],
)  # fmt: skip
def test_the_day_is_that_of_edf_plus_or_else_of_the_older_field(tmp_path: Path, place: int, text: bytes, start: str) -> None:
    path = write(tmp_path / "p1" / "a.edf", waves())
    patch(path, place, text.ljust(80 if place == 88 else 8))
    assert recorded(tmp_path).order == [start or "p1/a.edf"]
    patch(path, 88, b"free text".ljust(80) + b"31.12.84")
    assert place == 176 or recorded(tmp_path).order == ["2084-12-31T01:02:03"]


def test_annotations_that_cannot_be_read_are_none_of_its_business(tmp_path: Path) -> None:
    path = write(tmp_path / "p1" / "a.edf", waves())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"+0\x14\x14", b"\xff\x14\x00\x15"))
    assert path.read_bytes() != whole and not faults(recorded(tmp_path))


@pytest.mark.parametrize(
    ("place", "text", "fault"),
    [
        (192, b"EDF+D", Fault.MISSING),
        (236, b"14      ", Fault.UNREADABLE),
        (236, b"1300    ", Fault.UNREADABLE),
        (236, b"-1      ", None),
        (236, b"x       ", Fault.UNREADABLE),
        (244, b"2       ", Fault.RATE),
        (244, b"0       ", Fault.UNREADABLE),
        (252, b"9999", Fault.UNREADABLE),
        (252, b"-1  ", Fault.UNREADABLE),
        (0, b"1       ", Fault.WRONG_KIND),
        (256, b"V9", Fault.CHANNELS),
        (256, b"V1", Fault.CHANNELS),
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(tmp_path: Path, place: int, text: bytes, fault: Fault | None) -> None:
    patch(write(tmp_path / "p1" / "a.edf", waves()), place, text)
    assert faults(recorded(tmp_path)) == ({} if fault is None else {fault: 1})


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p1" / "a.edf", waves())
    whole = path.read_bytes()
    for end in (len(whole) - 1, len(whole) - 500, 700, 100, 5):
        path.write_bytes(whole[:end])
        assert set(faults(recorded(tmp_path))) <= {Fault.UNREADABLE, Fault.WRONG_KIND} and faults(recorded(tmp_path))
    path.write_bytes(whole + b"\0\0")
    assert faults(recorded(tmp_path)) == {Fault.UNREADABLE: 1}


def test_values_outside_the_digital_range_are_missing(tmp_path: Path) -> None:
    lines = [np.clip(1000 * line, -2000, 2000).astype(np.int16) for line in waves().T]
    signals = [
        edfio.EdfSignal.from_digital(
            line, 100, label=name, physical_dimension="mV", physical_range=(-2.048, 2.047), digital_range=(-2048, 2047)
        )
        for name, line in zip(NAMES, lines, strict=True)
    ]
    signals[1].digital[700] = 2048
    (tmp_path / "p1").mkdir()
    edfio.Edf(signals).write(tmp_path / "p1" / "a.edf")
    assert faults(recorded(tmp_path)) == {Fault.MISSING: 1}
    reading = recorded(tmp_path, windows=2)
    assert not faults(reading)
    np.testing.assert_allclose(pieces(reading)[0], np.stack(lines, axis=1)[:500] / 1000, rtol=1e-5, atol=1e-6)


def test_a_signal_without_a_scale_has_no_units(tmp_path: Path) -> None:
    """The fields of both signals stand side by side: 256 + 2 x (16 + 80 + 8) = 464 is where the physical minima begin."""
    path = write(tmp_path / "p1" / "a.edf", waves(), annotations=None)
    patch(path, 464, b"1".ljust(8))
    patch(path, 480, b"1".ljust(8))
    assert faults(recorded(tmp_path)) == {Fault.UNITS: 1}
    patch(path, 464, b"nan".ljust(8))
    assert faults(recorded(tmp_path)) == {Fault.MISSING: 1}
    patch(path, 496, b"7".ljust(8))
    patch(path, 512, b"7".ljust(8))
    assert faults(recorded(tmp_path)) == {Fault.UNREADABLE: 1}


def test_a_polarity_that_is_turned_round_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "p1" / "a.edf", waves(), annotations=None)
    before = pieces(recorded(tmp_path))[0]
    whole = path.read_bytes()
    patch(path, 464, whole[480:488])
    patch(path, 480, whole[464:472])
    after = pieces(recorded(tmp_path))[0]
    low, high = float(whole[464:472]), float(whole[480:488])
    np.testing.assert_allclose(after[:, 0], low + high - before[:, 0], rtol=1e-4, atol=1e-5)
    assert np.array_equal(after[:, 1], before[:, 1])


def test_a_file_of_many_samples_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "p1" / "a.edf", waves(270_000))
    assert faults(recorded(tmp_path, largest_mib=1)) == {Fault.TOO_LARGE: 1} and not faults(recorded(tmp_path, largest_mib=2))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_make_the_decoder_raise(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / data.draw(st.sampled_from(["a.edf", "a.bdf"])), waves(600))
    # The header, where a byte changes what all others mean, more often than the rest.
    whole = path.read_bytes()
    head = mutate(whole[:1024], data.draw, st) if data.draw(st.booleans()) else whole[:1024]
    path.write_bytes(head + (mutate(whole[1024:], data.draw, st) if data.draw(st.booleans()) else whole[1024:]))
    decoder = EdfDecoder(EdfSource(kind="edf", channels=("II", "V1"), units=("mV",), largest_mib=1, resample=True), DATA)
    found = decode(decoder, path)
    if not isinstance(found, Fault):
        for each in found:
            assert isinstance(each.content, Fault) or (each.content.shape == (1000,) and np.isfinite(each.content).all())
