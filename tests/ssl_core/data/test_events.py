"""Event streams: order of time, gaps, cuts, faults; CSV and Parquet alike; no message holds a cell."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from ssl_core.config import parse
from ssl_core.data.check import check_and_load, check_source, inspect_source
from ssl_core.data.kept import read_kept, write_kept
from ssl_core.data.reading import Fault
from ssl_core.data.record_units import record_key
from ssl_core.data.source import Source, load_patients, load_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.evaluation.floor import fit_floor, floor_patients, log_counts
from ssl_core.spec.data import EventData, TextData

DATA = EventData(kind="events", vocabulary=("A10", "I10", "é"), events=4, gap_hours=(1.0, 24.0))
NONE = [-1, -1]
SECRET = "SECRETPATIENT"  # noqa: S105 - a patient id that no message may hold


def declare(folder: Path, **changes: Any) -> Source:
    body = {"kind": "events", "path": "t.csv", "patient_column": "p", "time_column": "t", "code_column": "c", **changes}
    (folder / "source.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return read_source(folder / "source.toml")


def read(folder: Path, rows: str, **changes: Any) -> Any:
    (folder / "t.csv").write_text("p,t,c,r\n" + rows, encoding="utf-8")
    return load_patients(declare(folder, **changes), DATA)


def test_events_stand_in_the_order_of_their_times_with_the_gap_before_each(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "q,2020-01-02T00:00:00,I10,\np,2020-01-02T00:30:00+00:30,I10,\np,2020-01-01, A10 ,\np,2020-01-02T00:59:59Z,zz,\n"
        "p,2020-01-05T00:00:00Z,e\u0301,\n",
    )
    assert found.units == ("p", "q") and found.records.dtype == np.int32
    # A gap that equals a bound is above it; 24 hours, then less than one.
    assert found.records.tolist() == [[[0, 0], [1, 3], [3, 1], [2, 3]], [[1, 0], NONE, NONE, NONE]]


def test_the_order_of_rows_and_files_leaves_no_trace(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"p{n % 3},2020-01-0{1 + n % 5}T0{n % 7}:00,{('A10', 'I10', 'zz')[n % 3]},s{n % 2}\n" for n in range(40)]
    wanted = read(tmp_path, "".join(lines), record_column="r")
    # Six or seven events of each stay, four at most in a row: two rows that bear the stay's id.
    stays = load_records(declare(tmp_path, record_column="r"), DATA)
    assert stays.units == tuple(record_key(f"p{n}", f"s{m}") for n in range(3) for m in range(2))
    assert stays.counts().tolist() == [2] * 6
    for _ in range(5):
        mixed = [lines[place] for place in rng.permutation(len(lines))]
        (tmp_path / "a.csv").write_text("p,t,c,r\n" + "".join(mixed[:7]), encoding="utf-8")
        (tmp_path / "b.csv").write_text("p,t,c,r\n" + "".join(mixed[7:]), encoding="utf-8")
        again = load_patients(declare(tmp_path, path=["a.csv", "b.csv"], record_column="r"), DATA)
        assert again.records.tobytes() == wanted.records.tobytes() and again.units == wanted.units


def test_a_long_record_is_cut_and_a_record_id_divides_a_patient(tmp_path: Path) -> None:
    rows = "".join(f"p,2020-01-01T{hour:02d}:00,A10,x\n" for hour in range(10))
    whole = read(tmp_path, rows)
    assert whole.counts().tolist() == [3]
    assert whole.records[:, :, 1].tolist() == [[0, 2, 2, 2], [0, 2, 2, 2], [0, 2, -1, -1]]
    parted = read(tmp_path, rows + "p,2019-01-01,I10,y\np,2019-06-01,I10,\n", record_column="r")
    assert parted.counts().tolist() == [5]
    assert parted.records[:, 0].tolist() == [[1, 0], [1, 0], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("z,yesterday,A10,\n", Fault.NO_TIME),
        ("z,,A10,\n", Fault.NO_TIME),
        ("z,2020-02-30,A10,\n", Fault.NO_TIME),
        ("z,0001-01-01T00:00:00+10:00,A10,\n", Fault.NO_TIME),
        ("z,2020-01-01,  ,\n", Fault.NO_CODE),
        ("z,2020-01-01\n", Fault.SHAPE),
        (",2020-01-01,A10,\n", Fault.NO_PATIENT),
    ],
)
def test_bad_rows_are_counted_and_are_no_events(tmp_path: Path, row: str, fault: Fault) -> None:
    good = "".join(f"{SECRET}{n},2020-01-01,A10,\n" for n in range(4))
    found = read(tmp_path, good + row, max_bad_share=0.5)
    strict = declare(tmp_path)
    assert inspect_source(strict, DATA).files[0].faults == {fault: 1}
    with pytest.raises(DataError, match=r"t\.csv") as raised:
        check_source(strict, DATA)
    assert fault in str(raised.value) and SECRET not in str(raised.value)
    assert ("z" in found.units) == (fault in (Fault.NO_TIME, Fault.NO_CODE))
    if "z" in found.units:
        assert (found.records[-1] == -1).all()


def test_bytes_that_are_no_utf8_are_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"p,t,c\nx,2020-01-01,caf\xe9\ny,2020-01-01,A10\n")
    assert inspect_source(declare(tmp_path), DATA).files[0].faults == {Fault.UNREADABLE: 1}


def test_codes_that_nobody_declared_are_counted_and_all_of_them_are_refused(tmp_path: Path) -> None:
    read(tmp_path, "p,2020-01-01,A10,\np,2020-01-02,zz,\nq,2020-01-01,yy,\n")
    report = check_source(declare(tmp_path), DATA)
    assert report.files[0].undeclared == 2 and not report.files[0].faults
    assert "t.csv: 2 with a level or code that the study does not declare" in report.lines()
    read(tmp_path, "p,2020-01-01,a10,\n")
    with pytest.raises(DataError, match="A10, I10"):
        check_source(declare(tmp_path), DATA)


def test_parquet_with_time_stamps_gives_the_same_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    times = [datetime(2020, 1, 1) + timedelta(seconds=int(s)) for s in rng.integers(0, 10**6, 60)]
    owners, codes = [f"p{n}" for n in rng.integers(0, 5, 60)], [str(c) for c in rng.choice(["A10", "I10", "x"], 60)]
    rows = "".join(f"{p},{t.isoformat()},{c},\n" for p, t, c in zip(owners, times, codes, strict=True))
    wanted = read(tmp_path, rows)
    columns = {"p": owners, "t": pa.array(times, pa.timestamp("ms")), "c": pa.array(codes).dictionary_encode()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = load_patients(declare(tmp_path, path="t.parquet", format="parquet"), DATA)
    assert found.records.tobytes() == wanted.records.tobytes() and found.units == wanted.units
    with pytest.raises(ConfigError, match="multiline is for csv"):
        declare(tmp_path, format="parquet", multiline=True)


def test_records_are_kept_and_read_again_bit_by_bit(tmp_path: Path) -> None:
    read(tmp_path, "p,2020-01-01,A10,\nq,2020-01-02,zz,\n")
    patients = check_and_load(declare(tmp_path), DATA).patients
    with (tmp_path / "kept.npz").open("wb") as stream:
        write_kept(stream, patients)
    assert read_kept(tmp_path / "kept.npz", DATA).whole.tobytes() == patients.whole.tobytes()


def test_a_study_of_another_kind_is_refused(tmp_path: Path) -> None:
    read(tmp_path, "p,2020-01-01,A10,\n")
    with pytest.raises(DataError, match="another kind"):
        check_source(declare(tmp_path), TextData(kind="text"))


def test_the_floor_counts_codes_and_gaps(tmp_path: Path) -> None:
    found = read(tmp_path, "p,2020-01-01,A10,\np,2020-01-02,A10,\nq,2020-01-02,zz,\n")
    counts = np.expm1(log_counts(np.asarray(found.records, np.int32), DATA))
    np.testing.assert_allclose(counts, [[2, 0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 0, 0, 0]], atol=1e-6)
    pool = floor_patients(declare(tmp_path), found, DATA)
    features = fit_floor(pool, DATA).features(pool)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"vocabulary": ["a", "a"]}, "distinct"),
        ({"vocabulary": [" a"]}, "NFC"),
        ({"gap_hours": [24, 1]}, "rise"),
        ({"gap_hours": [1, 1]}, "rise"),
        ({"gap_hours": [0]}, "gap_hours"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, Any], match: str) -> None:
    data = {"kind": "events", "vocabulary": ["a"], "events": 4} | changes
    with pytest.raises(ConfigError, match=match):
        parse(EventData, data, "study plan")
