"""SQLite files that are damaged, made to do harm, or lie elsewhere: each ends in records or in a line of its own, in bounds."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_recordings import mutate

from ssl_core.data import omop, sqlite_file
from ssl_core.data.database import connected, stream, table_of
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.reading import Fault, Reading
from ssl_core.data.source import Source, read_records, read_source
from ssl_core.errors import DataError
from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData, TextData

SECRET = "SECRETWORD"  # noqa: S105 - must stand in no message
TEXT = TextData(kind="text", words=6, codes=2, buckets=64)
TABLE = TableData(
    kind="table", numeric=(NumericColumn(name="pulse", typical=10),),
    categorical=(CategoricalColumn(name="asthma", levels=("present",)),),
)  # fmt: skip
COLUMNS: dict[str, Any] = {
    "measurements": {"pulse": {"concepts": [3027018], "unit_concepts": [8541]}},
    "conditions": {"asthma": {"present": [317009]}},
}
NOTE = ", ".join(omop.TABLES["note"])
FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"
VIEW = "DROP TABLE note; CREATE VIEW note AS " + FOREVER.format("i AS " + NOTE.replace(", ", ", i AS "))
COMPUTED = "ALTER TABLE note RENAME COLUMN note_text TO x; ALTER TABLE note ADD COLUMN note_text AS (hex(zeroblob(9)))"


def declare(folder: Path, url: str = "sqlite:///cdm.db", **keys: Any) -> Source:
    (folder / "url").write_text(url)
    (folder / "url").chmod(0o600)
    (folder / "s.toml").write_text(tomli_w.dumps({"kind": "omop", "url_file": "url", **keys}))
    return read_source(folder / "s.toml")


def made(folder: Path, *statements: str) -> Path:
    """A file with the three tables, indices as OMOP's own scripts make them, and `statements`."""
    path = folder / "cdm.db"
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA page_size = 512")
        for table, columns in omop.TABLES.items():
            base.execute(f"CREATE TABLE {table} ({columns[0]} integer PRIMARY KEY, {', '.join(columns[1:])})")
            base.execute(f"CREATE INDEX idx_{table} ON {table} (person_id)")
        for number in range(12):
            person, day = number % 4, f"2020-01-{number + 1:02}"
            text = f"{SECRET} note {number} " + "of many words " * number
            base.execute("INSERT INTO note VALUES (?, ?, ?, NULL, 5, 7, ?)", (number, person, day, text))
            base.execute(
                "INSERT INTO measurement VALUES (?, ?, ?, ?, NULL, 3027018, ?, 8541)", (number, person, number, day, number)
            )
            base.execute("INSERT INTO condition_occurrence VALUES (?, ?, ?, ?, NULL, 317009)", (number, person, number, day))
        for statement in statements:
            base.executescript(statement)
    return path


def both(folder: Path) -> list[Reading]:
    return [read_records(declare(folder), TEXT), read_records(declare(folder, **COLUMNS), TABLE)]


def refused(source: Source, data: TextData | TableData, match: str) -> DataError:
    with pytest.raises(DataError, match=match) as raised:
        read_records(source, data)
    assert SECRET not in str(raised.value) and str(source.folder) not in str(raised.value)
    assert raised.value.__cause__ is None
    return raised.value


def test_what_is_whole_is_read_by_row_and_by_no_index(tmp_path: Path) -> None:
    """An index that says another person than the row does is not asked: the program that is compared with would use it."""
    made(tmp_path)
    notes, rows = both(tmp_path)
    assert sorted(notes.owners) == sorted(str(number % 4) for number in range(12)) and len(rows.owners) == 12
    source = declare(tmp_path)
    assert isinstance(source.declared, OmopSource)
    with connected(source.declared, source.folder) as base:
        c = table_of(base, "note", omop.TABLES["note"]).c
        asked = sa.select(c.person_id).where(c.person_id == 3).order_by(c.person_id)
        text = str(asked.compile(base.connection, compile_kwargs={"literal_binds": True}))
        plan = [row[3] for row in base.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        own = [row[3] for row in base.connection.exec_driver_sql("EXPLAIN QUERY PLAN SELECT * FROM note WHERE person_id = 3")]
    assert "idx_note" in " ".join(own) and "idx_note" not in " ".join(plan) and plan


def test_damaged_files_end_in_records_or_in_one_line(tmp_path: Path) -> None:
    whole = made(tmp_path).read_bytes()
    ended = {"read": 0, "refused": 0}

    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def run(data: Any) -> None:
        (tmp_path / "cdm.db").write_bytes(mutate(whole, data.draw, st))
        for keys, asked, shape in (({}, TEXT, (6, 2)), (COLUMNS, TABLE, (3,))):
            try:
                found = read_records(declare(tmp_path, **keys), asked)
            except DataError as error:
                assert SECRET not in str(error) and str(tmp_path) not in str(error)
                assert error.field in ("url", "cdm_schema", "largest_mib", "max_rows")
                ended["refused"] += 1
            else:
                assert found.records.shape == (len(found.owners), *shape) and len(found.order) == len(found.owners)
                ended["read"] += 1

    run()
    assert min(ended.values()) > 5


def test_a_message_of_sqlite_that_is_no_utf8_is_damage_too(tmp_path: Path) -> None:
    path = made(tmp_path, "CREATE TABLE spareword (a)")
    path.write_bytes(path.read_bytes().replace(b"spareword", b"spare\xff(rd"))
    with closing(sqlite3.connect(path)) as base, pytest.raises(UnicodeDecodeError):
        base.execute("SELECT 1 FROM note")
    refused(declare(tmp_path), TEXT, "damaged")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (VIEW, "'note' is a view"),
        (f"DROP TABLE note; CREATE VIRTUAL TABLE note USING fts4({NOTE})", "'note' is a view"),
        (COMPUTED, "computes"),
    ],
    ids=["view", "virtual", "computed"],
)
def test_only_plain_tables_are_read(tmp_path: Path, make: str, match: str) -> None:
    made(tmp_path, make)
    assert refused(declare(tmp_path), TEXT, match).limit == "a plain table"


def test_a_schema_that_lies_about_its_kinds_is_damage(tmp_path: Path) -> None:
    """A view under the name and the type of a table; SQLite compares both with the statement as it loads a schema."""
    made(tmp_path, VIEW)
    with closing(sqlite3.connect(tmp_path / "cdm.db")) as base, base:
        base.execute("PRAGMA writable_schema = ON")
        base.execute("UPDATE sqlite_master SET type = 'table' WHERE name = 'note'")
    refused(declare(tmp_path), TEXT, "is a view|damaged")


def test_a_page_in_the_place_of_another_is_damage(tmp_path: Path) -> None:
    """SQLite would read it, without a word, as some patients' notes twice and others' not at all."""
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as base:
        honest = base.execute("SELECT note_id FROM note NOT INDEXED ORDER BY 1").fetchall()
    content = path.read_bytes()
    pages = [content[place : place + 512] for place in range(0, len(content), 512)]
    first, second, *_ = (number for number, page in enumerate(pages) if page[:1] == b"\x0d" and SECRET.encode() in page)
    pages[second] = pages[first]
    path.write_bytes(b"".join(pages))
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("SELECT note_id FROM note NOT INDEXED ORDER BY 1").fetchall() != honest
    refused(declare(tmp_path), TEXT, "damaged")


def test_a_statement_ends_in_its_midst_when_the_time_is_over(tmp_path: Path) -> None:
    made(tmp_path)
    source = declare(tmp_path, seconds=0.2)
    assert isinstance(source.declared, OmopSource)
    endless = sa.text(FOREVER.format("count(*)"))
    with pytest.raises(DataError, match="not read in the time") as raised, connected(source.declared, source.folder) as base:
        list(stream(base, endless))
    assert raised.value.field == "seconds" and raised.value.limit == 0.2
    slow = sa.text(FOREVER.format("i"))
    with pytest.raises(DataError, match="not read in the time"), connected(source.declared, source.folder) as base:
        for _ in stream(base, slow):
            pass


def test_more_rows_or_larger_ones_than_declared_are_refused_before_they_are_sorted(tmp_path: Path) -> None:
    made(tmp_path)
    assert len(read_records(declare(tmp_path, max_rows=12), TEXT).owners) == 12
    assert refused(declare(tmp_path, max_rows=11), TEXT, "more rows").limit == 11
    assert len(read_records(declare(tmp_path, max_rows=24, **COLUMNS), TABLE).owners) == 12
    refused(declare(tmp_path, max_rows=23, **COLUMNS), TABLE, "more rows")
    with closing(sqlite3.connect(tmp_path / "cdm.db")) as base, base:
        base.execute("UPDATE measurement SET visit_occurrence_id = hex(zeroblob(2000)) WHERE measurement_id = 3")
    refused(declare(tmp_path, max_rows=24, **COLUMNS), TABLE, "larger ones")
    assert len(read_records(declare(tmp_path, max_rows=1000, **COLUMNS), TABLE).owners) == 13


def test_a_note_that_is_too_large_is_a_bad_record_and_a_cell_beyond_it_refuses(tmp_path: Path) -> None:
    large = "INSERT INTO note (note_id, person_id, note_date, note_text) VALUES (99, 7, '2020-01-01', {})"
    made(tmp_path, large.format(f"replace(hex(zeroblob({(1 << 19) + 1})), '0', 'a')"))
    found = read_records(declare(tmp_path, largest_mib=1), TEXT)
    assert found.tallies[0].faults == {Fault.TOO_LARGE: 1} and (found.records[found.owners.index("7")] == -1).all()
    assert not read_records(declare(tmp_path), TEXT).tallies[0].faults
    (tmp_path / "cdm.db").unlink()
    made(tmp_path, large.format(f"replace(hex(zeroblob({1 << 20})), '0', 'a') || 'a'"))
    assert refused(declare(tmp_path, largest_mib=1), TEXT, "a cell of the database is larger").field == "largest_mib"


def test_nothing_of_a_sort_is_written_outside_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the process holds open while rows of 6 MB are sorted; with SQLite's own setting there is one more."""
    made(
        tmp_path,
        "INSERT INTO measurement WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 120000) "
        "SELECT i, i * 7919 % 100003, i, '2020-01-01', '2020-01-01 08:00:00', 3027018, i % 90, 8541 FROM n",
    )

    def held() -> int:
        source = declare(tmp_path, **COLUMNS)
        assert isinstance(source.declared, OmopSource)
        with connected(source.declared, source.folder) as base:
            events = omop._events(base, source.declared)
            next(events)
            links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        return sum("etilqs" in link for link in links)

    assert held() == 0
    monkeypatch.setattr(sqlite_file, "_PRAGMAS", tuple(each for each in sqlite_file._PRAGMAS if "temp_store" not in each))
    assert held() > 0


@pytest.mark.parametrize("how", ["link", "parent", "whole", "log"])
def test_a_file_elsewhere_is_a_line_of_its_own(tmp_path: Path, how: str) -> None:
    (tmp_path / "inner").mkdir()
    path = made(tmp_path)
    url = {"link": "sqlite:///in.db", "parent": "sqlite:///../cdm.db", "whole": f"sqlite:///{path}", "log": "sqlite:///own.db"}[
        how
    ]
    (tmp_path / "inner" / "in.db").symlink_to(path)
    (tmp_path / "inner" / "own.db").write_bytes(path.read_bytes())
    (tmp_path / "inner" / "own.db-wal").symlink_to(path)
    found = refused(declare(tmp_path / "inner", url), TEXT, "lies outside the folder")
    assert found.field == "url" and "cdm" not in str(found)
    assert len(read_records(declare(tmp_path, f"sqlite:///{path}"), TEXT).owners) == 12
    (tmp_path / "within.db").symlink_to("cdm.db")
    assert len(read_records(declare(tmp_path, "sqlite:///within.db"), TEXT).owners) == 12


@pytest.mark.parametrize("name", ["x" * 300 + ".db", "circle.db", "inner", "pipe"])
def test_what_is_no_file_is_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle.db").symlink_to("circle.db")
    (tmp_path / "inner").mkdir()
    os.mkfifo(tmp_path / "pipe")
    refused(declare(tmp_path, f"sqlite:///{name}"), TEXT, "SQLite file of the database is missing")


def test_a_pipe_for_a_url_is_not_waited_for(tmp_path: Path) -> None:
    source = declare(tmp_path)
    (tmp_path / "url").unlink()
    os.mkfifo(tmp_path / "url", 0o600)
    refused(source, TEXT, "the file with the URL is no file")
