"""A row of FHIR resources, or of a database, as written: each cell is what the study's own cell was taken from."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests_fhir import COLUMNS, OBSERVATIONS, SMOKING, SNOMED, SODIUM, TABLE, observation, quantity, write_lines

from deploy.data_page import render_page
from ssl_core.data.reading import Effort
from ssl_core.data.source import Source, read_source
from ssl_core.datacheck.look import Look, look_at
from ssl_core.spec.data import CategoricalColumn, NumericColumn, TableData

OMOP = TableData(
    kind="table",
    numeric=(NumericColumn(name="sodium", unit="mmol/L", centre=140, typical=4), NumericColumn(name="pulse", typical=10)),
    categorical=(CategoricalColumn(name="diabetes", levels=("none", "type 2")),),
)


def declare(folder: Path, **body: Any) -> Source:
    (folder / "s.toml").write_text(tomli_w.dumps({"max_bad_share": 0.9, **body}), encoding="utf-8")
    return read_source(folder / "s.toml")


def look(source: Source, data: TableData, patient: str, workers: int = 0) -> Look:
    return look_at(source, data, Effort(workers), patient=patient, picture=True)


def before(source: Source, data: TableData, patient: str, workers: int = 0) -> object:
    shown = look(source, data, patient, workers).shown
    return None if shown is None else shown.before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_of_observations_holds_the_last_value_of_each_column_as_written(tmp_path: Path, workers: int) -> None:
    (tmp_path / "x").mkdir()
    write_lines(tmp_path / "x" / "a.ndjson", OBSERVATIONS)
    source = declare(tmp_path, kind="fhir", path="x", **COLUMNS)
    never = f"https://a.example/local|x, {SNOMED}|266919005"
    # Of three values the last by time is 148.0, which the study sees as +2; its digits are those of the file.
    assert before(source, TABLE, "7", workers) == (
        ("sodium", "148.0 mmol/L"), ("systolic", ""), ("pulse", ""), ("smoking", never),
    )  # fmt: skip
    # A row that is bad is shown as well: there one sees why.
    assert before(source, TABLE, "8", workers) == (
        ("sodium", "330 mg/dL"), ("systolic", ""), ("pulse", ""), ("smoking", ""),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "value", "written"),
    [
        (SODIUM, {"valueQuantity": quantity(120, "mmol/L", comparator="<")}, "< 120 mmol/L"),
        (SODIUM, {"valueQuantity": {"value": 5, "unit": "<b>mg</b>"}}, "5 <b>mg</b>"),
        (SODIUM, {"valueString": "normal"}, "normal"),
        (SMOKING, {"valueString": "ex"}, "ex"),
        (SMOKING, {"valueBoolean": True}, "true"),
        (SMOKING, {"valueCodeableConcept": {"text": "unclear"}}, "unclear"),
        (SMOKING, {"valueCodeableConcept": 5}, ""),
        (SMOKING, {"valueString": "\ud800"}, "?"),
    ],
)
def test_whatever_an_observation_holds_is_shown_and_escaped(
    tmp_path: Path, code: str, value: dict[str, Any], written: str
) -> None:
    """Whose the files are, the folder says here; and the page shows the cell beside what the study sees of it."""
    (tmp_path / "x" / "ann").mkdir(parents=True)
    (tmp_path / "x" / "ann" / "a.json").write_text(json.dumps(observation("o", "other", code, "2024-01-01", "e", **value)))
    # A second patient with a declared level: a column without any is coded in another way than the plan says.
    (tmp_path / "x" / "ben").mkdir()
    good = observation("o", "b", SMOKING, "2024-01-01", "e", valueString="ex")
    (tmp_path / "x" / "ben" / "a.json").write_text(json.dumps(good))
    found = look(declare(tmp_path, kind="fhir", path="x", patient_from="folder", **COLUMNS), TABLE, "ann")
    assert found.shown is not None and isinstance(found.shown.before, tuple)
    cells = dict(found.shown.before)
    assert cells.pop("sodium" if code == SODIUM else "smoking") == written and not any(cells.values())
    page = render_page(found, TABLE)
    assert "not one cell of a file" not in page and "<b>mg" not in page
    assert written.replace("<", "&lt;").replace(">", "&gt;") in page


def test_a_visit_of_a_database_holds_values_with_their_unit_and_conditions_by_concept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "cdm.db")) as base, base:
        base.execute(
            "CREATE TABLE measurement (measurement_id, person_id, visit_occurrence_id, measurement_date, measurement_datetime, "
            "measurement_concept_id, value_as_number, unit_concept_id)"
        )
        base.execute(
            "CREATE TABLE condition_occurrence (condition_occurrence_id, person_id, visit_occurrence_id, "
            "condition_start_date, condition_start_datetime, condition_concept_id)"
        )
        rows = [
            (1, 7, 1, "2020-01-01", "2020-01-01 08:00:00", 3019550, 136, 8753),
            (2, 7, 1, "2020-01-01", "2020-01-01 20:00:00", 3019550, 147.5, 8753),
            (3, 7, 2, "2021-01-01", None, 3019550, 99, 8753),
            (4, 8, 3, "2020-01-01", None, 3019550, 330, 8840),
            (5, 8, 3, "2020-01-01", None, 3027018, 70, None),
        ]
        base.executemany("INSERT INTO measurement VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        base.executemany("INSERT INTO condition_occurrence VALUES (?, ?, ?, ?, ?, ?)", [(1, 7, 1, "2020-01-02", None, 201826)])
    (tmp_path / "url").write_text("sqlite:///cdm.db")
    (tmp_path / "url").chmod(0o600)
    source = declare(
        tmp_path, kind="omop", url_file="url",
        measurements={
            "sodium": {"concepts": [3019550], "unit_concepts": [8753], "unit": "mmol/L"},
            "pulse": {"concepts": [3027018], "unit_concepts": [8541]},
        },
        conditions={"diabetes": {"type 2": [201826]}}, otherwise={"diabetes": "none"},
    )  # fmt: skip
    assert before(source, OMOP, "7") == (("sodium", "147.5, unit 8753"), ("pulse", ""), ("diabetes", "concept 201826"))
    assert before(source, OMOP, "8") == (("sodium", "330, unit 8840"), ("pulse", "70, without a unit"), ("diabetes", ""))
    page = render_page(look(source, OMOP, "7"), OMOP)
    assert "147.5, unit 8753" in page and "+1.875" in page and "not one cell of a file" not in page
