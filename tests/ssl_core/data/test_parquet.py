"""Parquet: the records of a CSV file with the same values, bit by bit; types, nulls, damage; no message holds a cell."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data import parquet_rows as module
from ssl_core.data.check import check_source, inspect_source
from ssl_core.data.parquet_rows import parquet_rows
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import load_patients, read_records, read_source
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import CategoricalColumn, Data, NumericColumn, TableData, TextData

TABLE = TableData(
    kind="table",
    numeric=(NumericColumn(name="age", centre=60.0, typical=15.0), NumericColumn(name="sodium", centre=140.0, typical=4.0)),
    categorical=(CategoricalColumn(name="sex", levels=("f", "m", "élan")),),
)
TEXT = TextData(kind="text", words=6, codes=2, buckets=64)
SECRET = "SECRETPATIENT"  # noqa: S105 - a patient id that no message may hold


HERE = Effort(workers=0)


def rows(path: Path, columns: list[tuple[str, str]]) -> Iterator[list[str] | Fault]:
    return parquet_rows(path, "t", columns, largest=1 << 30, max_rows=1 << 20, workers=0)


def declare(folder: Path, kind: str = "columns", form: str = "parquet", **changes: Any) -> Path:
    body: dict[str, Any] = {"kind": kind, "path": f"t.{form}", "format": form, "patient_column": "patient", **changes}
    body |= {"text_column": "text"} if kind == "table" else {}
    (folder / f"{form}.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
    return folder / f"{form}.toml"


def write(folder: Path, columns: dict[str, Any], **how: Any) -> Path:
    pq.write_table(pa.table(columns), folder / "t.parquet", **how)
    return folder / "t.parquet"


def as_csv(folder: Path, columns: dict[str, list[str]]) -> None:
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
NUMBERS = st.one_of(st.none(), st.floats(), st.floats(-1e4, 1e4), st.integers(-(1 << 40), 1 << 40).map(float), st.just(-0.0))
WHOLES = st.none() | st.integers(-500, 500)
ROWS = st.lists(
    st.tuples(st.sampled_from("pqr"), NUMBERS, WHOLES, WORDS | st.sampled_from("fm")),
    max_size=12,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ROWS, st.booleans(), st.integers(1, 5))
def test_a_value_gives_the_same_record_as_in_a_csv_file(given_rows: Any, dictionary: bool, group: int) -> None:
    owners, numbers, wholes, texts = (list(column) for column in zip(*given_rows, strict=True)) if given_rows else [[]] * 4
    cells = {
        "patient": owners, "age": ["" if n is None else repr(n) for n in numbers],
        "sodium": ["" if n is None else str(n) for n in wholes], "sex": texts, "text": texts,
    }  # fmt: skip
    typed = pa.array(texts, pa.string())
    columns = {
        "patient": pa.array(owners, pa.string()), "age": pa.array(numbers, pa.float64()),
        "sodium": pa.array(wholes, pa.int16()), "sex": typed.dictionary_encode() if dictionary else typed, "text": typed,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        as_csv(folder, cells)
        write(folder, columns, row_group_size=group)
        kinds: list[tuple[str, Data]] = [("columns", TABLE), ("table", TEXT)]
        for kind, data in kinds:
            first, second = (read_source(declare(folder, kind, form)) for form in ("csv", "parquet"))
            one, two = load_patients(first, data, HERE), load_patients(second, data, HERE)
            assert one.units == two.units and one.offsets.tolist() == two.offsets.tolist()
            assert one.records.tobytes() == two.records.tobytes()
            assert read_records(first, data, HERE).tallies[0].faults == read_records(second, data, HERE).tallies[0].faults


def test_each_type_has_its_one_text(tmp_path: Path) -> None:
    stamp = dt.datetime(2025, 3, 1, 8, 30, 0, 250000)
    zoned = dt.datetime(2025, 3, 1, 8, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    kinds: list[tuple[pa.Array, str]] = [
        (pa.array(["a b"], pa.large_string()), "a b"),
        (pa.array(["a b"], pa.string_view()), "a b"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array([7], pa.uint8()), "7"),
        (pa.array([-(1 << 62)], pa.int64()), str(-(1 << 62))),
        (pa.array([0.1], pa.float64()), "0.1"),
        (pa.array([0.1], pa.float32()), "0.10000000149011612"),
        (pa.array([np.float16(1.5)], pa.float16()), "1.5"),
        (pa.array([float("nan")], from_pandas=False), "nan"),
        (pa.array([decimal.Decimal("1.50")], pa.decimal128(9, 2)), "1.50"),
        (pa.array([True]), "true"),
        (pa.array([None], pa.null()), ""),
        (pa.array([None], pa.timestamp("s")), ""),
        (pa.array([dt.date(2025, 3, 1)]), "2025-03-01"),
        (pa.array([stamp], pa.timestamp("us")), "2025-03-01T08:30:00.250000"),
        (pa.array([stamp], pa.timestamp("ns")), "2025-03-01T08:30:00.250000"),
        (pa.array([1_740_817_800_000_000_999], pa.timestamp("ns")), "2025-03-01T08:30:00"),
        (pa.array([zoned], pa.timestamp("ms", "Europe/Kyiv")), "2025-03-01T06:30:00Z"),
    ]
    columns = {f"c{place}": array for place, (array, _) in enumerate(kinds)}
    path = write(tmp_path, columns)
    wanted = [("columns.x", name) for name in reversed(columns)]
    assert list(rows(path, wanted)) == [[text for _, text in reversed(kinds)]]


def test_only_declared_columns_are_read_and_a_year_beyond_the_calendar_is_a_bad_row(tmp_path: Path) -> None:
    columns = {"patient": ["p", "q"], "when": pa.array([1 << 60, 0], pa.timestamp("us")), "other": [[1], [2]]}
    found = list(rows(write(tmp_path, columns), [("patient_column", "patient"), ("columns.w", "when")]))
    assert found == [Fault.UNREADABLE, ["q", "1970-01-01T00:00:00"]]


def test_a_text_that_is_no_utf8_is_one_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"one two", b"caf\xe9", b"three"], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    write(tmp_path, {"patient": ["a", "b", "c"], "text": text})
    source = read_source(declare(tmp_path, "table"))
    assert inspect_source(source, TEXT).files[0].faults == {Fault.UNREADABLE: 1}
    assert load_patients(source, TEXT).units == ("a", "b", "c")


@pytest.mark.parametrize(
    ("column", "array", "what"),
    [
        ("age", pa.array([[1.0]]), "type"),
        ("age", pa.array([{"a": 1}]), "type"),
        ("sex", pa.array([b"f"]), "type"),
        ("age", pa.array([dt.timedelta(1)]), "type"),
        ("patient", pa.array([1.0]), "type"),
        ("patient", pa.array([dt.date(2025, 3, 1)]), "type"),
        ("patient", pa.array([True]), "type"),
        ("sodium", None, "missing"),
    ],
)
def test_nested_types_ids_that_lost_digits_and_missing_columns_are_refused_by_name(
    tmp_path: Path, column: str, array: Any, what: str
) -> None:
    columns = {"patient": pa.array([SECRET]), "age": pa.array([1]), "sodium": pa.array([2]), "sex": pa.array(["f"])}
    columns[column] = array
    write(tmp_path, {name: values for name, values in columns.items() if values is not None})
    with pytest.raises(DataError, match=rf"{column!r}.*{what}|{what}.*{column!r}") as raised:
        check_source(read_source(declare(tmp_path)), TABLE, HERE)
    assert "'t.parquet'" in str(raised.value) and SECRET not in str(raised.value)


def test_a_column_inside_a_struct_is_no_column(tmp_path: Path) -> None:
    write(tmp_path, {"patient": ["p"], "a": [{"b": 1}]})
    with pytest.raises(DataError, match="missing"):
        list(rows(tmp_path / "t.parquet", [("columns.x", "a.b")]))
    write(tmp_path, {"patient": ["p"], "a.b": [1]})
    assert list(rows(tmp_path / "t.parquet", [("columns.x", "a.b")])) == [["1"]]


def test_whole_numbers_name_patients_as_the_same_digits_do(tmp_path: Path) -> None:
    write(tmp_path, {"patient": pa.array([12, None, 7], pa.int32()), "text": ["a b", "c d", "e f"]})
    source = read_source(declare(tmp_path, "table"))
    assert load_patients(source, TEXT).units == ("12", "7")
    assert inspect_source(source, TEXT).files[0].faults == {Fault.NO_PATIENT: 1}


def _real(folder: Path) -> bytes:
    rng = np.random.default_rng(0)
    columns = {
        "patient": [f"{SECRET}{n % 40}" for n in range(400)], "age": rng.normal(60, 15, 400),
        "sodium": rng.integers(120, 160, 400), "sex": pa.array(rng.choice(["f", "m"], 400)).dictionary_encode(),
    }  # fmt: skip
    return write(folder, columns, row_group_size=100, write_page_checksum=True).read_bytes()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"patient,age\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"'t\.parquet' cannot be read as Parquet"):
        check_source(read_source(declare(tmp_path)), TABLE, HERE)


def test_damage_in_the_middle_is_found_by_its_checksum_and_named(tmp_path: Path) -> None:
    raw = bytearray(_real(tmp_path))
    chunk = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(3).column(1)
    raw[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0x10
    (tmp_path / "t.parquet").write_bytes(raw)
    with pytest.raises(DataError, match=r"'t\.parquet' cannot be read as Parquet") as raised:
        check_source(read_source(declare(tmp_path)), TABLE, HERE)
    assert SECRET not in str(raised.value) and raised.value.__cause__ is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_a_damaged_file_is_read_or_refused_by_name(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = bytearray(_real(folder))
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(raw))
            match rng.randrange(3):
                case 0:
                    raw[place] ^= 1 << rng.randrange(8)
                case 1:
                    del raw[place : place + rng.randrange(1, 200)]
                case _:
                    raw[place:place] = raw[: rng.randrange(1, 200)]
        (folder / "t.parquet").write_bytes(raw)
        try:
            inspect_source(read_source(declare(folder)), TABLE, HERE)
        except DataError as error:
            assert SECRET not in str(error)


def test_many_rows_pass_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"patient": pa.array(range(1000)), "text": [f"w{n} x" for n in range(1000)]}, row_group_size=333)
    whole = load_patients(read_source(declare(tmp_path, "table")), TEXT, HERE)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 17)
    assert load_patients(read_source(declare(tmp_path, "table")), TEXT, HERE).records.tobytes() == whole.records.tobytes()


def test_without_the_library_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _real(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"choral\[formats\]"):
        check_source(read_source(declare(tmp_path)), TABLE, HERE)


@pytest.mark.parametrize("kind", ["columns", "table"])
def test_multiline_is_for_csv(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match="multiline is for csv"):
        read_source(declare(tmp_path, kind, multiline=True))
