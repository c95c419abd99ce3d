"""The table that keeps a patient in one cohort for life: beside it a plain dictionary as reference."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_units import as_an_older_version_left_it

from ssl_core.data.patients import folded_id
from ssl_core.errors import ChainError, ChoralError, DataError, StateError
from ssl_core.privacy.cohorts import Census, Tags, UnitTable
from ssl_core.trust.random import unit_tag

LEDGER = "1" * 32
STUDY = "a" * 64


def asked(*ids: int | str) -> tuple[Tags, Tags]:
    """Tags of the ids, and of the folded ones; a number is somebody whose id is like no other's."""
    units = [each if isinstance(each, str) else f"patient-{each}" for each in ids]
    sides = ([unit_tag(unit) for unit in units], [unit_tag(folded_id(unit)) for unit in units])
    tags, folded = (np.frombuffer(b"".join(side), np.uint8).reshape(-1, 16) for side in sides)
    return tags, folded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site-a"


def test_a_unit_stays_in_the_cohort_that_first_included_it(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    assert table.census("old", *asked(1, 2)) == Census(2, 0, 0) and not table.exists
    table.include("old", STUDY, *asked(1, 2, 3))
    assert table.census("old", *asked(2, 3, 4)) == Census(1, 2, 0)
    assert table.census("new", *asked(2, 3, 4)) == Census(1, 0, 2, others=True)
    with pytest.raises(DataError, match="another cohort"):
        table.include("new", STUDY, *asked(3, 4))
    assert table.census("new", *asked(4)) == Census(1, 0, 0, others=True), "nothing of a refused source is written"


def test_a_ledger_begun_anew_finds_its_patients_known(folder: Path) -> None:
    UnitTable(folder, LEDGER).include("all", STUDY, *asked(1, 2))
    again = UnitTable(folder, "2" * 32)
    assert again.census("all", *asked(2, 3)) == Census(1, 0, 1, others=True)
    with pytest.raises(DataError, match="earlier ledger"):
        again.include("all", STUDY, *asked(2, 3))


SPELLINGS = ["00123", "123", "123.0", "\uff11\uff12\uff13", "P-7", "p-7", "P 7", "7", "0", "12-3", "12 3"]
FOLDED = ["123", "123", "123", "123", "p7", "p7", "p7", "7", "0", "12-3", "12-3"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sets(st.sampled_from(SPELLINGS), min_size=1), st.booleans()), max_size=6))
def test_ids_spelled_alike_are_counted_as_loops_count_them_until_a_person_has_spoken(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[str], bool]]
) -> None:
    table, fold, plain = (
        UnitTable(tmp_path_factory.mktemp("units"), LEDGER),
        dict(zip(SPELLINGS, FOLDED, strict=True)),
        set[str](),
    )
    digests = []
    for units, said in steps:
        fresh = units - plain
        here = sum(any(fold[one] == fold[other] and one != other for other in units) for one in fresh)
        before = sum(any(fold[one] == fold[other] for other in plain - units) for one in fresh)
        found = table.census("all", *asked(*units))
        assert (found.alike_here, found.alike_before, found.alike) == (here, before, here + before > 0)
        if found.alike and not said:
            with pytest.raises(DataError, match="in spelling alone"):
                table.include("all", STUDY, *asked(*units))
            assert table.census("all", *asked(*units)).new == found.new, "nobody of a refused source is included"
            continue
        digests.append(table.include("all", STUDY, *asked(*units), different_people=said))
        plain |= units
        assert not table.census("all", *asked(*units)).alike, "what a person said is not asked again"
    if digests:
        table.verify(digests)


def test_a_second_export_in_another_spelling_is_not_good_news(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    table.include("year-2026", STUDY, *asked("00123", "00124", "mrn-9"))
    found = table.census("year-2027", *asked("123", "124", "MRN-9", "555"))
    assert found == Census(4, 0, 0, alike_before=3, others=True) and found.alike and found.strangers
    assert not table.census("year-2026", *asked("00123", "00124", "mrn-9", "555")).alike


def test_a_table_of_an_older_version_is_read_as_it_is_and_learns_the_spellings_of_whom_it_meets(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    table.include("old", STUDY, *asked("00123", "mrn-9"))
    table.include("old", "b" * 64, *asked("7"))
    as_an_older_version_left_it(folder / "units.db")
    with closing(sqlite3.connect(folder / "units.db")) as database:
        older = [row[0] for row in database.execute("SELECT digest FROM batch ORDER BY number")]
    content = (folder / "units.db").read_bytes()
    table.verify(older)
    assert table.census("new", *asked("123", "555", "0555")) == Census(3, 0, 0, alike_here=2, uncompared=3, others=True)
    assert (folder / "units.db").read_bytes() == content, "a look changes nothing"
    digest = table.include("old", "c" * 64, *asked("00123", "mrn-9"))
    assert digest not in older, "the spellings of known patients are in the chain, too"
    assert table.include("old", "d" * 64, *asked("00123", "mrn-9")) == digest
    table.verify([*older, digest])
    assert table.census("new", *asked("123")) == Census(1, 0, 0, alike_before=1, uncompared=1, others=True)
    assert table.census("old", *asked("00123", "mrn-9")) == Census(0, 2, 0), "nobody of these is met for the first time"
    assert table.census("old", *asked("00123", "mrn-9", "07")) == Census(1, 2, 0, uncompared=1)
    assert table.census("old", *asked("00123", "mrn-9", "7")) == Census(0, 3, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 12), min_size=1)), max_size=8))
def test_it_agrees_with_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, set[int]]]) -> None:
    table, plain = UnitTable(tmp_path_factory.mktemp("units"), LEDGER), dict[int, str]()
    digests = []
    for cohort, units in steps:
        known = sum(plain.get(unit) == cohort for unit in units)
        elsewhere = sum(plain.get(unit, cohort) != cohort for unit in units)
        others = bool(set(plain.values()) - {cohort})
        found = table.census(cohort, *asked(*units))
        assert found == Census(len(units) - known - elsewhere, known, elsewhere, others=others)
        if elsewhere:
            with pytest.raises(DataError):
                table.include(cohort, STUDY, *asked(*units))
        else:
            digests.append(table.include(cohort, STUDY, *asked(*units)))
            plain |= dict.fromkeys(units, cohort)
    if table.exists:
        table.verify(digests)


def test_the_same_again_changes_nothing_and_the_order_does_not_count(folder: Path, tmp_path: Path) -> None:
    table = UnitTable(folder, LEDGER)
    digest = table.include("all", STUDY, *asked(1, 2, 3))
    assert table.include("all", "b" * 64, *asked(3, 1)) == digest
    other = UnitTable(tmp_path / "other", LEDGER)
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "units.key", tmp_path / "other" / "units.key")
    assert other.include("all", STUDY, *asked(3, 2, 1, 3)) == digest
    third = UnitTable(tmp_path / "third", LEDGER)
    assert third.include("all", STUDY, *asked(1, 2, 3)) != digest, "another site's key gives other hashes"


def test_it_holds_no_id_and_no_tag_and_is_its_owners_alone(folder: Path) -> None:
    UnitTable(folder, LEDGER).include("all", STUDY, *asked(1, 2))
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    secret = [unit_tag(f"{start}{n}") for n in (1, 2) for start in ("patient-", "patient")]
    assert b"patient" not in content and not any(tag in content for tag in secret)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM unit WHERE hash = (SELECT min(hash) FROM unit)",
        "UPDATE batch SET cohort = 'other' WHERE number = 1",
        "UPDATE unit SET batch = 2 WHERE hash = (SELECT min(hash) FROM unit WHERE batch = 1)",
        "INSERT INTO unit VALUES (zeroblob(16), 9)",
        "DELETE FROM unit WHERE batch = 2",
        "DELETE FROM spelling WHERE batch = 2",
        "DELETE FROM spelling",
        "UPDATE spelling SET folded = zeroblob(16) WHERE hash = (SELECT min(hash) FROM spelling)",
        "UPDATE spelling SET batch = 1",
        "INSERT INTO spelling VALUES (zeroblob(16), zeroblob(16), 1)",
    ],
)
def test_an_edited_table_is_known(folder: Path, edit: str) -> None:
    table = UnitTable(folder, LEDGER)
    digests = [table.include("a", STUDY, *asked(1, 2)), table.include("b", STUDY, *asked(3, 4))]
    table.verify(digests)
    with closing(sqlite3.connect(folder / "units.db")) as database:
        database.execute(edit)
        database.commit()
    with pytest.raises(ChainError, match="table of patients"):
        table.verify(digests)


MERGED = {
    "unit": ("SELECT hash FROM unit ORDER BY hash", "DELETE FROM unit", "INSERT INTO unit VALUES (?, 1)"),
    "spelling": (
        "SELECT CAST(folded || hash AS BLOB) FROM spelling ORDER BY folded, hash",
        "DELETE FROM spelling",
        "INSERT INTO spelling VALUES (?, x'', 1)",
    ),
}


@pytest.mark.parametrize("place", MERGED)
def test_rows_that_run_together_to_the_same_bytes_are_known(folder: Path, place: str) -> None:
    """Two hashes as one of twice the length: the digested bytes stay the same, and the two units would be new again."""
    table, (select, delete, insert) = UnitTable(folder, LEDGER), MERGED[place]
    digests = [table.include("a", STUDY, *asked(1, 2))]
    with closing(sqlite3.connect(folder / "units.db")) as database:
        rows = [row[0] for row in database.execute(select)]
        database.execute(delete)
        database.execute(insert, (b"".join(rows),))
        database.commit()
    assert len(rows) == 2 and table.census("b", *asked(1, 2)).elsewhere == (0 if place == "unit" else 2)
    with pytest.raises(ChainError, match="batch 1 was edited"):
        table.verify(digests)


@pytest.mark.parametrize("value", ["sixteen letters.", 7, None])
def test_a_table_made_anew_with_values_of_another_type_is_known(folder: Path, value: object) -> None:
    table = UnitTable(folder, LEDGER)
    digests = [table.include("a", STUDY, *asked(1, 2))]
    with closing(sqlite3.connect(folder / "units.db")) as database:
        database.executescript("DROP TABLE unit; CREATE TABLE unit (hash, batch INTEGER)")
        database.execute("INSERT INTO unit VALUES (?, 1)", (value,))
        database.commit()
    with pytest.raises(ChainError, match="batch 1 was edited"):
        table.verify(digests)


def test_an_older_copy_a_lost_table_and_a_lost_key_are_known(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    digests = [table.include("a", STUDY, *asked(1))]
    older = (folder / "units.db").read_bytes()
    digests.append(table.include("b", STUDY, *asked(2)))
    (folder / "units.db").write_bytes(older)
    with pytest.raises(ChainError, match="older one"):
        table.verify(digests)
    (folder / "units.db").unlink()
    with pytest.raises(ChainError, match="lost"):
        table.verify(digests)
    (folder / "units.db").write_bytes(older)
    (folder / "units.key").unlink()
    with pytest.raises(StateError, match="key of the table of patients is missing"):
        table.include("a", STUDY, *asked(1))


def test_a_damaged_file_is_refused_and_no_error_tells_of_a_patient(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    table.include("a", STUDY, *asked(1, 2, 3))
    found: list[ChoralError] = []
    with pytest.raises(DataError) as refused:
        table.include("b", STUDY, *asked(2, 3))
    found.append(refused.value)
    (folder / "units.db").write_bytes(os.urandom(8192))
    with pytest.raises(StateError, match="not a readable SQLite file") as broken:
        table.census("a", *asked(1))
    found.append(broken.value)
    for error in found:
        text = str(error).replace(str(folder), "")
        assert "patient-" not in text and not any(character.isdigit() for character in text), "no id and no count"
