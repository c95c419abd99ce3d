"""Typed columns: values and codes, faults, refusals; no message holds a cell."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.config import parse
from ssl_core.data.check import check_and_load, check_source, inspect_source
from ssl_core.data.columns import LARGEST, read_columns
from ssl_core.data.declared import ColumnsSource
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import load_patients, read_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData, TextData

DATA = TableData(
    kind="table",
    numeric=(
        NumericColumn(name="age", unit="years", centre=60.0, typical=15.0),
        NumericColumn(name="sodium", centre=140.0, typical=4.0),
    ),
    categorical=(CategoricalColumn(name="sex", levels=("f", "m")), CategoricalColumn(name="ward", levels=("élan", "b c"))),
)
SECRET = "SECRETPATIENT"  # noqa: S105 - a patient id that no message may hold
HEAD = "patient,age,sodium,sex,ward\n"


def declare(folder: Path, **changes: Any) -> Path:
    body = {"kind": "columns", "path": "t.csv", "patient_column": "patient", "units": {"age": "years"}} | changes
    (folder / "source.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return folder / "source.toml"


def rows(folder: Path, text: str, **changes: Any) -> np.ndarray:
    (folder / "t.csv").write_text(HEAD + text, encoding="utf-8")
    return load_patients(read_source(declare(folder, **changes)), DATA).records


def test_a_row_is_scaled_values_their_codes_and_the_codes_of_levels(tmp_path: Path) -> None:
    found = rows(tmp_path, "p,75, 132 ,m,élan\np,,+1.5e2,f,b c\np,60.,.5,x,\n")
    assert found.dtype == np.float32 and found.shape == (3, DATA.values) == (3, 6)
    np.testing.assert_array_equal(found[0], np.array([1, -2, 1, 1, 3, 2], np.float32))
    np.testing.assert_array_equal(found[1], np.array([0, 2.5, 0, 1, 2, 3], np.float32))
    np.testing.assert_array_equal(found[2], np.array([0, (0.5 - 140) / 4, 1, 1, 1, 0], np.float32))


def test_headers_units_and_missing_cells_are_the_sites_and_other_columns_are_not_read(tmp_path: Path) -> None:
    plain = rows(tmp_path, "p,75,,m,\nq,30,141,f,b c\n")
    (tmp_path / "t.csv").write_text('note,AGE,Na,WARD,SEX,id\n"x\ny",75,-9,NA,m,p\n,30,141,b c,f, q \n', encoding="utf-8-sig")
    source = declare(
        tmp_path, patient_column="id", columns={"age": "AGE", "sodium": "Na", "sex": "SEX", "ward": "WARD"},
        missing=["NA", "-9"], multiline=True,
    )  # fmt: skip
    patients = load_patients(read_source(source), DATA)
    assert patients.units == ("p", "q") and np.array_equal(patients.records, plain)


@pytest.mark.parametrize(
    ("unit", "times"),
    [("iso", ["2024-03-01", "2024-02-29T23:59", "2024-03-01T00:59:30+01:00"]), ("hours", ["9.5", "-10", "9.25"])],
)
def test_rows_of_a_patient_stand_in_the_order_of_their_times_where_the_source_says_so(
    tmp_path: Path, unit: str, times: list[str]
) -> None:
    lines = [f"p,{60 + 15 * n},,,,{when}\n" for n, when in enumerate(times)] + [f"a,60,,,,{times[0]}\n"]
    (tmp_path / "t.csv").write_text(HEAD.replace("\n", ",when\n") + "".join(lines))
    in_file, timed = declare(tmp_path), {"time_column": "when", "time_unit": unit}
    assert load_patients(read_source(in_file), DATA).records[:, 0].tolist() == [0, 0, 1, 2]
    source = read_source(declare(tmp_path, **timed))
    found = load_patients(source, DATA)
    assert found.units == ("a", "p") and found.records[:, 0].tolist() == [0, 1, 2, 0]
    assert check_source(source, DATA).records == 4
    (tmp_path / "t.csv").write_text(HEAD.replace("\n", ",when\n") + "".join(lines) + "p,75,,,,never\np,75,,,,\n")
    assert inspect_source(source, DATA).files[0].faults == {Fault.NO_TIME if unit == "iso" else Fault.NO_TIME_NUMBER: 2}
    assert load_patients(source, DATA).records[:, 0].tolist() == [0, 0, 0, 1, 2, 0]
    (tmp_path / "t.csv").write_text(HEAD.replace("\n", ",when,case\n") + "".join(f"{n[:-1]},c{n[0]}\n" for n in lines))
    cases = read_source(declare(tmp_path, record_column="case", **timed))
    assert read_records(cases, DATA).names == ["cp"] * 3 + ["ca"] and read_records(source, DATA).names == [""] * 4
    assert load_patients(cases, DATA).whole.tobytes() == found.whole.tobytes()
    with pytest.raises(ConfigError, match="goes with time_column"):
        read_source(declare(tmp_path, time_unit="hours"))
    with pytest.raises(DataError, match="or the time's"):
        load_patients(read_source(declare(tmp_path, time_column="age")), DATA)
    with pytest.raises(DataError, match="the record's"):
        load_patients(read_source(declare(tmp_path, record_column="patient")), DATA)


def test_several_files_and_rows_of_a_patient_are_one_unit_and_a_level_counts_in_any_unicode_form(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + "p,1,2,f,e\u0301lan\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text(HEAD + "o,3,4,m,b c\np,5,6,m,b c\n", encoding="utf-8")
    source = read_source(declare(tmp_path, path=["a.csv", "b.csv"]))
    patients = load_patients(source, DATA)
    assert patients.units == ("o", "p") and patients.counts().tolist() == [1, 2]
    assert patients.records[1, 5] == 2
    assert [file.rows for file in check_source(source, DATA).files] == [1, 2]


@settings(deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([repr, "{:e}".format, "{:.3f}".format, "{:+g}".format])
)
def test_any_way_of_writing_a_number_is_read_as_python_reads_it(
    tmp_path_factory: pytest.TempPathFactory, x: float, form: Any
) -> None:
    cell = form(x)
    folder = tmp_path_factory.mktemp("numbers")
    expected = (float(cell) - 60.0) / 15.0
    if abs(expected) <= LARGEST and len(cell) <= 60:
        assert rows(folder, f"p,{cell},1,f,\n")[0, 0] == np.float32(expected)
    else:
        assert not rows(folder, f"p,{cell},1,f,\n").any()


NO_NUMBERS = [
    "nan", "inf", "-Infinity", "1_000", "0x10", "1,5", "<5", "5 mg", "1.2.3", ".", "+", "e5", "1e", "1e999", "-1e400",
    "\u0661", "2024-01-02", "15000076", "9" * 5000, "1e" + "9" * 30,
]  # fmt: skip


@pytest.mark.parametrize("cell", NO_NUMBERS)
def test_what_is_no_number_makes_a_bad_row_that_is_counted_refused_and_harmless(tmp_path: Path, cell: str) -> None:
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([HEAD.strip().split(","), [SECRET, cell, "140", "f", "b c"], ["q", "60", "140", "m", "b c"]])
    strict = read_source(declare(tmp_path))
    assert inspect_source(strict, DATA).files[0].faults == {Fault.NO_NUMBER: 1}
    with pytest.raises(DataError, match=r"t\.csv \(") as raised:
        check_source(strict, DATA)
    assert Fault.NO_NUMBER in str(raised.value)
    assert SECRET not in str(raised.value) and (len(cell) < 3 or cell not in str(raised.value))
    lenient = check_and_load(read_source(declare(tmp_path, max_bad_share=0.5)), DATA)
    assert lenient.report.bad_share == 0.5
    assert not lenient.patients.records[0].any() and lenient.patients.records[1].any()


BAD_ROWS = {
    Fault.SHAPE: b"p1,1,2,f\n",
    Fault.NO_PATIENT: b" ,1,2,f,b c\n",
    Fault.NO_VALUE: b"p1,, NA ,,NA\n",
    Fault.UNREADABLE: b"p1,1,2,f,caf\xe9\n",
}


@pytest.mark.parametrize(("fault", "row"), list(BAD_ROWS.items()), ids=[fault.name for fault in BAD_ROWS])
def test_other_bad_rows_are_counted_by_reason(tmp_path: Path, fault: Fault, row: bytes) -> None:
    good = b"".join(f"{SECRET}{n},{n},140,m,b c\n".encode() for n in range(5))
    (tmp_path / "t.csv").write_bytes(HEAD.encode() + good + row)
    strict = read_source(declare(tmp_path, missing=["NA"]))
    assert set(inspect_source(strict, DATA).files[0].faults) == {fault}
    with pytest.raises(DataError, match=r"t\.csv \(") as raised:
        check_source(strict, DATA)
    assert SECRET not in str(raised.value) and "p1" not in str(raised.value)
    patients = load_patients(read_source(declare(tmp_path, missing=["NA"], max_bad_share=0.5)), DATA)
    assert len(patients) == (6 if fault in (Fault.NO_VALUE, Fault.UNREADABLE) else 5)
    if "p1" in patients.units:
        assert not patients.records[patients.offsets[patients.units.index("p1")]].any()


def test_undeclared_levels_are_counted_for_the_staff_and_are_no_faults(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEAD + "p,1,2,f,other\nq,1,2,d,b c\nr,1,2,F,b c\ns,1,2,m,b c\n")
    report = check_source(read_source(declare(tmp_path)), DATA)
    assert report.files[0].undeclared == 3 and report.bad_share == 0
    assert "t.csv: 3 with a level or code that the study does not declare" in report.lines()


def test_a_column_that_is_coded_in_another_way_is_refused_before_approval_and_no_cell_is_shown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEAD + f"{SECRET},1,2,CODE1,b c\nq,1,2,CODE2,b c\nr,1,2,,b c\n")
    source = read_source(declare(tmp_path))
    for use in (check_source, inspect_source):
        with pytest.raises(DataError, match=r"'sex' is a level that the study declares; .*limit: f, m") as raised:
            use(source, DATA)
        assert SECRET not in str(raised.value) and "CODE" not in str(raised.value)
    assert load_patients(source, DATA).records[:, 4].tolist() == [1, 1, 0]
    # A column without any cell is one that the site does not have: it is missing, not another code.
    (tmp_path / "t.csv").write_text(HEAD + "p,1,2,,b c\n")
    assert check_source(source, DATA).accepted


@pytest.mark.parametrize(
    ("changes", "head", "word"),
    [
        ({}, "patient,age,sodium,sex\n", "'ward' is missing in file 't.csv'; field: columns.ward"),
        ({}, "patient,age,age,sodium,sex,ward\n", "'age' is twice in file"),
        ({}, "id,age,sodium,sex,ward\n", "'patient' is missing in file 't.csv'; field: patient_column"),
        ({"units": {}}, HEAD, "'age' is in another unit.*value: none declared; limit: years"),
        ({"units": {"age": "months"}}, HEAD, "value: months; limit: years; remedy: .* convert the file"),
        ({"units": {"age": "years", "sodium": "mmol/L"}}, HEAD, "'sodium' is in another unit.*limit: none"),
        ({"units": {"age": "years", "sex": "kg"}}, HEAD, "does not have; field: units; value: sex"),
        ({"columns": {"height": "cm"}}, HEAD, "does not have; field: columns; value: height"),
        ({"columns": {"sex": "patient"}}, HEAD, "under one header"),
        ({"columns": {"sex": "ward"}}, HEAD, "under one header"),
    ],
)
def test_a_source_that_does_not_fit_the_plan_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], head: str, word: str
) -> None:
    (tmp_path / "t.csv").write_text(head + f"{SECRET},1,2,3,4,5\n")
    for use in (check_source, load_patients):
        with pytest.raises(DataError, match=word) as raised:
            use(read_source(declare(tmp_path, **changes)), DATA)
        assert SECRET not in str(raised.value)


def test_other_kinds_of_source_and_of_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEAD)
    with pytest.raises(DataError, match=r"another kind.*table.*for text data"):
        load_patients(read_source(declare(tmp_path)), TextData(kind="text"))
    (tmp_path / "source.toml").write_text(
        'kind = "table"\npath = "t.csv"\nformat = "csv"\npatient_column = "patient"\ntext_column = "ward"\n'
    )
    with pytest.raises(DataError, match=r"another kind.*columns.*for table data"):
        load_patients(read_source(tmp_path / "source.toml"), DATA)
    with pytest.raises(ConfigError, match="field: text_column"):
        read_source(declare(tmp_path, text_column="ward"))
    with pytest.raises(DataError, match="no patient"):
        check_source(read_source(declare(tmp_path)), DATA)


LOST_QUOTE = HEAD + 'p0,1,2,f,"b c"\np1,1,2,"f,b c\np2,1,2,m,b c\np3,1,2,"f",b c\np4,1,2,m,b c\n'


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_rows_that_a_lost_quote_joined_refuse_the_file(tmp_path: Path, share: float) -> None:
    (tmp_path / "t.csv").write_text(LOST_QUOTE, newline="")
    source = read_source(declare(tmp_path, max_bad_share=share))
    (file,) = inspect_source(source, DATA).files
    assert (file.rows, file.faults, file.lines, file.hiding) == (5, {Fault.LINES: 4}, "lines 3-6", 1)
    for use in (check_source, load_patients):
        with pytest.raises(DataError, match=r"t\.csv lines 3-6; limit: one record a line"):
            use(source, DATA)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_of_a_file_make_the_reader_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "t.csv"
    source = parse(
        ColumnsSource, {"kind": "columns", "path": "t.csv", "patient_column": "patient", "units": {"age": "years"}}, "source"
    )
    for head in (b"", HEAD.encode()):
        path.write_bytes(head + content)
        try:
            found = read_columns(source, (path,), DATA, Effort(workers=0))
        except DataError:
            continue
        assert np.isfinite(found.records).all() and np.abs(found.records).max(initial=0.0) <= LARGEST
        assert sum(sum(tally.faults.values()) for tally in found.tallies) <= sum(tally.rows for tally in found.tallies)
