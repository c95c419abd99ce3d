"""Elements that may tell of a person, in files that pydicom wrote, at the top and in sequences; all of pydicom's dictionary."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom._dicom_dict import RepeatersDictionary
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataset import Dataset
from tests_dicom import DATA, made, written

from ssl_core.data.reading import Effort
from ssl_core.data.source import read_source
from ssl_core.datacheck import dicom_header
from ssl_core.datacheck.dicom_elements import EXCEPTIONS, NAMED, may_tell
from ssl_core.datacheck.headers import header_identifiers
from ssl_core.datacheck.look import look_at

SECRET = "Jane SECRET Doe"  # noqa: S105 - a name that nothing may show
WRITTEN = {
    "DA": "20240305", "DT": "20240305083000", "TM": "083000", "AS": "091Y", "AE": "SECRET", "PN": "SECRET^Jane",
    "SH": "SECRET", "CS": "SECRET", "DS": "1", "UR": "https://secret.example",
}  # fmt: skip


def looked(path: Path) -> list[str]:
    return header_identifiers(path, id_is_read=True)


def item(**elements: object) -> Dataset:
    out = Dataset()
    for keyword, value in elements.items():
        setattr(out, keyword, value)
    return out


def test_free_texts_people_and_dates_are_named_and_a_plain_header_gives_nothing(tmp_path: Path) -> None:
    assert looked(written(tmp_path / "a.dcm", made())) == []
    header = made(
        StudyDescription=f"{SECRET}, seen by Dr House", PhysiciansOfRecord="House^Greg", ProtocolName="chest SECRET",
        AdditionalPatientHistory=SECRET, SeriesDate="20240305", SeriesTime="083000", PatientAge="091Y",
    )  # fmt: skip
    assert set(looked(written(tmp_path / "b.dcm", header))) == {
        "StudyDescription", "PhysiciansOfRecord", "ProtocolName", "AdditionalPatientHistory", "SeriesDate", "SeriesTime",
        "PatientAge",
    }  # fmt: skip


def test_what_stands_in_sequences_is_named_and_a_nested_id_too(tmp_path: Path) -> None:
    header = made(ReferencedStudySequence=[item(RequestAttributesSequence=[item(PatientName="SECRET^Jane", PatientID="77")])])
    header.ContentSequence = [item(TextValue=SECRET), item(PersonName="SECRET^Jane")]
    found = looked(written(tmp_path / "a.dcm", header))
    assert set(found) == {"PatientName", "PatientID in a sequence", "TextValue", "PersonName"}


def test_blank_values_and_dates_of_zeros_tell_nothing(tmp_path: Path) -> None:
    header = made(
        StudyDate="00000000", StudyTime="000000.000", PatientName="^^", StudyDescription=" ", OtherPatientIDs=["", " "],
        OtherPatientIDsSequence=[],
    )  # fmt: skip
    assert looked(written(tmp_path / "a.dcm", header)) == []
    header.OtherPatientIDs = ["", "77"]
    assert looked(written(tmp_path / "b.dcm", header)) == ["OtherPatientIDs"]


def test_private_elements_count_at_every_depth_whatever_is_in_them(tmp_path: Path) -> None:
    inner = item()
    inner.private_block(0x0011, "MAKER", create=True).add_new(0x01, "LO", SECRET)
    assert looked(written(tmp_path / "a.dcm", made(ReferencedImageSequence=[inner]))) == ["private tags"]


def test_the_id_is_left_out_where_the_source_reads_it_as_the_patients_and_nowhere_else(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", made(PatientID="77"))
    assert header_identifiers(path, id_is_read=True) == []
    assert header_identifiers(path, id_is_read=False) == ["PatientID"]


def test_a_file_without_a_preamble_is_searched_as_the_reader_reads_it(tmp_path: Path) -> None:
    bare = written(tmp_path / "a.dcm", made(PatientName="SECRET^Jane")).read_bytes()
    body = bare.index(b"\x08\x00\x16\x00UI")
    (tmp_path / "b.dcm").write_bytes(bare[body:])
    (tmp_path / "c.dcm").write_bytes(b"no DICOM at all, but some text")
    assert header_identifiers(tmp_path / "b.dcm") == []
    assert header_identifiers(tmp_path / "b.dcm", id_is_read=True, as_dicom=True) == ["PatientName"]
    assert header_identifiers(tmp_path / "c.dcm", as_dicom=True) == []


def test_what_lies_beyond_the_bounds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = item(PatientName="SECRET^Jane")
    for _ in range(3):
        nested = item(ReferencedStudySequence=[nested])
    path = written(tmp_path / "a.dcm", made(ReferencedStudySequence=[nested]))
    assert looked(path) == ["PatientName"]
    monkeypatch.setattr(dicom_header, "_DEEPEST", 3)
    assert looked(path) == [dicom_header._TOO_DEEP]
    many = written(tmp_path / "b.dcm", made(ReferencedStudySequence=[item() for _ in range(100)], PatientName="SECRET^Jane"))
    assert looked(many) == ["PatientName"]
    monkeypatch.setattr(dicom_header, "_MOST", 60)
    assert looked(many) == ["PatientName", dicom_header._BEYOND]


def test_every_element_of_pydicoms_dictionary_is_found_or_left_out_for_a_reason(tmp_path: Path) -> None:
    """Each is written alone into a file; group 2 stands elsewhere, groups 0, 4 and FFFA in no image."""
    left_out = frozenset[str]().union(*EXCEPTIONS.values())
    vrs = {keyword: dictionary_VR(tag) for keyword, tag in keyword_dict.items() if keyword and tag >> 16 > 0x0004}
    whole = {"PN", "DA", "DT", "TM", "LT", "ST", "UT", "UC", "UR", "AE", "AS"}
    header = made()
    expected = set()
    for keyword, vr in vrs.items():
        if vr in whole | {"LO", "SH", "CS", "DS"} and keyword not in header and "Selector" not in keyword:
            setattr(header, keyword, WRITTEN.get(vr, SECRET))
            expected |= {keyword} if (vr in whole and keyword not in left_out) or keyword in NAMED else set()
    header.BurnedInAnnotation = "NO"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert set(looked(written(tmp_path / "a.dcm", header))) == expected
    assert len(expected) > 500 and not expected & left_out


def test_names_of_the_list_are_pydicoms_and_no_short_text_of_a_patient_is_forgotten() -> None:
    repeated = {entry[4] for entry in RepeatersDictionary.values()}
    for keyword in NAMED.union(*EXCEPTIONS.values()):
        assert tag_for_keyword(keyword) is not None or keyword in repeated
    # Of animals; of how a patient lies or is judged; of how a person's data are handled.
    known = {
        "PatientSpeciesDescription", "PatientBreedDescription", "PatientReliabilityIndicator", "PatientSetupLabel",
        "PatientAdditionalPosition", "PatientSupportAccessoryCode", "PatientSupportID", "PatientID",
    }  # fmt: skip
    words = (
        "Patient",
        "Physician",
        "Telephone",
        "Address",
        "ClinicalTrial",
        "StudyDesc",
        "SeriesDesc",
        "Institution",
        "Person",
    )
    for keyword, tag in keyword_dict.items():
        if any(word in keyword for word in words) and dictionary_VR(tag) in ("PN", "LO", "SH", "LT", "ST", "UT", "UC"):
            assert may_tell(keyword, dictionary_VR(tag)) or keyword in known or keyword == "NTPSourceAddress", keyword


def test_real_files_of_pydicom() -> None:
    report = Path(str(get_testdata_file("test-SR.dcm")))
    held = {"TextValue", "VerifyingObserverName", "VerifyingOrganization", "ObservationDateTime"}
    assert held <= set(looked(report)) and "TextValue" not in dcmread(report)
    overlay = looked(Path(str(get_testdata_file("MR-SIEMENS-DICOM-WithOverlays.dcm"))))
    assert {"OverlayData", "private tags", "SeriesDescription"} <= set(overlay)


def test_the_check_counts_entries_and_shows_no_value(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for number in range(3):
        told = {"ReferencedStudySequence": [item(StudyDescription=SECRET)]} if number else {}
        written(tmp_path / "x" / f"{number}.dcm", made(PatientID=f"p{number}", **told))
    # The first bytes of a JPEG, and nothing of one behind them.
    (tmp_path / "x" / "3.dcm").write_bytes(b"\xff\xd8\xff" + SECRET.encode())
    for from_header in (True, False):
        whose = 'patient_from = "header"' if from_header else 'patient_from = "pattern"\npatient_pattern = "(?P<patient>[0-9])"'
        (tmp_path / "s.toml").write_text(f'kind = "dicom"\npath = "x"\nmodalities = ["CT"]\nmax_bad_share = 0.5\n{whose}\n')
        look = look_at(read_source(tmp_path / "s.toml"), DATA, Effort(0))
        found = {each.what: (each.count, each.of, each.places) for each in look.findings if each.topic == "headers"}
        names = "StudyDescription (2)" if from_header else "PatientID (3), StudyDescription (2)"
        assert found[f"headers that hold {names}"][:2] == (2 if from_header else 3, 4)
        assert found["headers that could not be searched"] == (1, 4, ("3.dcm",))
        assert "SECRET" not in json.dumps(look.to_json())
