"""Images with their reports: joined by study within a patient, never across; what is left out, what is bad, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image
from tests_dicom import made, written

from ssl_core.data.check import check_and_load, check_source, inspect_source
from ssl_core.data.kept import read_kept, write_kept
from ssl_core.data.pair_rows import padding_row, parted
from ssl_core.data.patients import Patients
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import load_patients, read_records, read_source
from ssl_core.data.words import encode, split
from ssl_core.errors import ConfigError, DataError
from ssl_core.spec.data import ImageForm, PairData, TextData, TextForm

DATA = PairData(kind="pair", image=ImageForm(height=8, width=12), text=TextForm(words=4, codes=2, buckets=64))
HERE = Effort(workers=0)
TEXT = {
    "kind": "table", "path": "reports.csv", "format": "csv", "patient_column": "patient", "record_column": "study",
    "text_column": "text",
}  # fmt: skip
PICTURES: dict[str, Any] = {
    "kind": "pairs", "study_from": "pattern", "study_pattern": "(?P<study>s[0-9]+)",
    "image": {"kind": "pictures", "path": "xray"}, "text": TEXT,
}  # fmt: skip


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 12)).astype(np.uint8)


def declare(folder: Path, declared: dict[str, Any] = PICTURES, **changes: Any) -> Path:
    (folder / "source.toml").write_text(tomli_w.dumps(declared | changes))
    return folder / "source.toml"


def reports(folder: Path, *rows: tuple[str, str, str], name: str = "reports.csv") -> None:
    (folder / name).write_text("".join(",".join(row) + "\n" for row in (("patient", "study", "text"), *rows)))


def images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / "xray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)


def words_of(patients: Patients) -> list[list[list[int]]]:
    _, codes, _ = parted(patients.whole, DATA)
    return [row[row[:, 0] >= 0].tolist() for row in codes]


def codes_of(text: str) -> list[list[int]]:
    row = encode([split(text)], DATA.words)[0]
    return row[row[:, 0] >= 0].tolist()


def test_an_image_is_joined_to_the_report_of_its_study_and_its_patient(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1_a.png", "p1/s1_b.png", "p1/s2.png", "p2/s1.png")
    reports(tmp_path, ("p2", "s1", "lungs clear"), ("p1", "s2", "effusion"), ("p1", "s1", "heart large"))
    found = check_and_load(read_source(declare(tmp_path)), DATA, HERE)
    patients = found.patients
    assert patients.units == ("p1", "p2") and patients.counts().tolist() == [3, 1]
    assert words_of(patients) == [codes_of(text) for text in ("heart large", "heart large", "effusion", "lungs clear")]
    for row, number in zip(patients.whole, range(4), strict=True):
        wanted = picture(number).astype(np.float64)
        np.testing.assert_allclose(row[:96], ((wanted - wanted.mean()) / wanted.std()).ravel(), atol=1e-5)
    assert found.report.bad_share == 0 and not any(file.unpaired for file in found.report.files)
    names = read_records(read_source(declare(tmp_path)), DATA, HERE).names
    assert names == ["p1/s1_a.png", "p1/s1_b.png", "p1/s2.png", "p2/s1.png"]


def test_what_has_no_other_half_is_left_out_and_counted_and_no_fault(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1.png", "p1/s9.png", "p3/s7.png")
    reports(tmp_path, ("p1", "s1", "one"), ("p1", "s2", "two"), ("p4", "s4", "four"), ("p1", "s1", "again"))
    report = check_source(read_source(declare(tmp_path)), DATA, HERE)
    assert (report.patients, report.records, report.bad_share) == (1, 1, 0.0)
    pictures, table = report.files
    assert (pictures.file, pictures.rows, pictures.unpaired) == ("xray", 3, 2)
    assert (table.file, table.rows, table.repeated, table.unpaired) == ("reports.csv", 4, 1, 2)
    assert "xray: 2 of which the other half is missing, left out" in report.lines()


def test_a_report_of_another_patient_is_never_joined_and_is_a_fault(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1.png", "p2/s2.png")
    reports(tmp_path, ("p1", "s1", "one"), ("p3", "s2", "two"))
    report = inspect_source(read_source(declare(tmp_path)), DATA, HERE)
    assert report.patients == 1 and report.files[0].faults == {Fault.OTHER_PATIENT: 1}
    assert report.files[0].named == (("p2/s2.png", Fault.OTHER_PATIENT),) and report.files[1].unpaired == 1
    with pytest.raises(DataError, match="more records are bad"):
        check_source(read_source(declare(tmp_path)), DATA, HERE)
    assert load_patients(read_source(declare(tmp_path)), DATA, HERE).units == ("p1",)


def test_what_one_patient_has_changes_nothing_of_another(tmp_path: Path) -> None:
    rows = [("p1", "s1", "one"), ("p2", "s2", "two words"), ("p2", "s1", "three"), ("p3", "s2", "four")]
    images(tmp_path, "p1/s1.png", "p2/s1.png", "p2/s2.png", "p3/s2.png", "p3/s1.png")
    reports(tmp_path, *rows)
    source = read_source(declare(tmp_path))
    whole = load_patients(source, DATA, HERE)
    for gone in ("p1", "p2", "p3"):
        reports(tmp_path, *(row for row in rows if row[0] != gone))
        others = load_patients(source, DATA, HERE)
        kept = [unit for unit in whole.units if unit != gone]
        assert list(others.units) == kept
        mine = whole.take(np.array([whole.units.index(unit) for unit in kept]))
        assert mine.whole.tobytes() == others.whole.tobytes()


def test_a_bad_half_makes_a_record_of_padding_of_a_known_patient(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1.png", "p1/s2.png", "p2/s1.png", "p2/none.png", "loose_s1.png")
    (tmp_path / "xray" / "p1" / "s1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Image.fromarray(np.full((8, 12), 7, np.uint8)).save(tmp_path / "xray" / "p1" / "s2.png")
    reports(tmp_path, ("p1", "s1", "one"), ("p1", "s2", "two"), ("p2", "s1", "!!"), ("p2", "", "three"), ("p2", "", ""))
    report = inspect_source(read_source(declare(tmp_path)), DATA, HERE)
    assert report.files[0].faults == {Fault.UNREADABLE: 1, Fault.BLANK: 1, Fault.NO_STUDY: 1, Fault.NO_PATIENT: 1}
    assert report.files[1].faults == {Fault.NO_WORDS: 2, Fault.NO_STUDY: 1}
    patients = load_patients(read_source(declare(tmp_path)), DATA, HERE)
    assert patients.counts().tolist() == [2, 1] and report.shared_records == 0
    assert all(row.tobytes() == padding_row(DATA).tobytes() for row in patients.whole)


def test_a_bad_image_without_a_report_is_a_fault_and_nothing_else(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1.png", "p2/s2.png")
    (tmp_path / "xray" / "p2" / "s2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    reports(tmp_path, ("p1", "s1", "one"))
    report = inspect_source(read_source(declare(tmp_path)), DATA, HERE)
    assert report.patients == 1 and report.files[0].faults == {Fault.UNREADABLE: 1} and report.files[0].unpaired == 0


@pytest.mark.parametrize(("study_from", "element"), [("uid", "StudyInstanceUID"), ("accession", "AccessionNumber")])
def test_the_header_of_a_dicom_file_names_patient_and_study(tmp_path: Path, study_from: str, element: str) -> None:
    (tmp_path / "archive").mkdir()
    for number, (patient, study) in enumerate([("p1", "2.25.11"), ("p1", "2.25.12"), ("p2", "2.25.11"), ("p1", None)]):
        header = made(picture(number).astype(np.uint16), PatientID=patient, StudyDate=f"2020010{number + 1}")
        if study is not None:
            setattr(header, element, study)
        written(tmp_path / "archive" / f"{number}.dcm", header)
    reports(tmp_path, ("p1", "2.25.11", "one"), ("p1", "2.25.12", "two"), ("p2", "2.25.13", "three"))
    declared = {"image": {"kind": "dicom", "path": "archive", "modalities": ["CT"]}, "text": TEXT, "study_from": study_from}
    source = read_source(declare(tmp_path, {"kind": "pairs"} | declared))
    patients = load_patients(source, DATA, Effort(workers=1 if study_from == "uid" else 0))
    assert patients.units == ("p1",) and words_of(patients) == [codes_of("one"), codes_of("two")]
    faults = read_records(source, DATA, HERE).tallies[0].faults
    assert faults == {Fault.NO_STUDY: 1, Fault.OTHER_PATIENT: 1}
    assert len(source.files()) == 5
    assert read_records(source, DATA, HERE).names == ["2.25.1"] * 2


def test_a_header_names_no_patient_where_folders_do(tmp_path: Path) -> None:
    (tmp_path / "archive" / "p1").mkdir(parents=True)
    for number, name in enumerate(["p1/0.dcm", "1.dcm"]):
        header = made(picture(number).astype(np.uint16), PatientID="p1", StudyInstanceUID="2.25.11")
        written(tmp_path / "archive" / name, header)
    reports(tmp_path, ("p1", "2.25.11", "one"))
    image = {"kind": "dicom", "path": "archive", "modalities": ["CT"], "patient_from": "folder"}
    source = read_source(declare(tmp_path, {"kind": "pairs", "image": image, "text": TEXT, "study_from": "uid"}))
    reading = read_records(source, DATA, HERE)
    assert reading.owners == ["p1"] and reading.tallies[0].faults == {Fault.NO_PATIENT: 1}


def test_studies_from_an_index_and_reports_in_several_json_files(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "deep/b.png", "c.png")
    index = ["file,patient,examination", "a.png,p1,7", "deep/b.png,p2,8 ", "c.png,p2,"]
    (tmp_path / "index.csv").write_text("\n".join(index) + "\n")
    rows = [{"patient": "p1", "study": 7, "text": "one"}, {"patient": "p2", "study": "8", "text": "two"}]
    for name, row in zip(("x.jsonl", "y.jsonl"), rows, strict=True):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    image = {"kind": "pictures", "path": "xray", "patient_from": "index", "index": "index.csv"}
    text = TEXT | {"path": ["x.jsonl", "y.jsonl"], "format": "jsonl"}
    declared = {"kind": "pairs", "image": image, "text": text, "study_from": "index", "study_column": "examination"}
    report = inspect_source(read_source(declare(tmp_path, declared)), DATA, HERE)
    assert (report.patients, report.records) == (2, 2) and [file.rows for file in report.files] == [3, 1, 1]
    assert report.files[0].faults == {Fault.NO_STUDY: 1}
    (tmp_path / "index.csv").write_text("\n".join([*index, "a.png,p1,9"]) + "\n")
    with pytest.raises(DataError, match="two studies"):
        inspect_source(read_source(declare(tmp_path, declared)), DATA, HERE)
    (tmp_path / "index.csv").write_text("file,patient\na.png,p1\n")
    with pytest.raises(DataError, match="'examination' is missing"):
        inspect_source(read_source(declare(tmp_path, declared)), DATA, HERE)


def test_images_of_an_array_keep_their_order_and_name_their_rows(tmp_path: Path) -> None:
    content = np.stack([picture(number) for number in range(5)]).astype(np.float32)
    content[3, 0, 0] = np.nan
    content[4] = 1.0
    patient, study = np.array(["p1", "p1", "", "p1", "p1"]), np.array([1, 1, 1, 2, 2])
    np.savez(tmp_path / "x.npz", image=content, patient=patient, study=study)
    reports(tmp_path, ("p1", "1", "one"), ("p1", "2", "two"))
    declared = {"kind": "pairs", "image": {"kind": "npz", "path": "x.npz"}, "text": TEXT, "study_from": "field"}
    source = read_source(declare(tmp_path, declared))
    report = inspect_source(source, DATA, HERE)
    assert report.files[0].faults == {Fault.NO_PATIENT: 1, Fault.NOT_FINITE: 1, Fault.BLANK: 1}
    assert ("row 4", Fault.NOT_FINITE) in report.files[0].named
    records = load_patients(source, DATA, HERE).whole
    assert len(records) == 4 and [bool(row.any()) for row in records[:, :96]] == [True, True, False, False]
    np.testing.assert_allclose(records[1, :96].reshape(8, 12), (picture(1) - picture(1).mean()) / picture(1).std(), atol=1e-5)
    np.savez(tmp_path / "x.npz", image=content, patient=patient, study=np.zeros((5, 2)))
    with pytest.raises(DataError, match="one text or integer per record") as caught:
        inspect_source(source, DATA, HERE)
    assert caught.value.field == "study_field"


def test_nothing_that_can_be_joined_is_refused_with_what_to_compare(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1.png")
    reports(tmp_path, ("p1", "S-1", "one"))
    with pytest.raises(DataError, match="no image has a report") as caught:
        inspect_source(read_source(declare(tmp_path)), DATA, HERE)
    assert caught.value.field == "study_from" and "p1" not in str(caught.value)
    reports(tmp_path, ("", "s1", "one"))
    with pytest.raises(DataError, match="patient column 'patient' is empty"):
        inspect_source(read_source(declare(tmp_path)), DATA, HERE)
    images(tmp_path, "loose_s1.png")
    (tmp_path / "xray" / "p1" / "s1.png").unlink()
    with pytest.raises(DataError, match="no file of the folder belongs to a patient"):
        inspect_source(read_source(declare(tmp_path)), DATA, HERE)


def test_a_study_of_texts_alone_does_not_read_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another kind than this source"):
        read_records(read_source(declare(tmp_path)), TextData(kind="text"))


def test_the_kept_copy_gives_back_the_same_records(tmp_path: Path) -> None:
    images(tmp_path, "p1/s1.png", "p2/s1.png")
    reports(tmp_path, ("p1", "s1", "one"), ("p2", "s1", "!"))
    patients = load_patients(read_source(declare(tmp_path)), DATA, HERE)
    with (tmp_path / "kept.npz").open("wb") as stream:
        write_kept(stream, patients)
    again = read_kept(tmp_path / "kept.npz", DATA)
    assert again.whole.tobytes() == patients.whole.tobytes()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"text": {name: value for name, value in TEXT.items() if name != "record_column"}}, "needs record_column"),
        ({"text": TEXT | {"time_column": "when"}}, "has no time_column"),
        ({"text": TEXT | {"max_bad_share": 0.1}}, r"write it above \[text\]"),
        ({"image": PICTURES["image"] | {"cohort": "b"}}, r"write it above \[image\]"),
        ({"study_from": "uid"}, "is for DICOM files"),
        ({"study_from": "field"}, "goes with an image of kind npz"),
        ({"study_from": "index"}, "needs the index of"),
        ({"image": {"kind": "npz", "path": "x.npz"}}, "goes with an image of kind npz"),
        ({"study_pattern": "("}, "no regular expression"),
        ({"study_pattern": "s[0-9]+"}, r"no group \(\?P<study>"),
        ({"image": {"kind": "table", "path": "x.csv"}}, "image"),
        ({"image": {"kind": "pictures", "path": "../x"}}, "stay inside"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        read_source(declare(tmp_path, **changes))


def test_a_pattern_goes_with_its_rule_alone(tmp_path: Path) -> None:
    declared = {name: value for name, value in PICTURES.items() if name != "study_pattern"}
    with pytest.raises(ConfigError, match="study_pattern goes with"):
        read_source(declare(tmp_path, declared))
