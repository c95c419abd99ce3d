"""The isolation check drives a site's own reader of records, texts and events, whatever format it declares."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_engines import EVENTS, TABLE, TEXT

from ssl_core.config import SpeedSpec, StudyPlan, parse
from ssl_core.data import fhir_files, vitals
from ssl_core.data import source as source_module
from ssl_core.data.declared import Declared
from ssl_core.data.part import of_part
from ssl_core.data.source import MODELS
from ssl_core.errors import PrivacyError
from ssl_core.privacy import synthetic_vitals
from ssl_core.privacy.isolation import TOLERANCE, check_isolation
from ssl_core.privacy.synthetic_files import SyntheticFolders, check_reader

SIGNAL: dict[str, Any] = {
    "data": {
        "kind": "signal", "channels": 2, "samples": 24, "rate_hz": 1 / 3600, "units": ["Cel", "1/min"], "centre": [37, 80],
        "typical": [1, 20],
    },
    "encoder": {"name": "signal-transformer", "size": "nano", "patch": 6},
    "objective": {"name": "masked-autoencoding", "decoder_width": 32, "decoder_depth": 1},
}  # fmt: skip
_VITALS = {"path": "a", "patient_column": "p", "time_column": "t", "name_column": "n", "value_column": "v"}

SOURCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "texts-parquet": (
        TEXT,
        {"kind": "table", "path": "a", "format": "parquet", "patient_column": "p", "text_column": "t", "record_column": "r",
         "time_column": "when"},
    ),
    "columns-parquet": (
        TABLE,
        {
            "kind": "columns", "path": ["a", "b"], "format": "parquet", "patient_column": "id", "units": {"sodium": "mmol/L"},
            "columns": {"age": "AGE"}, "missing": ["-9"], "time_column": "day", "time_unit": "hours",
            "record_column": "case",
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
    "vitals-csv": (
        SIGNAL,
        {
            "kind": "vitals", **_VITALS, "units": ["Cel", "1/min"], "channels": [["T", "T F"], "HR"], "carry": [2, 0],
            "factors": {"T F": 5 / 9}, "offsets": {"T F": -160 / 9}, "windows": 150,
        },
    ),
    "vitals-parquet": (
        SIGNAL,
        {
            "kind": "vitals", **_VITALS, "format": "parquet", "units": ["Cel", "1/min"], "channels": ["T", "HR"],
            "record_column": "r", "time_unit": "hours", "cell": "last", "missing": ["inf"],
        },
    ),
    "xml": (TEXT, {"kind": "xml", "text": [".//a"]}),
    "xml-several": (TEXT, {"kind": "xml", "text": ["a"], "record": "r", "patient_from": "header", "patient_path": "p"}),
    "notes-omop": (
        TEXT, {"kind": "omop", "url_variable": "NOBODY_SETS_THIS", "notes": {"types": [5, 6]}, "max_rows": 1, "seconds": 1e-6},
    ),
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


def test_a_reader_of_vitals_whose_grids_begin_at_anybodys_first_time_fails(
    make_plan: Callable[..., StudyPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, declared = SOURCES["vitals-csv"]
    folders = SyntheticFolders(tmp_path, make_plan(study).data, parse(MODELS["vitals"], declared, "source"), 3)
    base = folders.base()
    check_reader(folders, base, base.units[-1])
    honest = vitals._on_grid

    def shared(measured: Any, streams: int, source: Any, data: Any) -> Any:
        begin = min(measured.time)
        for stream in range(streams):
            measured.add(stream, begin, 0, 0.0)
        return honest(measured, streams, source, data)

    monkeypatch.setattr(vitals, "_on_grid", shared)
    base = folders.base()
    first = min(base.units, key=lambda unit: zlib.crc32(unit.encode()) % synthetic_vitals.SPREAD_SECONDS)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_reader(folders, base, first)


def test_a_reader_of_fhir_that_takes_the_last_patient_of_an_id_fails(
    make_plan: Callable[..., StudyPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, declared = SOURCES["observations-fhir"]
    folders = SyntheticFolders(tmp_path, make_plan(study).data, parse(MODELS["fhir"], declared, "source"), 3)
    base = folders.base()
    check_reader(folders, base, base.units[-1])

    class Last(fhir_files._Patients):
        def add(self, address: str, body: dict[str, Any]) -> None:
            self._at[f"Patient/{body.get('id')}"] = set()
            super().add(address, body)

        def called(self, address: str, match: Any) -> set[fhir_files.Names]:
            return set(self._at.get(f"Patient/{match[1]}", ())) if match else super().called(address, match)

    monkeypatch.setattr(fhir_files, "_Patients", Last)
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_reader(folders, folders.base(), base.units[-1])


def restricted(name: str) -> Declared:
    declared = SOURCES[name][1]
    return parse(MODELS[declared["kind"]], declared | {"split": "sites/split.csv", "part": "site-1"}, "source")


@pytest.mark.parametrize("name", ["columns-parquet", "notes-omop", "reports-fhir"])
def test_a_source_of_one_part_is_read_through_its_split(make_plan: Callable[..., StudyPlan], tmp_path: Path, name: str) -> None:
    folders = SyntheticFolders(tmp_path, make_plan(SOURCES[name][0]).data, restricted(name), 3)
    base = folders.base()
    assert base.units == tuple(f"synthetic-{number:06d}" for number in range(3))
    check_reader(folders, base, base.units[-1])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda reading, units, scratch: reading, id="lets all pass"),
        pytest.param(lambda reading, units, scratch: of_part(reading, frozenset(reading.owners[3:])), id="goes by the place"),
    ],
)
def test_a_split_that_does_not_keep_to_its_patients_fails(
    make_plan: Callable[..., StudyPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Any]
) -> None:
    folders = SyntheticFolders(tmp_path, make_plan(SOURCES["events-csv"][0]).data, restricted("events-csv"), 3)
    monkeypatch.setattr(source_module, "of_part", broken)
    base = folders.base()
    with pytest.raises(PrivacyError, match="how another patient's are read"):
        check_reader(folders, base, base.units[-1])


def test_the_whole_check_goes_through_a_split(make_plan: Callable[..., StudyPlan]) -> None:
    plan = make_plan(SOURCES["events-csv"][0])
    report = check_isolation(plan, speed=SpeedSpec(chunk=5), declared=restricted("events-csv"))
    assert report.greatest_change <= TOLERANCE and 0.9 < report.greatest_contribution <= 2.0
