"""Long tables of measurements: each patient's grid as pandas makes it; units, gaps, faults; no order of rows."""

from __future__ import annotations

import random
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.config import parse
from ssl_core.data.check import check_and_load, check_source, inspect_source
from ssl_core.data.declared_vitals import VitalsSource
from ssl_core.data.kept import read_kept, write_kept
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source, load_patients, read_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import SignalData, TextData

DATA = SignalData(
    kind="signal", channels=2, samples=8, rate_hz=1 / 3600, units=("1/min", "Cel"), centre=(80.0, 37.0), typical=(20.0, 0.5)
)
HEAD = "p,t,n,v,r\n"
HERE = Effort(workers=0)
SECRET = "SECRETPATIENT"  # noqa: S105 - a patient id that no message may hold
FAHRENHEIT = {"factors": {"T F": 5 / 9}, "offsets": {"T F": -160 / 9}}


def declare(folder: Path, **changes: Any) -> Source:
    body = {
        "kind": "vitals", "path": "t.csv", "patient_column": "p", "time_column": "t", "name_column": "n", "value_column": "v",
        "channels": ["HR", ["T C", "T F"]], "units": ["1/min", "Cel"], **FAHRENHEIT, **changes,
    }  # fmt: skip
    (folder / "source.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return read_source(folder / "source.toml")


def read(folder: Path, rows: str, data: SignalData = DATA, **changes: Any) -> Any:
    (folder / "t.csv").write_text(HEAD + rows, encoding="utf-8")
    return load_patients(declare(folder, **changes), data, HERE)


def ward(seed: int = 0) -> pd.DataFrame:
    """Two weeks of a ward: rounds every hour or four, now and then missed, pauses of days, a unit of its own on one machine."""
    rng = np.random.default_rng(seed)
    lines = []
    for patient in range(5):
        begin = datetime(2024, 2, 27, 22, 17) + timedelta(hours=30 * patient)
        for name, every, middle, spread in (
            ("HR", 1.0, 85, 12),
            ("T C", 4.0, 37.2, 0.6),
            ("T F", 9.0, 99, 1),
            ("SpO2", 1, 96, 2),
        ):
            hours = np.cumsum(every * rng.uniform(0.1, 1.9, 60)) + (70 if name == "T F" else 0) + 50 * (rng.random(60) > 0.9)
            for hour in hours:
                when = begin + timedelta(seconds=round(3600 * hour))
                lines.append((f"p{patient}", when, name, round(float(rng.normal(middle, spread)), 1)))
    frame = pd.DataFrame(lines, columns=["p", "t", "n", "v"])
    return frame.sample(frac=1, random_state=seed)


def by_pandas(frame: pd.DataFrame, carry: tuple[int, int], cell: str) -> dict[str, Any]:
    """The same records by another library: resample, ffill, reshape."""
    used = frame[frame.n != "SpO2"].copy()
    hot = used.n == "T F"
    used.loc[hot, "v"] = used.v[hot] * (5 / 9) - 160 / 9
    out = {}
    for patient, own in used.groupby("p"):
        first = own.t.min()
        span = int((own.t.max() - first) / pd.Timedelta("1h")) // 8 * 8 + 8
        grid = pd.date_range(first, periods=span, freq="1h")
        columns, there = [], np.zeros(span, np.bool_)
        for names, reach, centre, typical in ((["HR"], carry[0], 80, 20), (["T C", "T F"], carry[1], 37, 0.5)):
            series = own[own.n.isin(names)].sort_values(["t", "v"]).set_index("t").v
            cells = getattr(series.resample("1h", origin=first), cell)().reindex(grid)
            there |= cells.notna().to_numpy()
            held = cells.ffill(limit=reach) if reach else cells
            columns.append(((held - centre) / typical).fillna(0).to_numpy().reshape(-1, 8))
        kept = there.reshape(-1, 8).any(axis=1)
        out[str(patient)] = np.stack(columns, axis=1)[kept].reshape(-1, 16)
    return out


@pytest.mark.parametrize(("carry", "cell"), [((0, 0), "mean"), ((2, 5), "mean"), ((1, 30), "last")])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_each_patients_grid_is_what_pandas_makes_of_his_rows(
    tmp_path: Path, carry: tuple[int, int], cell: str, form: str
) -> None:
    frame = ward()
    if form == "csv":
        frame.to_csv(tmp_path / "t.csv", index=False)
    else:
        columns = {name: frame[name].to_list() for name in ("p", "n", "v")}
        pq.write_table(pa.table({**columns, "t": pa.array(frame.t.to_list(), pa.timestamp("us"))}), tmp_path / "t.parquet")
    source = declare(tmp_path, path=f"t.{form}", format=form, carry=carry, cell=cell)
    found, wanted = load_patients(source, DATA, HERE), by_pandas(frame, carry, cell)
    assert found.units == tuple(wanted) and found.counts().tolist() == [len(each) for each in wanted.values()]
    assert found.records.dtype == np.float32 and min(found.counts()) > 3
    np.testing.assert_allclose(found.records, np.concatenate(list(wanted.values())), rtol=1e-5, atol=1e-5)
    assert inspect_source(source, DATA).files[0].undeclared == int((frame.n == "SpO2").sum())


def test_values_of_one_cell_gaps_and_pieces(tmp_path: Path) -> None:
    rows = (
        "p,2024-01-01T10:30,HR,100,\np,2024-01-01T11:29:59,HR,140,\np,2024-01-01T12:30,HR,60,\n"
        "p,2024-01-01T18:30+00:00,T F,98.6,\np,2024-01-02T10:30,T C,38,\n"
    )
    found = read(tmp_path, rows, carry=[1, 0])
    # Cell 0 is the mean of 100 and 140, held for one more; nothing falls into hours 9 to 16, nor into 17 to 24.
    first = [[2, 2, -1, -1, 0, 0, 0, 0], [0] * 8]
    second = [[0] * 8, [0] * 8]
    third = [[0] * 8, [2, 0, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(found.records.reshape(-1, 2, 8), [first, second, third], atol=1e-6)
    assert found.counts().tolist() == [3]
    assert read(tmp_path, rows, cell="last").records[0, 0] == 3
    assert read(tmp_path, rows, windows=1).counts().tolist() == [1]
    # A value is carried over the border of two pieces.
    over = read(tmp_path, "p,2024-01-01T00:00,HR,80,\np,2024-01-01T07:00,HR,100,\np,2024-01-01T11:00,T C,37,\n", carry=[2, 0])
    assert over.records.reshape(2, 2, 8)[:, 0].tolist() == [[0, 0, 0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 0]]


def test_of_one_time_the_greatest_is_the_last_and_the_mean_is_of_all(tmp_path: Path) -> None:
    rows = ["p,2024-01-01,HR,100,\n", "p,2024-01-01,HR,120,\n", "p,2024-01-01,HR,80,\n"]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        text = "".join(rows[place] for place in order)
        assert read(tmp_path, text, cell="last").records[0, 0] == 2
        assert read(tmp_path, text).records[0, 0] == 1


@pytest.mark.parametrize(("unit", "hour"), [("seconds", 3600.0), ("minutes", 60.0), ("hours", 1.0)])
def test_numbers_are_times_in_the_declared_unit(tmp_path: Path, unit: str, hour: float) -> None:
    hours = np.array([-5.5, -4.5001, -4.5, 1.4999, 2.5])
    rows = "".join(f"p,{h * hour!r},HR,{100 + 20 * n},\n" for n, h in enumerate(hours.tolist()))
    found = read(tmp_path, rows, time_unit=unit).records.reshape(-1, 2, 8)[:, 0]
    np.testing.assert_allclose(found, [[1.5, 3, 0, 0, 0, 0, 4, 0], [5, 0, 0, 0, 0, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("per", [60, 3600, 7 * 60, 86400 / 7, 1 / 125, 1 / 360, 1 / 999])
def test_a_row_at_the_beginning_of_a_cell_is_in_it_at_every_rate(tmp_path: Path, per: float) -> None:
    """1/3600 and the like have no exact form: a cell must not slip into the one before."""
    data = DATA.model_copy(update={"rate_hz": 1 / per, "samples": 3000})
    rows = "".join(f"p,{place * per!r},HR,{80 + 20 * (1 + place % 5)},\n" for place in range(3000))
    found = read(tmp_path, rows, data, time_unit="seconds")
    assert found.records.reshape(2, 3000)[0].tolist() == [1 + place % 5 for place in range(3000)]


def test_records_have_grids_of_their_own_and_stand_in_the_order_of_time(tmp_path: Path) -> None:
    rows = "p,2024-03-01T00:20,HR,100,a\np,2024-01-01T00:50,HR,120,b\np,2024-03-01T02:10,HR,140,a\nq,2024-01-01,HR,60,a\n"
    found = read(tmp_path, rows, record_column="r")
    assert found.counts().tolist() == [2, 1]
    assert found.records[:, :3].tolist() == [[2, 0, 0], [1, 3, 0], [-1, 0, 0]]
    assert read_records(declare(tmp_path, record_column="r"), DATA, HERE).names == ["a", "b", "a"]
    assert read(tmp_path, rows).records[:, 0].tolist() == [2, 0, 0, -1]


def test_the_order_of_rows_and_files_leaves_no_trace(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    lines = ward(3).to_csv(index=False, header=False).splitlines(keepends=True)
    (tmp_path / "t.csv").write_text("p,t,n,v\n" + "".join(lines))
    wanted = load_patients(declare(tmp_path, carry=[3]), DATA, HERE)
    for _ in range(3):
        mixed = [lines[place] for place in rng.permutation(len(lines))]
        (tmp_path / "a.csv").write_text("p,t,n,v\n" + "".join(mixed[:99]))
        (tmp_path / "b.csv").write_text("p,t,n,v\n" + "".join(mixed[99:]))
        again = load_patients(declare(tmp_path, path=["a.csv", "b.csv"], carry=[3]), DATA, HERE)
        assert again.records.tobytes() == wanted.records.tobytes() and again.units == wanted.units


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("z,yesterday,HR,80,\n", Fault.NO_TIME),
        ("z,,HR,80,\n", Fault.NO_TIME),
        ("z,12.5,HR,80,\n", Fault.NO_TIME),
        ("z,2024-01-01,HR,nan,\n", Fault.NO_NUMBER),
        ("z,2024-01-01,HR,inf,\n", Fault.NO_NUMBER),
        ("z,2024-01-01,HR,1e999,\n", Fault.NO_NUMBER),
        ("z,2024-01-01,HR,3e7,\n", Fault.NO_NUMBER),
        ("z,2024-01-01,T F,<99,\n", Fault.NO_NUMBER),
        ('z,2024-01-01,T C,"37,1",\n', Fault.NO_NUMBER),
        ("z,2024-01-01,HR, ,\n", Fault.NO_VALUE),
        ("z,2024-01-01,HR\n", Fault.SHAPE),
        (",2024-01-01,HR,80,\n", Fault.NO_PATIENT),
    ],
)
def test_bad_rows_are_counted_and_are_no_measurements(tmp_path: Path, row: str, fault: Fault) -> None:
    good = "".join(f"{SECRET}{n},2024-01-01,HR,100,\n" for n in range(4))
    found = read(tmp_path, good + row, max_bad_share=0.5)
    strict = declare(tmp_path)
    assert inspect_source(strict, DATA).files[0].faults == {fault: 1}
    with pytest.raises(DataError, match=r"t\.csv") as raised:
        check_source(strict, DATA)
    assert fault in str(raised.value) and SECRET not in str(raised.value)
    assert ("z" in found.units) == (fault not in (Fault.SHAPE, Fault.NO_PATIENT))
    if "z" in found.units:
        assert not found.records[-1].any()


@pytest.mark.parametrize("when", ["2024-01-01", "", "nan", "1e12", "1e999", "-9e10"])
def test_a_time_that_is_no_number_or_too_far_is_bad(tmp_path: Path, when: str) -> None:
    read(tmp_path, f"p,{when},HR,100,\np,1.5,HR,100,\n", time_unit="hours")
    assert inspect_source(declare(tmp_path, time_unit="hours"), DATA).files[0].faults == {Fault.NO_TIME_NUMBER: 1}


def test_other_names_are_passed_over_and_declared_cells_are_no_value(tmp_path: Path) -> None:
    rows = "p,never,Rhythm,sinus,\np,2024-01-01, HR ,100,\np,2024-01-01,HR,NA,\np,2024-01-01,HR,,\nq,2024-01-01,hr,9,\n"
    found = read(tmp_path, rows, missing=["NA", ""])
    assert found.units == ("p", "q") and found.records[:, 0].tolist() == [1, 0]
    report = check_source(declare(tmp_path, missing=["NA", ""]), DATA)
    assert report.files[0].undeclared == 2 and not report.files[0].faults and report.files[0].rows == 5
    read(tmp_path, "p,2024-01-01,hr,100,\n")
    with pytest.raises(DataError, match="channels; limit: HR, T C, T F"):
        check_source(declare(tmp_path), DATA)


def test_bytes_that_are_no_utf8_and_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"p,t,n,v\nx,2024-01-01,HR,8\xb5\nx,2024-01-01,caf\xe9,8\ny,2024-01-01,HR,100\n")
    assert inspect_source(declare(tmp_path), DATA).files[0].faults == {Fault.UNREADABLE: 1}
    read(tmp_path, "")
    with pytest.raises(DataError, match="no patient"):
        check_source(declare(tmp_path), DATA)
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataError, match="column 'p' is missing"):
        check_source(declare(tmp_path), DATA)


def test_a_lost_quote_takes_no_other_patients_rows_away_unseen(tmp_path: Path) -> None:
    rows = 'p,2024-01-01,HR,100,\np,2024-01-01,"HR,100,\nq,2024-01-01,HR,100,\nr,2024-01-01,"HR",100,\ns,2024-01-01,HR,60,\n'
    with pytest.raises(DataError, match="multiline"):
        read(tmp_path, rows)
    assert inspect_source(declare(tmp_path), DATA).files[0].spans


def test_records_are_kept_and_read_again_bit_by_bit(tmp_path: Path) -> None:
    ward(1).to_csv(tmp_path / "t.csv", index=False)
    patients = check_and_load(declare(tmp_path), DATA).patients
    with (tmp_path / "kept.npz").open("wb") as stream:
        write_kept(stream, patients)
    assert read_kept(tmp_path / "kept.npz", DATA).whole.tobytes() == patients.whole.tobytes()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"channels": ["HR"]}, "channels; value: 1; limit: 2"),
        ({"units": ["1/min", "degF"]}, "other units.*degF"),
        ({"carry": [1, 2, 3]}, "carry; value: 3; limit: 2"),
        ({"max_rows": 1}, "max_rows"),
        ({"value_column": "x"}, "column 'x' is missing.*value_column"),
    ],
)
def test_what_is_not_the_studys_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(tmp_path, "p,2024-01-01,HR,100,\np,2024-01-01,T C,37,\n", **{"factors": {}, "offsets": {}} | changes)
    with pytest.raises(DataError, match="rate_hz; value: 2000"):
        load_patients(declare(tmp_path), DATA.model_copy(update={"rate_hz": 2000.0}))
    with pytest.raises(DataError, match="another kind"):
        check_source(declare(tmp_path), TextData(kind="text"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"channels": ["HR", ["HR", "T F"]]}, "one channel"),
        ({"channels": [" HR", "T F"]}, "NFC"),
        ({"channels": [[], "T F"]}, "channels"),
        ({"factors": {"T": 2.0}}, "in no channel"),
        ({"factors": {"T F": 0.0}}, "factors"),
        ({"offsets": {"T F": float("inf")}}, "offsets"),
        ({"value_column": "p"}, "columns of their own"),
        ({"record_column": "t"}, "columns of their own"),
        ({"time_unit": "days"}, "time_unit"),
        ({"cell": "median"}, "cell"),
        ({"carry": [-1]}, "carry"),
        ({"windows": 0}, "windows"),
        ({"format": "parquet", "multiline": True}, "multiline is for csv"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(changes: dict[str, Any], match: str) -> None:
    body: dict[str, Any] = {
        "kind": "vitals", "path": "t.csv", "patient_column": "p", "time_column": "t", "name_column": "n", "value_column": "v",
        "channels": ["HR", ["T C", "T F"]], "units": ["1/min", "Cel"],
    }  # fmt: skip
    assert parse(VitalsSource, body, "source").names == (("HR",), ("T C", "T F"))
    with pytest.raises(ConfigError, match=match):
        parse(VitalsSource, body | changes, "source")


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
TIMES = st.datetimes().map(datetime.isoformat) | st.floats().map(repr) | CELLS
VALUES = st.floats().map(repr) | st.floats(-300, 300).map(repr) | st.sampled_from(["", "1e308", "-0.0"]) | CELLS
LINES = st.lists(st.tuples(st.sampled_from("pqr"), TIMES, st.sampled_from(["HR", "T F", "x", ""]), VALUES), max_size=12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(LINES, st.sampled_from(["iso", "hours", "seconds"]), st.sampled_from(["mean", "last"]))
def test_whatever_stands_in_the_cells_both_formats_give_one_finite_record(lines: Any, unit: str, cell: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = list(zip(*lines, strict=True)) or [[]] * 4
        frame = {key: pa.array(list(values), pa.string()) for key, values in zip("ptnv", columns, strict=True)}
        pq.write_table(pa.table(frame), folder / "t.parquet", row_group_size=5)
        pd.DataFrame({key: values.to_pylist() for key, values in frame.items()}).to_csv(folder / "t.csv", index=False)
        both = [
            read_records(declare(folder, path=f"t.{form}", format=form, time_unit=unit, cell=cell, carry=[3]), DATA, HERE)
            for form in ("csv", "parquet")
        ]
        assert both[0].records.tobytes() == both[1].records.tobytes() and both[0].owners == both[1].owners
        assert both[0].order == both[1].order and both[0].tallies[0].faults == both[1].tallies[0].faults
        assert np.isfinite(both[0].records).all() and set(both[0].owners) == {line[0] for line in lines}
        # Each patient's records are those of his rows alone.
        for owner in set(both[0].owners):
            own = [place for place, line in enumerate(lines) if line[0] == owner]
            pq.write_table(pa.table(frame).take(own), folder / "t.parquet")
            alone = read_records(
                declare(folder, path="t.parquet", format="parquet", time_unit=unit, cell=cell, carry=[3]), DATA, HERE
            )
            mine = [place for place, each in enumerate(both[0].owners) if each == owner]
            assert alone.records.tobytes() == both[0].records[mine].tobytes()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_a_damaged_file_is_read_or_refused_by_name(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame = ward(5).head(60)
        frame["p"] = SECRET + frame.p
        raw = bytearray(frame.to_csv(index=False).encode())
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(raw))
            match rng.randrange(4):
                case 0:
                    raw[place] = rng.choice(b'",\n\r\x00\xff0e-')
                case 1:
                    raw[place] ^= 1 << rng.randrange(8)
                case 2:
                    del raw[place : place + rng.randrange(1, 100)]
                case _:
                    raw[place:place] = raw[: rng.randrange(1, 100)]
        (folder / "t.csv").write_bytes(raw)
        try:
            report = inspect_source(declare(folder), DATA, HERE)
        except DataError as error:
            assert SECRET not in str(error)
        else:
            assert all(SECRET not in line for line in report.lines())
