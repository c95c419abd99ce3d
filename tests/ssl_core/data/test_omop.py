"""OMOP on SQLite and on a PostgreSQL server: notes, wide rows, units, order, read-only streams; no URL or cell in a message."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import tomli_w
from tests_postgres import Server, programs, server

from ssl_core.data import omop
from ssl_core.data.check import check_source, inspect_source
from ssl_core.data.database import connected, stream
from ssl_core.data.declared_omop import OmopSource
from ssl_core.data.reading import Fault
from ssl_core.data.source import Source, load_patients, read_records, read_source
from ssl_core.data.words import encode, split
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData, TextData

SECRET = "SECRETWORD"  # noqa: S105 - must stand in no message
TEXT = TextData(kind="text", words=6, codes=2, buckets=64)
TABLE = TableData(
    kind="table",
    numeric=(NumericColumn(name="sodium", unit="mmol/L", centre=140, typical=4), NumericColumn(name="pulse", typical=10)),
    categorical=(
        CategoricalColumn(name="diabetes", levels=("none", "type 1", "type 2")),
        CategoricalColumn(name="asthma", levels=("present",)),
    ),
)
COLUMNS: dict[str, Any] = {
    "measurements": {
        "sodium": {"concepts": [3019550, 3000285], "unit_concepts": [8753], "unit": "mmol/L"},
        "pulse": {"concepts": [3027018], "unit_concepts": [8541, 0]},
    },
    "conditions": {"diabetes": {"type 1": [201254], "type 2": [201826]}, "asthma": {"present": [317009]}},
    "otherwise": {"diabetes": "none"},
}

DDL = (
    "CREATE TABLE {s}note (note_id bigint, person_id bigint, note_date date, note_datetime timestamp, "
    "note_type_concept_id integer, note_class_concept_id integer, note_text text, note_title text)",
    "CREATE TABLE {s}measurement (measurement_id bigint, person_id bigint, visit_occurrence_id bigint, measurement_date date, "
    "measurement_datetime timestamp, measurement_concept_id integer, value_as_number numeric, unit_concept_id integer)",
    "CREATE TABLE {s}condition_occurrence (condition_occurrence_id bigint, person_id bigint, visit_occurrence_id bigint, "
    "condition_start_date date, condition_start_datetime timestamp, condition_concept_id integer)",
)
NOTES = [
    (1, 20, "2020-01-02", None, 5, 7, "later words here", "t"),
    (2, 20, "2020-01-01", "2020-01-01 08:00:00", 5, 7, "Élan first", "t"),
    (3, 3, "2019-05-05", None, 6, 7, "of another type", "t"),
    (4, 3, "2019-05-05", None, 5, 8, "of another class", "t"),
    (5, 100, "2019-05-05", None, 5, 7, "...", "t"),
    (6, None, "2019-05-05", None, 5, 7, f"{SECRET} of nobody", "t"),
    (7, 100, "2019-05-06", None, 5, 7, None, "t"),
]
MEASURED = [
    # id, person, visit, date, time, concept, value, unit
    (1, 7, 1, "2020-01-01", "2020-01-01 08:00:00", 3019550, 136, 8753),
    (2, 7, 1, "2020-01-01", "2020-01-01 20:00:00", 3000285, 148, 8753),
    (3, 7, 1, "2020-01-01", "2020-01-01 12:00:00", 3019550, 100, 8753),
    (4, 7, 1, "2020-01-01", "2020-01-01 12:00:00", 3027018, None, 8541),
    (5, 7, 2, "2019-01-01", None, 3027018, 70.5, 0),
    (6, 7, 2, "2019-01-01", None, 3027018, 60, 8541),
    (7, 7, None, "2021-01-01", None, 3027018, 80, 8541),
    (8, 8, 3, "2020-01-01", None, 3019550, 330, 8840),
    (9, 9, 4, "2020-01-01", None, 999, 5, 8840),
    (10, None, 4, "2020-01-01", None, 3027018, 80, 8541),
]
CONDITIONS = [
    (1, 7, 1, "2020-01-01", None, 201254),
    (2, 7, 1, "2020-01-02", None, 201826),
    (3, 8, 5, "2020-01-01", None, 317009),
    (4, 8, 5, "2020-01-01", None, 444),
]


class Database:
    """One with the tables above, however it is served."""

    def __init__(self, url: str, schema: str | None, folder: Path) -> None:
        self.url, self.schema, self.folder = url, schema, folder

    def run(self, *statements: str) -> None:
        engine = sa.create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.format(s=f"{self.schema}." if self.schema else ""))

    def fill(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        for row in rows:
            cells = ", ".join("NULL" if cell is None else repr(cell) for cell in row)
            self.run(f"INSERT INTO {{s}}{table} VALUES ({cells})")  # noqa: S608 - rows of this file

    def declare(self, **changes: Any) -> Source:
        (self.folder / "url").write_text(self.url, encoding="utf-8")
        (self.folder / "url").chmod(0o600)
        body = {"kind": "omop", "url_file": "url", **changes} | ({"cdm_schema": self.schema} if self.schema else {})
        (self.folder / "source.toml").write_text(tomli_w.dumps(body), encoding="utf-8")
        return read_source(self.folder / "source.toml")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed (apt-get install postgresql)")
    with server(found) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        found = Database(f"sqlite:///{tmp_path}/cdm.db", None, tmp_path)
    else:
        found = Database(request.getfixturevalue("postgres").url, "cdm", tmp_path)
        found.run("DROP SCHEMA IF EXISTS cdm CASCADE", "CREATE SCHEMA cdm")
    found.run(*DDL)
    found.fill("note", NOTES)
    found.fill("measurement", MEASURED)
    found.fill("condition_occurrence", CONDITIONS)
    return found


def test_notes_become_units_in_the_order_of_their_dates(base: Database) -> None:
    source = base.declare(notes={"types": [5], "classes": [7]}, max_bad_share=0.9)
    report = check_source(source, TEXT)
    assert report.files[0].faults == {Fault.NO_WORDS: 1, Fault.SHAPE: 1, Fault.NO_PATIENT: 1} and report.files[0].rows == 5
    patients = load_patients(source, TEXT)
    assert patients.units == ("100", "20") and patients.counts().tolist() == [2, 2]
    assert np.array_equal(patients.records[2:], encode([split("Élan first"), split("later words here")], TEXT))
    assert (patients.records[:2] == -1).all()
    assert load_patients(base.declare(), TEXT).units == ("100", "20", "3")
    reading = read_records(base.declare(), TEXT)
    assert set(zip(reading.owners, reading.names or [], strict=True)) == {
        (str(person), str(note)) for note, person, *_ in NOTES if person is not None
    }


def test_a_row_is_a_visit_with_the_last_value_of_each_column(base: Database) -> None:
    source = base.declare(**COLUMNS, max_bad_share=0.9)
    report = inspect_source(source, TABLE)
    assert report.files[0].faults == {Fault.UNITS: 1, Fault.NO_PATIENT: 1} and report.files[0].rows == 6
    patients = load_patients(source, TABLE)
    assert patients.units == ("7", "8") and patients.counts().tolist() == [3, 2]
    missing = 0.0
    # sodium, pulse, is there, is there, diabetes, asthma
    wanted = [
        [missing, 6.0, 0, 1, 2, 0],
        [2.0, missing, 1, 0, 4, 0],
        [missing, 8.0, 0, 1, 2, 0],
    ]
    np.testing.assert_array_equal(patients.records[:3], np.array(wanted, np.float32))
    bad, asthma = sorted(patients.records[3:].tolist(), key=any)
    assert not any(bad) and asthma == [0, 0, 0, 0, 2, 2]
    reading = read_records(source, TABLE)
    visits = {("7", "1"), ("7", "2"), ("7", "2021-01-01"), ("8", "3"), ("8", "5")}
    assert set(zip(reading.owners, reading.names or [], strict=True)) == visits


def test_a_row_may_be_a_day(base: Database) -> None:
    patients = load_patients(base.declare(**COLUMNS, rows="day", max_bad_share=0.9), TABLE)
    # 2019-01-01, 2020-01-01 (type 1), 2020-01-02 (type 2), 2021-01-01
    assert patients.counts().tolist() == [4, 1]
    assert patients.records[:4, 4].tolist() == [2, 3, 4, 2] and patients.records[:4, 2].tolist() == [0, 1, 0, 0]


def test_only_numbers_or_only_conditions_may_be_asked_for(base: Database) -> None:
    numbers = TABLE.model_copy(update={"categorical": ()})
    levels = TABLE.model_copy(update={"numeric": ()})
    read = load_patients(base.declare(measurements=COLUMNS["measurements"], max_bad_share=0.9), numbers)
    assert read.units == ("7", "8") and read.counts().tolist() == [3, 1]
    read = load_patients(base.declare(conditions=COLUMNS["conditions"], max_bad_share=0.9), levels)
    assert read.units == ("7", "8") and read.records.tolist() == [[4 - 0, 0], [0, 2]]


def test_many_rows_pass_and_lie_on_disk_when_they_are_many(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    base.run("DELETE FROM {s}measurement", "DELETE FROM {s}condition_occurrence")
    base.run(
        "INSERT INTO {s}measurement WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "SELECT i, i % 40, i, '2020-01-01', NULL, 3027018, i % 90, 8541 FROM n"
        if base.schema is None
        else "INSERT INTO {s}measurement SELECT i, i %% 40, i, DATE '2020-01-01', NULL, 3027018, i %% 90, 8541 "
        "FROM generate_series(1, 3000) AS g(i)"
    )
    source = base.declare(**COLUMNS)
    whole = load_patients(source, TABLE)
    assert len(whole) == 40 and whole.counts().tolist() == [75] * 40
    monkeypatch.setattr("ssl_core.data.rows.IN_MEMORY", 4096)
    spilt = load_patients(source, TABLE)
    assert isinstance(spilt.records, np.memmap) and spilt.records.tobytes() == whole.records.tobytes()


def test_nothing_can_be_written(base: Database) -> None:
    source = base.declare()
    assert isinstance(source.declared, OmopSource)
    note = "cdm.note" if base.schema else "note"
    for statement in ("CREATE TABLE own (a integer)", f"DROP TABLE {note}"):
        with pytest.raises(DataError, match="refused a query"), connected(source.declared, source.folder) as opened:
            opened.connection.exec_driver_sql(statement)
    assert len(load_patients(base.declare(), TEXT)) == 3


@pytest.mark.parametrize("table", ["note", "measurement", "condition_occurrence"])
def test_a_missing_table_or_column_is_named(base: Database, table: str) -> None:
    data = TEXT if table == "note" else TABLE
    base.run(f"ALTER TABLE {{s}}{table} RENAME COLUMN person_id TO person")
    with pytest.raises(DataError, match=f"'person_id' of table '{table}'"):
        check_source(base.declare(**({} if table == "note" else COLUMNS)), data)
    base.run(f"DROP TABLE {{s}}{table}")
    with pytest.raises(DataError, match=f"'{table}' is missing"):
        check_source(base.declare(**({} if table == "note" else COLUMNS)), data)


@pytest.mark.parametrize("base", ["postgresql"], indirect=True)
def test_rows_come_by_a_cursor_of_the_server_in_a_transaction_of_one_moment(base: Database) -> None:
    source = base.declare()
    assert isinstance(source.declared, OmopSource)
    with connected(source.declared, source.folder) as opened:
        connection = opened.connection
        rows = stream(opened, sa.text("SELECT i FROM generate_series(1, 100000) AS g(i)"))
        assert next(rows)[0] == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_cursors").scalar() == 1
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "repeatable read"
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"
        rows.close()


@pytest.mark.parametrize("base", ["postgresql"], indirect=True)
def test_a_server_is_told_when_the_time_is_over_and_keeps_a_shorter_one_of_its_own(base: Database) -> None:
    source = base.declare(seconds=0.5)
    assert isinstance(source.declared, OmopSource)
    with pytest.raises(DataError, match="not read in the time") as raised, connected(source.declared, source.folder) as opened:
        list(stream(opened, sa.text("SELECT pg_sleep(600)")))
    assert raised.value.field == "seconds" and raised.value.__cause__ is None
    own = base.url
    for options, wanted in (("", "500ms"), ("options=-c%20statement_timeout%3D90", "90ms")):
        base.url = f"{own}{'&' if '?' in own else '?'}{options}" if options else own
        source = base.declare(seconds=0.5)
        assert isinstance(source.declared, OmopSource)
        with connected(source.declared, source.folder) as opened:
            assert opened.connection.exec_driver_sql("SHOW statement_timeout").scalar() == wanted


@pytest.mark.parametrize("base", ["postgresql"], indirect=True)
def test_a_view_of_a_server_is_read_as_a_table(base: Database) -> None:
    """Who may see what is often said by views there; the server's own limits and the declared ones bound them."""
    base.run(
        "ALTER TABLE {s}note RENAME TO all_notes", "CREATE VIEW {s}note AS SELECT * FROM {s}all_notes WHERE person_id = 20"
    )
    assert load_patients(base.declare(), TEXT).units == ("20",)


def test_bytes_of_a_server_without_an_encoding_are_a_line_unless_the_url_names_theirs(postgres: Server, tmp_path: Path) -> None:
    own = sa.engine.make_url(postgres.url)
    engine = sa.create_engine(own.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE bare ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    bare = own.set(database="bare").update_query_dict({"client_encoding": "latin1"})
    base = Database(bare.render_as_string(hide_password=False), "cdm", tmp_path)
    base.run("CREATE SCHEMA cdm", *DDL)
    base.fill("note", [(1, 2, "2020-01-01", None, 5, 7, f"{SECRET} caf\xe9", "t")])
    read = load_patients(base.declare(), TEXT)
    assert np.array_equal(read.records, encode([split(f"{SECRET} caf\xe9")], TEXT))
    base.url = own.set(database="bare").render_as_string(hide_password=False)
    with pytest.raises(DataError, match=r"broke off.*CharacterNotInRepertoire 22021") as raised:
        load_patients(base.declare(), TEXT)
    assert SECRET not in str(raised.value) and raised.value.__cause__ is None


def test_rows_and_notes_have_their_bounds(base: Database) -> None:
    assert len(read_records(base.declare(max_rows=7), TEXT).owners) == 6
    with pytest.raises(DataError, match="more rows"):
        read_records(base.declare(max_rows=6), TEXT)
    base.run("UPDATE {s}note SET note_text = replace('" + 1024 * "x" + "', 'x', '" + 1025 * "y" + "') WHERE note_id = 2")
    found = read_records(base.declare(largest_mib=1), TEXT)
    assert found.tallies[0].faults[Fault.TOO_LARGE] == 1 and len(found.owners) == 6
    assert not read_records(base.declare(largest_mib=2), TEXT).tallies[0].faults[Fault.TOO_LARGE]


@pytest.mark.parametrize("base", ["postgresql"], indirect=True)
def test_a_server_that_ends_the_connection_is_a_line_of_its_own(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    base.run(
        "INSERT INTO {s}note SELECT i, i, DATE '2020-01-01', NULL, 5, 7, repeat('word ', 200), 't' "
        "FROM generate_series(1000, 9000) AS g(i)"
    )
    honest, ended = omop.sortable, list[bool]()

    def ending(*given: Any) -> str:
        if not ended:
            ended.append(True)
            base.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        return honest(*given)

    monkeypatch.setattr(omop, "sortable", ending)
    with pytest.raises(DataError, match="broke off") as raised:
        check_source(base.declare(), TEXT)
    assert ended and SECRET not in str(raised.value) and raised.value.__suppress_context__


def test_a_password_stands_in_no_message(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source.toml").write_text('kind = "omop"\nurl_variable = "CHORAL_TEST_URL"\n')
    source = read_source(tmp_path / "source.toml")
    urls = [
        (postgres.url_of("nobody", SECRET), "cannot be reached.*OperationalError"),
        (f"postgresql://u:{SECRET}@/x?host={tmp_path}", "cannot be reached.*OperationalError"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/x?connect_timeout=2", "cannot be reached"),
        (f"mysql://u:{SECRET}@localhost/x", "of another kind.*mysql"),
        (f"postgresql+absent://u:{SECRET}@localhost/x", "driver"),
        (f"postgresql+psycopg://u:{SECRET}@localhost:port/x", "cannot be read"),
        (SECRET, "cannot be read"),
        ("", "is not set"),
        (f"sqlite:///{SECRET}.db", "SQLite file"),
        ("sqlite://", "SQLite file"),
    ]
    for url, match in urls:
        monkeypatch.setenv("CHORAL_TEST_URL", url)
        with pytest.raises(DataError, match=match) as raised:
            check_source(source, TEXT)
        assert SECRET not in str(raised.value) and SECRET not in repr(raised.value.__cause__)
    monkeypatch.delenv("CHORAL_TEST_URL")
    with pytest.raises(DataError, match="is not set"):
        check_source(source, TEXT)


def test_the_file_with_the_url_is_for_its_owner_alone_and_beside_the_toml(tmp_path: Path) -> None:
    base = Database(f"sqlite:///{tmp_path}/cdm.db", None, tmp_path)
    source = base.declare()
    (tmp_path / "url").chmod(0o604)
    with pytest.raises(DataError, match="chmod 600"):
        check_source(source, TEXT)
    (tmp_path / "url").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        check_source(source, TEXT)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "url").symlink_to(tmp_path / "cdm.db")
    with pytest.raises(DataError, match="lies outside the folder of its source file"):
        check_source(Source(inner, source.declared), TEXT)


def test_without_the_libraries_the_command_that_installs_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Database("postgresql://u@/x", "cdm", tmp_path).declare()
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DataError, match=r"driver.*choral\[formats\]"):
        check_source(source, TEXT)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(DataError, match=r"choral\[formats\]"):
        check_source(source, TEXT)


def test_what_a_dataopenedwithout_types_holds_is_counted_or_taken(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cdm.db") as connection:
        for table, columns in omop.TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        connection.executemany(
            "INSERT INTO note VALUES (?, ?, ?, NULL, 5, 7, ?)",
            [("x", "a", 5, "one two"), (None, "b", "no date", b"bytes"), (1, 2.5, "2020-13-45 25:61:00", "three")],
        )
        connection.execute("INSERT INTO note VALUES (9, 'c', NULL, NULL, 5, 7, CAST(X'636166E9' AS TEXT))")
        connection.executemany(
            "INSERT INTO measurement VALUES (?, ?, ?, ?, NULL, 3027018, ?, 8541)",
            [
                (1, "a", 1, "2020-01-01", "1e999"), (2, "b", 1, "2020-01-01", float("inf")), (3, "c", 1, "x", b"7"),
                (4, "d", 1, None, " 7.5 "), (5, "e", 1, "2020-01-01", ""),
            ],
        )  # fmt: skip
    connection.close()
    base = Database(f"sqlite:///{tmp_path}/cdm.db", None, tmp_path)
    notes = read_records(base.declare(), TEXT)
    assert notes.owners == ["a", "b", "c"]
    assert notes.tallies[0].faults == {Fault.NO_PATIENT: 1, Fault.SHAPE: 1, Fault.UNREADABLE: 1}
    rows = read_records(base.declare(**COLUMNS), TABLE)
    assert rows.owners == ["a", "b", "c", "d", "e"]
    assert rows.tallies[0].faults == {Fault.NO_NUMBER: 3} and rows.records[3].tolist() == [0, 7.5 / 10, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"measurements": {}}, r"measurements\."),
        ({"measurements": COLUMNS["measurements"] | {"x": {"concepts": [1], "unit_concepts": [1]}}}, r"measurements\.x"),
        ({"measurements": COLUMNS["measurements"] | {"sodium": {"concepts": [1], "unit_concepts": [1]}}}, "another unit"),
        ({"conditions": COLUMNS["conditions"] | {"asthma": {"yes": [1]}}}, "level"),
        ({"otherwise": {"diabetes": "unknown"}}, "level"),
    ],
)
def test_columns_units_and_levels_are_the_plans(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    base = Database(f"sqlite:///{tmp_path}/cdm.db", None, tmp_path)
    with pytest.raises(DataError, match=match):
        check_source(base.declare(**COLUMNS | changes), TABLE)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"url_variable": "A"}, "one of url_variable and url_file"),
        ({"otherwise": {"x": "y"}}, "otherwise"),
        ({"measurements": {"a": {"concepts": [1, 1], "unit_concepts": [1]}}}, "twice"),
        ({"conditions": {"a": {"x": [1], "y": [1]}}}, "twice"),
        ({"measurements": {"a": {"concepts": [1], "unit_concepts": [1]}}, "conditions": {"a": {"x": [1]}}}, "under"),
        ({"cdm_schema": "a; drop table note"}, "cdm_schema"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Database("sqlite:///cdm.db", None, tmp_path).declare(**changes)


def test_nothing_is_left_beside_a_dataopenedwith_a_log(tmp_path: Path) -> None:
    """In WAL mode SQLite writes beside a database even for a reader; what somebody has in its log is read all the same."""
    with closing(sqlite3.connect(tmp_path / "cdm.db")) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute(f"create table note ({', '.join(omop.TABLES['note'])})")
        writer.execute("insert into note (note_id, person_id, note_date, note_text) values (1, 7, '2020-01-01', 'one')")
        writer.commit()
    (tmp_path / "url").write_text("sqlite:///cdm.db")
    (tmp_path / "url").chmod(0o600)
    (tmp_path / "s.toml").write_text('kind = "omop"\nurl_file = "url"\n')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(read_records(read_source(tmp_path / "s.toml"), TEXT).owners) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with closing(sqlite3.connect(tmp_path / "cdm.db")) as writer:
        writer.execute("insert into note (note_id, person_id, note_date, note_text) values (2, 7, '2020-01-02', 'two')")
        writer.commit()
        assert len(read_records(read_source(tmp_path / "s.toml"), TEXT).owners) == 2
