"""FHIR: whose a resource is, reports, wide rows, units; damaged files; no exception leaves a decoder."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests_fhir import (
    COLUMNS,
    LOINC,
    MRN,
    OBSERVATIONS,
    REPORTS,
    SMOKING,
    SNOMED,
    SODIUM,
    TABLE,
    UCUM,
    UUID,
    bundle,
    concept,
    form,
    observation,
    patient,
    quantity,
    report,
    to_me,
    write_lines,
)

from ssl_core.data.check import check_and_load, check_source, inspect_source
from ssl_core.data.declared_fhir import FhirSource
from ssl_core.data.decoding import Bounds, _decode
from ssl_core.data.fhir import ReportDecoder, RowDecoder
from ssl_core.data.folder_files import Listed
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import Source, load_patients, read_records, read_source
from ssl_core.data.words import encode, split
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import TextData

HERE = Effort(workers=0)
TEXT = TextData(kind="text", words=8, codes=2, buckets=64)


def declare(folder: Path, **changes: Any) -> Source:
    (folder / "source.toml").write_text(tomli_w.dumps({"kind": "fhir", "path": "export", **changes}), encoding="utf-8")
    return read_source(folder / "source.toml")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def test_reports_become_texts_of_their_patients(tmp_path: Path, export: Path) -> None:
    (export / "a.json").write_text(json.dumps(REPORTS[0]))
    write_lines(export / "b.ndjson", REPORTS[1:])
    source = declare(tmp_path, max_bad_share=0.9)
    patients = load_patients(source, TEXT, HERE)
    assert patients.units == ("p1", "p2") and patients.counts().tolist() == [2, 3]
    assert np.array_equal(patients.records[:2], encode([split("earlier one"), split("No acute disease lungs clear")], TEXT))
    found = [record.tolist() for record in patients.records[2:]]
    assert encode([split("café")], TEXT)[0].tolist() in found and encode([[]], TEXT)[0].tolist() in found
    reading = read_records(source, TEXT, HERE)
    assert reading.tallies[0].faults == {Fault.NO_PATIENT: 4, Fault.NO_WORDS: 1}
    assert reading.owners == ["p1"] * 2 + ["p2"] * 3 and reading.names == ["r1", "r2", "r4", "r9", "r10"]


def test_only_declared_codes_are_read(tmp_path: Path, export: Path) -> None:
    write_lines(export / "b.ndjson", REPORTS)
    source = declare(tmp_path, reports={"codes": [f"{LOINC}|11502-2"]})
    patients = load_patients(source, TEXT, HERE)
    assert patients.units == ("p2",) and np.array_equal(patients.records, encode([split("of another code")], TEXT))
    assert check_source(source, TEXT, HERE).files[0].rows == 1


def test_a_declared_identifier_names_patients_wherever_it_stands(tmp_path: Path, export: Path) -> None:
    write_lines(export / "b.ndjson", REPORTS)
    patients = load_patients(declare(tmp_path, patient_identifier=MRN), TEXT, HERE)
    # r4 and r9, r10 refer to a Patient that is not in the file, whose number nobody knows.
    assert patients.units == ("00017", "00018", "00019") and patients.counts().tolist() == [2, 1, 1]
    tally = read_records(declare(tmp_path, patient_identifier=MRN), TEXT, HERE).tallies[0]
    assert tally.faults[Fault.NO_PATIENT] + tally.faults[Fault.NO_WORDS] == 5


@pytest.mark.parametrize(
    ("subject", "owner"),
    [
        (to_me("Patient/a.B-9"), "a.B-9"),
        (to_me("http://h/Patient/9"), "9"),
        (to_me("http://h/Patient/9/_history/1"), "9"),
        (to_me("patient/9"), None),
        (to_me("Patient/"), None),
        (to_me("Patient/9/x"), None),
        (to_me("MyPatient/9"), None),
        (to_me("urn:uuid:unknown"), None),
        (to_me("#nobody"), None),
        ({"reference": 5}, None),
        ({"display": "a name"}, None),
    ],
)
def test_a_reference_names_a_patient_or_nobody(tmp_path: Path, subject: dict[str, Any], owner: str | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps(bundle(report("r", subject, "one two"))))
    declared = FhirSource(kind="fhir")
    assert [found.owner for found in ReportDecoder(declared, TEXT)(tmp_path / "a.json")] == [owner]


def test_a_patient_of_a_bundle_without_an_id_is_nobody(tmp_path: Path) -> None:
    body = {key: value for key, value in patient("x", "1").items() if key != "id"}
    (tmp_path / "a.json").write_text(json.dumps(bundle(body, report("r", to_me(UUID), "one"), addresses=(UUID,))))
    assert [found.owner for found in ReportDecoder(FhirSource(kind="fhir"), TEXT)(tmp_path / "a.json")] == [None]
    named = FhirSource(kind="fhir", patient_identifier=MRN)
    assert [found.owner for found in ReportDecoder(named, TEXT)(tmp_path / "a.json")] == ["1"]


@pytest.mark.parametrize("made", [form("x", "text/plain; charset=utf-16"), {"contentType": "text/plain", "data": "***"},
                                  {"contentType": "text/plain"}, form("é", "text/plain; charset=us-ascii")])  # fmt: skip
def test_a_form_that_cannot_be_decoded_is_a_bad_record(tmp_path: Path, made: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(report("r", to_me("Patient/1"), "one", presentedForm=[made])))
    (found,) = ReportDecoder(FhirSource(kind="fhir"), TEXT)(tmp_path / "a.json")
    assert found.owner == "1" and found.content is Fault.UNREADABLE


def test_a_row_is_an_encounter_with_the_last_value_of_each_column(tmp_path: Path, export: Path) -> None:
    write_lines(export / "b.ndjson", OBSERVATIONS)
    source = declare(tmp_path, **COLUMNS, max_bad_share=0.9)
    assert inspect_source(source, TABLE, HERE).files[0].faults == {Fault.UNITS: 1, Fault.NO_NUMBER: 1}
    patients = load_patients(source, TABLE, HERE)
    assert patients.units == ("7", "8") and patients.counts().tolist() == [3, 2]
    # sodium, systolic, pulse; is there x 3; smoking
    wanted = [[0, np.float32(0.8), 0, 0, 1, 0, 0], [2, 0, 0, 1, 0, 0, 2], [0, 0, 8, 0, 0, 1, 1]]
    np.testing.assert_array_equal(patients.records[:3], np.array(wanted, np.float32))
    assert not patients.records[3:].any()
    reading = read_records(source, TABLE, HERE)
    wanted = {("7", "Encounter/e1"), ("7", "Encounter/e0"), ("7", "2024-02-02"), ("8", "Encounter/e3"), ("8", "Encounter/e4")}
    assert set(zip(reading.owners, reading.names or [], strict=True)) == wanted


def test_a_row_may_be_a_day(tmp_path: Path, export: Path) -> None:
    (export / "a.json").write_text(json.dumps(bundle(*OBSERVATIONS[:7])))
    patients = load_patients(declare(tmp_path, **COLUMNS, rows="day"), TABLE, HERE)
    assert patients.counts().tolist() == [3] and patients.records[:, 0].tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ({"valueBoolean": False}, 2), ({"valueString": "ex"}, 3), ({"valueString": "never"}, 1), ({"valueBoolean": True}, 1),
        ({"valueCodeableConcept": {"text": "unclear"}}, 1), ({"valueCodeableConcept": concept(SNOMED, "8517006")}, 3),
    ],
)  # fmt: skip
def test_what_a_level_is_written_as_is_declared(tmp_path: Path, value: dict[str, Any], level: int) -> None:
    (tmp_path / "a.json").write_text(json.dumps(observation("o", "1", SMOKING, "2024-01-01", "e", **value)))
    declared = declare(tmp_path, **COLUMNS).declared
    assert isinstance(declared, FhirSource)
    (found,) = RowDecoder(declared, TABLE)(tmp_path / "a.json")
    assert not isinstance(found.content, Fault) and found.content.tolist() == [0] * 6 + [level]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ({"valueQuantity": {"value": 144, "unit": "mmol/L"}}, 1.0),
        ({"valueQuantity": {"value": 144, "unit": "mmol/L", "code": "mmol/L"}}, Fault.UNITS),
        ({"valueQuantity": {"value": 144}}, Fault.UNITS),
        ({"valueQuantity": {"value": 144, "system": UCUM, "code": "mmol/l"}}, Fault.UNITS),
        ({"valueQuantity": quantity(1e300, "mmol/L")}, Fault.NO_NUMBER),
        ({"valueQuantity": {"value": [1], "system": UCUM, "code": "mmol/L"}}, Fault.NO_NUMBER),
        ({"valueInteger": 144}, Fault.UNITS),
        ({"valueString": "normal"}, Fault.NO_NUMBER),
        ({"valueQuantity": {"system": UCUM, "code": "mmol/L"}}, None),
        ({}, None),
    ],
)
def test_a_number_is_read_in_its_unit_alone(tmp_path: Path, value: dict[str, Any], content: float | Fault | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps(observation("o", "1", SODIUM, "2024-01-01", "e", **value)))
    declared = declare(tmp_path, **COLUMNS).declared
    assert isinstance(declared, FhirSource)
    found = [each.content for each in RowDecoder(declared, TABLE)(tmp_path / "a.json")]
    if content is None:
        assert not found
    elif isinstance(content, Fault):
        assert found == [content]
    else:
        assert [record.tolist() for record in found if not isinstance(record, Fault)] == [[content, 0, 0, 1, 0, 0, 0]]


def test_digits_are_those_of_the_file(tmp_path: Path, export: Path) -> None:
    body = json.dumps(observation("o", "1", SODIUM, "2024-01-01", "e", valueQuantity=quantity(5.25, "mmol/L")))
    for number, record in (("140.10000000000000001", np.float32(0.1 / 4)), ("1e400", 0.0), ("9" * 5000, 0.0)):
        (export / "a.json").write_text(body.replace("5.25", number))
        np.testing.assert_allclose(load_patients(declare(tmp_path, **COLUMNS), TABLE, HERE).records[0, 0], record, rtol=1e-6)


def test_bad_lines_and_files_are_counted_and_the_others_read_in_workers(tmp_path: Path, export: Path) -> None:
    good = json.dumps(report("r", to_me("Patient/1"), "one two"))
    (export / "a.ndjson").write_text(f"{good}\n{{not json\n[1]\n{'[' * 100_000}\n\n{good}\n")
    (export / "b.json").write_text('{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}, 5, null]}')
    (export / "c.json").write_text("{")
    (export / "d.json").write_text("[" * 100_000)
    (export / "e.json").write_bytes(b"\xff\xfe\x00")
    tally = read_records(declare(tmp_path), TEXT, Effort(workers=1)).tallies[0]
    assert tally.rows == 8 and tally.faults == {Fault.UNREADABLE: 5, Fault.SHAPE: 1}


def _raw() -> bytes:
    return "\n".join(map(json.dumps, [*REPORTS, bundle(*OBSERVATIONS)])).encode()


@example(5214, ".ndjson")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.sampled_from([".ndjson", ".json"]))
def test_no_exception_leaves_a_decoder(tmp_path_factory: Any, seed: int, suffix: str) -> None:
    rng = random.Random(seed)
    raw = bytearray(_raw()) if suffix == ".ndjson" else bytearray(json.dumps(bundle(*REPORTS[1:], *OBSERVATIONS)).encode())
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(raw))
        match rng.randrange(4):
            case 0:
                raw[place] = rng.randrange(256)
            case 1:
                raw[place : place + rng.randrange(60)] = rng.choice([b"null", b"[]", b"{}", b'"x"', b"1e999", b""])
            case 2:
                raw[place:place] = raw[:rng.randrange(300)]  # fmt: skip
            case _:
                # A whole value becomes one of another type.
                end = raw.find(b'"', raw.find(b": ", place) + 3)
                begin = raw.find(b": ", place) + 2
                if 2 <= begin < end:
                    raw[begin : end + 1] = rng.choice([b"null", b"[1]", b'{"a": 1}', b"true", b"7"])
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(raw)
    declared = FhirSource.model_validate_json(json.dumps({"kind": "fhir", **COLUMNS}))
    for decoder in (ReportDecoder(declared, TEXT), RowDecoder(declared, TABLE)):
        if suffix == ".ndjson":
            decoder(path)
        result = _decode(decoder, Listed(path.name, path, None), Bounds(1 << 20, 5))
        # A bad line costs itself, a file that is no JSON itself; what is JSON is read, whatever stands in it.
        assert isinstance(result, list) or (suffix == ".json" and not _is_json(raw) and result is Fault.UNREADABLE)


def _is_json(raw: bytearray) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"numbers": {}}, r"numbers\."),
        ({"numbers": COLUMNS["numbers"] | {"x": {"codes": ["a|b"], "ucum": "1"}}}, r"numbers\.x"),
        ({"numbers": COLUMNS["numbers"] | {"sodium": {"codes": ["a|b"], "ucum": "mmol/L"}}}, "another unit"),
        ({"levels": {"smoking": {"codes": ["a|b"], "values": {"daily": ["x"]}}}}, "level"),
    ],
)
def test_columns_units_and_levels_are_the_plans(tmp_path: Path, export: Path, changes: dict[str, Any], match: str) -> None:
    write_lines(export / "b.ndjson", OBSERVATIONS)
    with pytest.raises(DataError, match=match):
        check_source(declare(tmp_path, **COLUMNS | changes), TABLE, HERE)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"numbers": {"a": {"codes": ["a|b"], "ucum": "1"}, "b": {"codes": ["a|b"], "ucum": "1"}}}, "two columns"),
        ({"levels": {"a": {"codes": ["a|b"], "values": {"x": ["t"], "y": ["t"]}}}}, "two levels"),
        ({"numbers": {"a": {"codes": ["no bar"], "ucum": "1"}}}, "codes"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        declare(tmp_path, **changes)


def _numbered(identity: str, *numbers: str, **more: Any) -> dict[str, Any]:
    given = [{"system": MRN, "value": number, **more} for number in numbers]
    return {"resourceType": "Patient", "id": identity, "identifier": given}


@pytest.mark.parametrize(
    ("people", "addresses", "subject", "system", "owner"),
    [
        ([patient("p1", "1")], (), None, None, None),
        ([patient("p1", "1")], (), {"display": "someone"}, MRN, None),
        ([patient("p1", "1")], ("https://b.example/Patient/p1",), to_me("https://a.example/Patient/p1"), MRN, None),
        ([patient("p1", "1")], ("https://a.example/Patient/p1",), to_me("https://a.example/Patient/p1/_history/2"), MRN, "1"),
        ([patient("p1", "1")], (), to_me("https://a.example/Patient/p1"), MRN, "1"),
        ([patient("p1", "1")], (UUID,), to_me("Patient/p1"), MRN, "1"),
        ([patient("p1", "1"), patient("p1", "2")], ("https://a.example/Patient/p1", "https://b.example/Patient/p1"),
         to_me("Patient/p1"), MRN, Fault.TWO_PATIENTS),
        ([patient("p1", "1"), patient("p1", "2")], ("https://a.example/Patient/p1", "https://b.example/Patient/p1"),
         to_me("https://b.example/Patient/p1"), MRN, "2"),
        ([patient("p1", "1"), patient("p1", "2")], ("https://a.example/Patient/p1",),
         to_me("https://a.example/Patient/p1"), MRN, Fault.TWO_PATIENTS),
        ([patient("p1", "1"), _numbered("p1")], (), to_me("Patient/p1"), MRN, Fault.TWO_PATIENTS),
        ([patient("p1", "1"), patient("p1", "1")], (), to_me("Patient/p1"), MRN, "1"),
        ([patient("p1", "1"), patient("p1", "2")], (), to_me("Patient/p1"), None, "p1"),
        ([patient("p1", "1"), patient("p2", "2")], (UUID, UUID), to_me(UUID), None, Fault.TWO_PATIENTS),
        ([patient("p1", "1"), patient("p2", "2")], (UUID, UUID), to_me(UUID), MRN, Fault.TWO_PATIENTS),
        ([patient("p1", "1")], (UUID,), to_me(UUID) | {"identifier": {"system": MRN, "value": "2"}}, MRN, Fault.TWO_PATIENTS),
        ([_numbered("p1", "1", "2")], (UUID,), to_me(UUID), MRN, None),
        ([_numbered("p1", "1", "2")], (UUID,), to_me(UUID) | {"identifier": {"system": MRN, "value": "2"}}, MRN, None),
        ([_numbered("p1", "1", use="old")], (UUID,), to_me(UUID), MRN, None),
        ([_numbered("p1", "1", " 1 ")], (UUID,), to_me(UUID), MRN, "1"),
    ],
)  # fmt: skip
def test_no_resource_lands_at_a_patient_whom_it_does_not_name(
    tmp_path: Path, people: list[dict[str, Any]], addresses: tuple[str, ...], subject: dict[str, Any] | None,
    system: str | None, owner: str | Fault | None,
) -> None:  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(bundle(*people, report("r", subject, "words"), addresses=addresses)))
    declared = FhirSource.model_validate({"kind": "fhir", "patient_identifier": system})
    (found,) = ReportDecoder(declared, TEXT)(tmp_path / "a.json")
    assert (found.content if isinstance(found.content, Fault) else found.owner) == owner


def _all_refuse(source: Source) -> None:
    """Every way to the records refuses, whatever share of bad records is declared; the report still names what was met."""
    assert source.declared.max_bad_share > 0.9
    report = inspect_source(source, TEXT, HERE)
    assert not report.accepted and report.bad_share <= report.max_bad_share
    assert any("may hide several patients" in line for line in report.lines())
    for read in (check_source, check_and_load, load_patients):
        with pytest.raises(DataError, match="take others' records away") as caught:
            read(source, TEXT, HERE)
        assert caught.value.field == "patient_from" and caught.value.limit and "site data check" in str(caught.value.remedy)
        assert "p1" not in str(caught.value) and "a.ndjson" not in str(caught.value)
        assert not any(char.isdigit() for char in str(caught.value.value)), "nor how many: the number stands in the report"


@pytest.mark.parametrize("number", ["00017", "00018"])
def test_another_patient_of_the_same_address_never_takes_ones_records_away(tmp_path: Path, export: Path, number: str) -> None:
    mine = [patient("p1", "00017"), report("r", to_me("Patient/p1"), "one two"), report("s", to_me("Patient/p1"), "three")]
    others = [patient("p2", "00019"), report("t", to_me("Patient/p2"), "four")]
    write_lines(export / "a.ndjson", [*mine, *others])
    source = declare(tmp_path, patient_identifier=MRN, max_bad_share=0.99)
    alone = load_patients(source, TEXT, HERE)
    write_lines(export / "a.ndjson", [*mine, *others, patient("p1", number), report("u", to_me("Patient/p1"), "five")])
    if number == "00018":
        # Whose is r? The other patient's data cannot be told from mine, so there is no data set with him.
        return _all_refuse(source)
    with_it = load_patients(source, TEXT, HERE)
    assert with_it.units == alone.units and with_it.counts().tolist() == [3, 1]
    return None


def test_where_files_are_of_one_patient_each_an_address_of_two_is_no_fault(tmp_path: Path, export: Path) -> None:
    (export / "q").mkdir()
    write_lines(export / "q" / "a.ndjson", [patient("p1", "1"), patient("p1", "2"), report("r", to_me("Patient/p1"), "one")])
    (export / "q" / "b.json").write_text("{")
    source = declare(tmp_path, patient_identifier=MRN, patient_from="folder", max_bad_share=0.6)
    assert check_and_load(source, TEXT, HERE).patients.counts().tolist() == [2]


@pytest.mark.parametrize("name", ["a.ndjson", "a.json"])
@pytest.mark.parametrize("fault", ['"x": 1, "x": 2', "[", None])
def test_one_patients_damage_in_a_file_of_several_refuses_the_source(
    tmp_path: Path, export: Path, name: str, fault: str | None
) -> None:
    for number in range(20):
        write_lines(export / f"good{number}.ndjson", [report("r", to_me(f"Patient/q{number}"), "some words")])
    whole = json.dumps(bundle(*(report(f"r{number}", to_me(f"Patient/p{number}"), "words") for number in range(50))))
    (export / name).write_text(whole)
    source = declare(tmp_path, max_bad_share=0.95)
    assert len(check_and_load(source, TEXT, HERE).patients) == 70
    damaged = f"[{whole}]" if fault is None else whole.replace('"id": "r7"', f'"id": "r7", {fault}')
    (export / name).write_text(damaged)
    _all_refuse(source)


@pytest.mark.parametrize("limit", [Fault.TOO_LARGE, Fault.OUTSIDE])
def test_a_file_of_several_patients_beyond_a_limit_refuses_the_source(tmp_path: Path, export: Path, limit: Fault) -> None:
    write_lines(export / "good.ndjson", [report("r", to_me("Patient/q"), "some words")])
    elsewhere = tmp_path / "large.ndjson"
    write_lines(elsewhere, [report("r", to_me("Patient/p1"), "word " * 250_000)])
    if limit is Fault.OUTSIDE:
        (export / "a.ndjson").symlink_to(elsewhere)
    else:
        elsewhere.rename(export / "a.ndjson")
    source = declare(tmp_path, max_bad_share=0.95, largest_mib=1)
    assert inspect_source(source, TEXT, HERE).files[0].faults == {limit: 1}
    _all_refuse(source)


def test_a_key_that_stands_there_twice_makes_the_file_unreadable(tmp_path: Path) -> None:
    text = json.dumps(report("r", to_me("Patient/p1"), "words"))
    (tmp_path / "a.json").write_text(text[:-1] + ', "subject": {"reference": "Patient/p2"}}')
    decoder = ReportDecoder(FhirSource(kind="fhir"), TEXT)
    assert _decode(decoder, Listed("a.json", tmp_path / "a.json", None), Bounds(1 << 20, 5)) is Fault.UNREADABLE
