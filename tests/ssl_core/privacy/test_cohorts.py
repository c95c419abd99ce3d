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

from ssl_core.errors import ChainError, ChoralError, DataError, StateError
from ssl_core.privacy.cohorts import Census, Tags, UnitTable
from ssl_core.trust.random import unit_tag

LEDGER = "1" * 32
STUDY = "a" * 64


def tags(*numbers: int) -> Tags:
    return np.frombuffer(b"".join(unit_tag(f"patient-{number}") for number in numbers), np.uint8).reshape(-1, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site-a"


def test_a_unit_stays_in_the_cohort_that_first_included_it(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    assert table.census("old", tags(1, 2)) == Census(2, 0, 0) and not table.exists
    table.include("old", STUDY, tags(1, 2, 3))
    assert table.census("old", tags(2, 3, 4)) == Census(1, 2, 0)
    assert table.census("new", tags(2, 3, 4)) == Census(1, 0, 2)
    with pytest.raises(DataError, match="another cohort"):
        table.include("new", STUDY, tags(3, 4))
    assert table.census("new", tags(4)) == Census(1, 0, 0), "nothing of a refused source is written"


def test_a_ledger_begun_anew_finds_its_patients_known(folder: Path) -> None:
    UnitTable(folder, LEDGER).include("all", STUDY, tags(1, 2))
    again = UnitTable(folder, "2" * 32)
    assert again.census("all", tags(2, 3)) == Census(1, 0, 1)
    with pytest.raises(DataError, match="earlier ledger"):
        again.include("all", STUDY, tags(2, 3))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 12), min_size=1)), max_size=8))
def test_it_agrees_with_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, set[int]]]) -> None:
    table, plain = UnitTable(tmp_path_factory.mktemp("units"), LEDGER), dict[int, str]()
    digests = []
    for cohort, units in steps:
        known = sum(plain.get(unit) == cohort for unit in units)
        elsewhere = sum(plain.get(unit, cohort) != cohort for unit in units)
        assert table.census(cohort, tags(*units)) == Census(len(units) - known - elsewhere, known, elsewhere)
        if elsewhere:
            with pytest.raises(DataError):
                table.include(cohort, STUDY, tags(*units))
        else:
            digests.append(table.include(cohort, STUDY, tags(*units)))
            plain |= dict.fromkeys(units, cohort)
    if table.exists:
        table.verify(digests)


def test_the_same_again_changes_nothing_and_the_order_does_not_count(folder: Path, tmp_path: Path) -> None:
    table = UnitTable(folder, LEDGER)
    digest = table.include("all", STUDY, tags(1, 2, 3))
    assert table.include("all", "b" * 64, tags(3, 1)) == digest
    other = UnitTable(tmp_path / "other", LEDGER)
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "units.key", tmp_path / "other" / "units.key")
    assert other.include("all", STUDY, tags(3, 2, 1, 3)) == digest
    third = UnitTable(tmp_path / "third", LEDGER)
    assert third.include("all", STUDY, tags(1, 2, 3)) != digest, "another site's key gives other hashes"


def test_it_holds_no_id_and_no_tag_and_is_its_owners_alone(folder: Path) -> None:
    UnitTable(folder, LEDGER).include("all", STUDY, tags(1, 2))
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"patient-" not in content and not any(unit_tag(f"patient-{n}") in content for n in (1, 2))
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
    ],
)
def test_an_edited_table_is_known(folder: Path, edit: str) -> None:
    table = UnitTable(folder, LEDGER)
    digests = [table.include("a", STUDY, tags(1, 2)), table.include("b", STUDY, tags(3, 4))]
    table.verify(digests)
    with closing(sqlite3.connect(folder / "units.db")) as database:
        database.execute(edit)
        database.commit()
    with pytest.raises(ChainError, match="table of patients"):
        table.verify(digests)


def test_an_older_copy_a_lost_table_and_a_lost_key_are_known(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    digests = [table.include("a", STUDY, tags(1))]
    older = (folder / "units.db").read_bytes()
    digests.append(table.include("b", STUDY, tags(2)))
    (folder / "units.db").write_bytes(older)
    with pytest.raises(ChainError, match="older one"):
        table.verify(digests)
    (folder / "units.db").unlink()
    with pytest.raises(ChainError, match="lost"):
        table.verify(digests)
    (folder / "units.db").write_bytes(older)
    (folder / "units.key").unlink()
    with pytest.raises(StateError, match="key of the table of patients is missing"):
        table.include("a", STUDY, tags(1))


def test_a_damaged_file_is_refused_and_no_error_tells_of_a_patient(folder: Path) -> None:
    table = UnitTable(folder, LEDGER)
    table.include("a", STUDY, tags(1, 2, 3))
    found: list[ChoralError] = []
    with pytest.raises(DataError) as refused:
        table.include("b", STUDY, tags(2, 3))
    found.append(refused.value)
    (folder / "units.db").write_bytes(os.urandom(8192))
    with pytest.raises(StateError, match="not a readable SQLite file") as broken:
        table.census("a", tags(1))
    found.append(broken.value)
    for error in found:
        text = str(error).replace(str(folder), "")
        assert "patient-" not in text and not any(character.isdigit() for character in text), "no id and no count"
