"""Files of labels are bounded, whatever they hold; what is refused is named by file, column and line alone."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data import label_table
from ssl_core.data.csv_rows import LONGEST
from ssl_core.data.label_table import LARGEST, read_label_table
from ssl_core.errors import DataError

SECRET = "SECRETPATIENT"  # noqa: S105 - a patient id that no message may hold


def test_rows_are_those_of_pythons_csv_with_the_lines_of_an_editor(tmp_path: Path) -> None:
    text = '\ufeffpatient,"a, b"\r\n\r\nx ,"say ""no"""\r\ny,\r\n'
    (tmp_path / "l.csv").write_text(text, newline="")
    table = read_label_table(tmp_path / "l.csv")
    with (tmp_path / "l.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    assert [list(table.header), *table.rows] == rows and table.lines == [3, 4]
    assert table.ids("patient") == ("x", "y") and table.cells("a, b") == ['say "no"', ""]
    assert SECRET not in repr(read_label_table(tmp_path / "l.csv")) and "say" not in repr(table)


def test_a_comment_is_read_where_one_may_stand_and_lines_still_count(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("# {}\npatient,x\na,1\nb,2\n")
    table = read_label_table(tmp_path / "l.csv", commented=True)
    assert (table.comment, table.header, table.lines) == ("# {}\n", ("patient", "x"), [3, 4])
    with pytest.raises(DataError, match="neither 0 nor 1 in line 4"):
        table.zero_one(("x",))
    (tmp_path / "l.csv").write_text("patient,x\na,1\n")
    assert read_label_table(tmp_path / "l.csv", commented=True).lines == [2]
    (tmp_path / "l.csv").write_text("# {}\npatient,x\n")
    with pytest.raises(DataError, match="line 2 of label file"):
        read_label_table(tmp_path / "l.csv")


@pytest.mark.parametrize(("limit", "least"), [("MOST_ROWS", 4), ("MOST_CELLS", 8)])
def test_more_rows_or_cells_are_refused_as_soon_as_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, least: int
) -> None:
    path = tmp_path / "l.csv"
    path.write_text("patient,x\n" + "".join(f"{SECRET}{number},1\n" for number in range(3)))
    monkeypatch.setattr(label_table, limit, least)
    assert len(read_label_table(path).rows) == 3
    monkeypatch.setattr(label_table, limit, least - 1)
    with pytest.raises(DataError, match=r"label file 'l\.csv' is too large; .*limit: ") as raised:
        read_label_table(path)
    assert SECRET not in str(raised.value)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "l.csv").open("wb") as stream:
        stream.write(b"patient,x\na,1\n")
        stream.truncate(LARGEST + 1)
    with pytest.raises(DataError, match="too large; field: path; limit: 256 MiB"):
        read_label_table(tmp_path / "l.csv")


@pytest.mark.parametrize(
    ("begin", "message"),
    [("", "a line of file 'l.csv' is too long"), ('"\n', "cannot be read as UTF-8 CSV; field: line; value: 2")],
)
def test_a_line_or_a_row_that_does_not_end_is_not_held_in_memory(tmp_path: Path, begin: str, message: str) -> None:
    part = "x" * 1023 + ("\n" if begin else "x")
    (tmp_path / "l.csv").write_text("patient,x\n" + begin + part * (8 * LONGEST // 1024))
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        read_label_table(tmp_path / "l.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The file has 32 MiB; csv holds four bytes a character, and grows by copying.
    assert peak < 8 * LONGEST


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("labels") / "l.csv"
    for head in (b"", b"patient,x\n", b"# {}\npatient,x\n"):
        path.write_bytes(head + content)
        for commented in (False, True):
            try:
                table = read_label_table(path, commented=commented)
            except DataError as error:
                assert error.field in ("path", "line")
                continue
            assert len(table.rows) == len(table.lines) and {len(row) for row in table.rows} == {len(table.header)}
