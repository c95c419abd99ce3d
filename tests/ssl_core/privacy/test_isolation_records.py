"""The isolation check drives a site's own reader of records, texts and events, whatever format it declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_engines import EVENTS, TABLE, TEXT

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data import fhir_files
from ssl_core.data.declared import Declared
from ssl_core.data.source import MODELS
from ssl_core.errors import PrivacyError
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.synthetic_files import SyntheticFolders, check_reader

SOURCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "texts-parquet": (
        TEXT,
        {"kind": "table", "path": "a", "format": "parquet", "patient_column": "p", "text_column": "t", "record_column": "r"},
    ),
    "columns-parquet": (
        TABLE,
        {
            "kind": "columns", "path": ["a", "b"], "format": "parquet", "patient_column": "id", "units": {"sodium": "mmol/L"},
            "columns": {"age": "AGE"}, "missing": ["-9"],
        },
    ),
    "events-parquet": (
        EVENTS,
        {"kind": "events", "path": "a", "format": "parquet", "patient_column": "p", "time_column": "t", "code_column": "c"},
    ),
    "events-csv": (
        EVENTS,
        {
            "kind": "events", "path": "a", "patient_column": "p", "time_column": "t", "code_column": "c", "record_column": "r",
            "multiline": True,
        },
    ),
    "xml": (TEXT, {"kind": "xml", "text": [".//a"]}),
    "xml-several": (TEXT, {"kind": "xml", "text": ["a"], "record": "r", "patient_from": "header", "patient_path": "p"}),
    "notes-omop": (TEXT, {"kind": "omop", "url_variable": "NOBODY_SETS_THIS", "notes": {"types": [5, 6]}}),
    "visits-omop": (
        TABLE,
        {
            "kind": "omop", "url_variable": "NOBODY_SETS_THIS", "cdm_schema": "cdm",
            "measurements": {
                "age": {"concepts": [1], "unit_concepts": [0]},
                "sodium": {"concepts": [2, 3], "unit_concepts": [9], "unit": "mmol/L"},
            },
            "conditions": {"sex": {"f": [10], "m": [11, 12]}, 'a, "b"': {"'": [13], "x, y": [14]}},
            "otherwise": {'a, "b"': "z"},
        },
    ),
    "reports-fhir": (TEXT, {"kind": "fhir", "patient_from": "folder", "reports": {"codes": ["http://loinc.org|18748-4"]}}),
    "observations-fhir": (
        TABLE,
        {
            "kind": "fhir", "patient_identifier": "urn:mrn",
            "numbers": {
                "age": {"codes": ["l|1"], "ucum": "a"}, "sodium": {"codes": ["l|2"], "ucum": "mmol/L", "unit": "mmol/L"},
            },
            "levels": {
                "sex": {"codes": ["l|3"], "values": {"f": ["s|f"], "m": ["s|m", "male"]}},
                'a, "b"': {"codes": ["l|4"], "values": {"'": ["'"], "x, y": ["true"], "z": ["z"]}},
            },
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_one_patient_changes_nothing_of_another(make_plan: Callable[..., StudyPlan], name: str) -> None:
    study, declared = SOURCES[name]
    source: Declared = parse(MODELS[declared["kind"]], declared, "source")
    report = check_isolation(make_plan(study), speed=SpeedSpec(chunk=5), declared=source)
    assert report.greatest_change <= TOLERANCE and 0.9 < report.greatest_contribution <= 2.0


def test_a_reader_of_fhir_that_takes_the_last_patient_of_an_id_fails(
    make_plan: Callable[..., StudyPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, declared = SOURCES["observations-fhir"]
    folders = SyntheticFolders(tmp_path, make_plan(study).data, parse(MODELS["fhir"], declared, "source"), 3)
    base = folders.base()
    check_reader(folders, base, base.units[-1])
    honest = fhir_files._targets

    def last(address: str, match: Any, patients: fhir_files.Patients) -> list[dict[str, Any]]:
        found = patients.get(f"Patient/{match[1]}", []) if match else []
        return [found[-1][1]] if found else honest(address, match, patients)

    monkeypatch.setattr(fhir_files, "_targets", last)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_reader(folders, folders.base(), base.units[-1])
