"""WFDB records written by wfdb's own writer, or by hand where it has none; whose they are; what leads elsewhere."""

from __future__ import annotations

import datetime
import socket
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests_recordings import DATA, decode, faults, mutate, pieces, read, waves, wfdb, write_wfdb

from ssl_core.data.declared_recordings import WfdbSource
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.wfdb_files import WfdbDecoder
from ssl_core.errors import DataError


def declared(**more: Any) -> WfdbSource:
    return WfdbSource.model_validate({"kind": "wfdb", "channels": ("II", "V1"), "units": ("mV",)} | more)


def recorded(root: Path, **more: Any) -> Reading:
    return read(WfdbSource, root, kind="wfdb", **more)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a reader asked for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.mark.parametrize(
    ("formats", "error"), [("16", 1e-4), ("24", 1e-6), ("32", 1e-7), ("80", 2e-2), ("516", 1e-4), ("508", 2e-2)]
)
def test_every_format_that_wfdb_writes_is_read(tmp_path: Path, formats: str, error: float) -> None:
    values = waves()
    write_wfdb(tmp_path / "p1", "r", values, formats=formats)
    reading = recorded(tmp_path, windows=2)
    assert reading.owners == ["p1", "p1"] and not faults(reading)
    # As wfdb calls a record, which has no ending, and as PhysioNet's own tables of labels do.
    assert reading.names == ["p1/r", "p1/r"]
    assert np.abs(pieces(reading) - np.stack([values[:500], values[800:]])).max() < error
    found = wfdb.rdrecord(str(tmp_path / "p1" / "r")).p_signal / [1, 1000]
    np.testing.assert_allclose(pieces(reading)[0], found[:500], rtol=1e-6, atol=1e-7)


def test_format_212_of_the_first_databases_is_read(tmp_path: Path) -> None:
    counts = np.clip((200 * waves(600)).round(), -2047, 2047).astype(np.int64)
    first, second = counts[:, 0] & 0xFFF, counts[:, 1] & 0xFFF
    packed = np.stack([first & 0xFF, (first >> 8) | ((second >> 8) << 4), second & 0xFF], axis=1).astype(np.uint8)
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "100.dat").write_bytes(packed.tobytes())
    text = "100 2 100 600\n100.dat 212 200 11 1024 995 -22131 0 II\n100.dat 212 200(0)/mV 11 1024 1011 20052 0 V1\n"
    (tmp_path / "p1" / "100.hea").write_text(text)
    found = pieces(recorded(tmp_path))[0]
    # The first has no baseline: it is the ADC's zero. No unit either: mV is the format's.
    np.testing.assert_allclose(found, (counts[50:550] - [1024, 0]) / 200, rtol=1e-5, atol=1e-6)


def test_samples_in_a_matlab_file_behind_its_header_are_read(tmp_path: Path) -> None:
    """As PhysioNet's challenges of 2020 and 2021 wrote them: MATLAB 4, whose header takes 24 bytes with this name."""
    from scipy.io import savemat

    counts = (1000 * waves(700)).round().astype(np.int16)
    (tmp_path / "p1").mkdir()
    savemat(tmp_path / "p1" / "A0001.mat", {"val": counts.T}, format="4")
    assert (tmp_path / "p1" / "A0001.mat").stat().st_size == 24 + counts.nbytes
    lines = [f"A0001.mat 16x1+24 1000.0(0)/mV 16 0 {counts[0, lead]} 0 0 {name}" for lead, name in enumerate(("II", "V1"))]
    (tmp_path / "p1" / "A0001.hea").write_text("\n".join(["A0001 2 100 700", *lines, "# Age: 74", "# Sex: Male"]) + "\n")
    reading = recorded(tmp_path)
    assert reading.owners == ["p1"] and not faults(reading)
    np.testing.assert_allclose(pieces(reading)[0], counts[100:600] / 1000, rtol=1e-6, atol=1e-7)


def test_channels_come_in_the_plans_order(tmp_path: Path) -> None:
    values = waves()
    write_wfdb(tmp_path / "p1", "r", values)
    reading = recorded(tmp_path, channels=(("MDC_V1", "V1"), "II"), windows=2)
    assert np.abs(pieces(reading)[0][:, ::-1] - values[:500]).max() < 1e-4
    assert faults(recorded(tmp_path, channels=("II", "V2"))) == {Fault.CHANNELS: 1}


def test_records_come_in_the_order_of_time(tmp_path: Path) -> None:
    for name, day in (("a", 3), ("b", 1), ("c", 2)):
        values = waves() + day
        write_wfdb(tmp_path / "p1", name, values, base_datetime=datetime.datetime(2020, 5, day, 1, 2, 3))
    reading = recorded(tmp_path)
    assert reading.order == [f"2020-05-0{day}T01:02:03.000000" for day in (3, 1, 2)]
    write_wfdb(tmp_path / "p1", "d", waves())
    assert recorded(tmp_path).order[-1] == "p1/d.hea"


def test_a_comment_names_the_patient_where_it_is_declared(tmp_path: Path) -> None:
    for name, comments in (("a", ["age: 3", "Subject ID:  s1 "]), ("b", ["subject id: é"]), ("c", ["age: 3"])):
        write_wfdb(tmp_path, name, waves(seed=ord(name)))
        head = (tmp_path / f"{name}.hea").read_bytes() + "".join(f"# {each}\n" for each in comments).encode()
        (tmp_path / f"{name}.hea").write_bytes(head)
    write_wfdb(tmp_path, "d", waves(), comments=["subject id: s1", "subject id: s2"])
    write_wfdb(tmp_path, "e", waves())
    (tmp_path / "e.hea").write_bytes((tmp_path / "e.hea").read_bytes() + b"# subject id: \xe9\n")
    reading = recorded(tmp_path, patient_from="header", patient_comment="subject id")
    assert reading.owners == ["s1", "é"] and faults(reading) == {Fault.NO_PATIENT: 3}
    # A patient in the header is nobody's where the folder is to say it.
    assert recorded(tmp_path).owners == []


def test_several_samples_a_frame_are_a_rate_of_their_own(tmp_path: Path) -> None:
    fast, slow = waves(2600, 200)[:, 0], waves(1300, 100)[:, 1]
    write_wfdb(
        tmp_path / "p1", "r", waves(), p_signal=None, e_p_signal=[fast, 1000 * slow], samps_per_frame=[2, 1], fmt=["16", "16"]
    )  # fmt: skip
    assert faults(recorded(tmp_path)) == {Fault.RATE: 1}
    found = pieces(recorded(tmp_path, resample=True))[0]
    assert np.abs(found - waves()[400:900]).max() < 0.06
    assert np.abs(found[:, 1] - slow[400:900]).max() < 1e-4


LAYOUT = "r_layout 2 100 0\n~ 0 200/mV 0 0 0 0 0 II\n~ 0 200/uV 0 0 0 0 0 V1\n"


def _segments(folder: Path, values: np.ndarray, *, gap: bool = False, unit: str = "uV") -> None:
    """A record r of two parts of 600 samples, of fixed layout; with a gap of 200 between them, of variable."""
    write_wfdb(folder, "r_1", values[:600])
    write_wfdb(
        folder, "r_2", values[600:1200], units=["mV", unit], p_signal=values[600:1200] * [1, 1000 if unit == "uV" else 1]
    )
    (folder / "r_layout.hea").write_text(LAYOUT)
    lines = ["r_layout 0", "r_1 600", "~ 200", "r_2 600"] if gap else ["r_1 600", "r_2 600"]
    (folder / "r.hea").write_text(f"r/{len(lines)} 2 100 {1200 + 200 * gap}\n" + "\n".join(lines) + "\n")


def test_a_record_of_several_segments_is_one_recording(tmp_path: Path) -> None:
    values = waves(1200)
    _segments(tmp_path / "p1", values)
    (tmp_path / "p1" / "r_layout.hea").unlink()
    reading = recorded(tmp_path, windows=2)
    assert len(reading.owners) == 2 and not faults(reading)
    assert np.abs(pieces(reading) - np.stack([values[:500], values[700:]])).max() < 1e-4
    _segments(tmp_path / "p1", values, gap=True)
    assert faults(recorded(tmp_path)) == {Fault.MISSING: 1}
    assert not faults(recorded(tmp_path, windows=2))
    _segments(tmp_path / "p1", values, gap=True, unit="mV")
    assert faults(recorded(tmp_path)) == {Fault.UNITS: 1}


def test_a_variable_layout_has_channels_that_come_and_go(tmp_path: Path) -> None:
    values, folder = waves(1200), tmp_path / "p1"
    write_wfdb(folder, "r_1", values[:600])
    write_wfdb(folder, "r_2", values[600:], units=["uV", "mV"], sig_name=["V1", "II"], p_signal=values[600:, ::-1] * [1000, 1])
    write_wfdb(folder, "r_3", values[:600, :1], units=["mV"], sig_name=["II"], p_signal=values[:600, :1], fmt=["16"])
    (folder / "r_layout.hea").write_text(LAYOUT)
    (folder / "r.hea").write_text("r/4 2 100 1800\nr_layout 0\nr_1 600\nr_2 600\nr_3 600\n")
    reading = recorded(tmp_path, windows=3)
    assert faults(reading) == {Fault.MISSING: 1}
    assert np.abs(pieces(reading)[:2] - np.stack([values[:500], values[650:1150]])).max() < 1e-4


def test_a_missing_sample_is_bad_and_a_flat_record_too(tmp_path: Path) -> None:
    values = waves(500)
    values[7, 1] = np.nan
    write_wfdb(tmp_path / "p1", "a", values)
    write_wfdb(tmp_path / "p1", "b", np.ones((500, 2)))
    reading = recorded(tmp_path)
    assert faults(reading) == {Fault.MISSING: 1, Fault.FLAT: 1} and not reading.records.any() and len(reading.owners) == 2


@pytest.mark.parametrize("gain", ["0", "0.0", "0/mV", "0(3)/mV", ""])
def test_a_signal_without_a_gain_has_no_units(tmp_path: Path, gain: str) -> None:
    write_wfdb(tmp_path / "p1", "r", waves())
    path = tmp_path / "p1" / "r.hea"
    first, one, two = path.read_text().splitlines()[:3]
    cells = two.split()
    cells[2] = gain
    path.write_text("\n".join([first, one, " ".join(cells if gain else cells[:2])]) + "\n")
    other = (Fault.UNITS, Fault.CHANNELS)[not gain]
    assert faults(recorded(tmp_path)) == {other: 1}


@pytest.mark.parametrize(
    "where", ["../r.dat", "/etc/passwd", "p2/r.dat", "http://localhost/r.dat", "simplecache::http://h/r.dat", ".."]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, where: str) -> None:
    write_wfdb(tmp_path / "p1", "r", waves())
    write_wfdb(tmp_path, "r", waves())
    path = tmp_path / "p1" / "r.hea"
    path.write_text(path.read_text().replace("r.dat", where))
    assert faults(recorded(tmp_path, path="p1", files=("r.hea",))) == {Fault.OUTSIDE: 1}


def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "p1", "r", waves())
    write_wfdb(tmp_path / "p2", "s", waves(seed=1))
    (tmp_path / "p1" / "r.dat").unlink()
    (tmp_path / "p1" / "r.dat").symlink_to(tmp_path / "p2" / "s.dat")
    assert faults(recorded(tmp_path)) == {Fault.OUTSIDE: 1}
    (tmp_path / "p1" / "r.dat").unlink()
    assert faults(recorded(tmp_path)) == {Fault.UNREADABLE: 1}
    (tmp_path / "p1" / "r.hea").unlink()
    (tmp_path / "p1" / "m.hea").write_text("m/1 2 100 1300\ns 1300\n")
    (tmp_path / "p1" / "s.hea").symlink_to(tmp_path / "p2" / "s.hea")
    assert faults(recorded(tmp_path))[Fault.OUTSIDE] >= 1


def test_no_record_is_made_of_another_patients_file(tmp_path: Path) -> None:
    """In one folder of all patients the header of one might name the signals of another."""
    for name in ("p1", "p10", "p2"):
        write_wfdb(tmp_path, name, waves(seed=len(name)))
    rule = {"patient_from": "pattern", "patient_pattern": r"^(?P<patient>p\d+)"}
    assert recorded(tmp_path, **rule).owners == ["p1", "p10", "p2"]
    head = (tmp_path / "p1.hea").read_text()
    for other in ("p10", "p2"):
        (tmp_path / "p1.hea").write_text(head.replace("p1.dat", f"{other}.dat"))
        assert faults(recorded(tmp_path, **rule)) == {Fault.OUTSIDE: 1}
        (tmp_path / "p1.hea").write_text(f"p1/1 2 100 1300\n{other} 1300\n")
        reading = recorded(tmp_path, **rule)
        assert faults(reading) == {Fault.OUTSIDE: 1} and reading.owners == ["p1", "p10", "p2"]


def test_the_signals_count_against_the_size_that_is_declared(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "p1", "r", waves(300_000), formats="32")
    assert faults(recorded(tmp_path, largest_mib=1)) == {Fault.TOO_LARGE: 1}
    assert not faults(recorded(tmp_path, largest_mib=3))
    # A header may promise more than there is; nothing is made of it.
    path = tmp_path / "p1" / "r.hea"
    path.write_text(path.read_text().replace(" 300000", " 99999999999"))
    assert faults(recorded(tmp_path, largest_mib=3)) == {Fault.TOO_LARGE: 1}


@pytest.mark.parametrize(
    "text",
    ["", "r", "#only: a comment\n", "r 2 100\n", "r 0 100 5\n",
     "r/1 2 100 1300\nr 1300\n", "r/2 2 100 9\n~ 4\n~ 5\n", "r 2 100 500\n" + "a" * 100_000],
)  # fmt: skip
def test_a_header_that_says_nothing_is_a_bad_file(tmp_path: Path, text: str) -> None:
    write_wfdb(tmp_path / "p1", "r", waves())
    (tmp_path / "p1" / "r.hea").write_text(text)
    reading = recorded(tmp_path)
    assert len(reading.owners) == 1 and sum(faults(reading).values()) == 1 and not reading.records.any()


def test_a_path_that_a_library_would_take_for_an_address_is_not_opened(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "a::file:" / "p1", "r", waves())
    assert faults(recorded(tmp_path / "a::file:")) == {Fault.UNREADABLE: 1}


def test_what_concerns_the_whole_folder_is_raised_before_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wfdb(tmp_path / "p1", "r", waves())
    with pytest.raises(DataError, match="more or fewer channels"):
        recorded(tmp_path, channels=("II",))
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(DataError, match=r"pip install 'choral\[formats\]'"):
        recorded(tmp_path)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_make_the_decoder_raise(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    if data.draw(st.booleans()):
        _segments(root, waves(1200), gap=True)
        files = ["r.hea", "r_1.hea", "r_2.dat"]
    else:
        write_wfdb(root, "r", waves(600), formats=data.draw(st.sampled_from(["16", "516"])))
        files = ["r.hea", *(path.name for path in root.iterdir() if path.suffix == ".dat")]
    for name in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=2, unique=True)):
        (root / name).write_bytes(mutate((root / name).read_bytes(), data.draw, st))
    found = decode(WfdbDecoder(declared(largest_mib=1, resample=True), DATA), root / "r.hea")
    if not isinstance(found, Fault):
        for each in found:
            assert isinstance(each.content, Fault) or (each.content.shape == (1000,) and np.isfinite(each.content).all())


def test_a_file_belongs_to_the_header_that_is_nearest_to_its_name(tmp_path: Path) -> None:
    for name in ("p1", "p1b"):
        write_wfdb(tmp_path, name, waves(seed=len(name)))
    rule = {"patient_from": "pattern", "patient_pattern": r"^(?P<patient>p\w+)"}
    (tmp_path / "p1.hea").write_text((tmp_path / "p1.hea").read_text().replace("p1.dat", "p1b.dat"))
    reading = recorded(tmp_path, **rule)
    assert faults(reading) == {Fault.TWO_PATIENTS: 1} and reading.owners == ["p1", "p1b"] and not reading.records[0].any()
    # Whether p1's record is there depends on p1b's header: such a source is refused, whatever share of bad records it declares.
    assert reading.tallies[0].hiding == 1
    (tmp_path / "p1b.hea").unlink()
    assert not faults(recorded(tmp_path, **rule))


def test_a_segment_of_another_patient_is_not_read_and_stays_his(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("r/1 2 100 1300\nr_1 1300\n# subject: p1\n")
    write_wfdb(tmp_path, "r_1", waves(), comments=["subject: p2"])
    (tmp_path / "index.csv").write_text("file,patient\nr.hea,p1\nr_1.hea,p2\n")
    by_header = {"patient_from": "header", "patient_comment": "subject"}
    for rule in ({"patient_from": "index", "index": "index.csv"}, by_header):
        reading = recorded(tmp_path, **rule)
        assert faults(reading)[Fault.OUTSIDE] == 1 and "p2" in reading.owners
        assert reading.records[reading.owners.index("p2")].any()
        assert not any(row.any() for owner, row in zip(reading.owners, reading.records, strict=True) if owner == "p1")
    (tmp_path / "r_1.hea").write_text((tmp_path / "r_1.hea").read_text().replace("subject: p2", "filter: none"))
    assert recorded(tmp_path, **by_header).owners == ["p1"]


def test_a_header_with_another_ending_is_not_taken_for_its_neighbour(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "r", waves())
    (tmp_path / "r.HEA").write_bytes(path.read_bytes())
    (tmp_path / "index.csv").write_text("file,patient\nr.hea,p1\nr.HEA,p2\n")
    reading = recorded(tmp_path, patient_from="index", index="index.csv")
    assert faults(reading) == {Fault.UNREADABLE: 1} and not reading.records[reading.owners.index("p2")].any()
