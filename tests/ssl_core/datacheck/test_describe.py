"""A first source TOML: read back by the reader where it is whole, and refused at the line of what a person must fill in."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import tomllib
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from pydicom.uid import DeflatedExplicitVRLittleEndian
from tests_commands import refused, run
from tests_dicom import made, written
from tests_material import write_reports

from ssl_core.data.check import check_source, inspect_source
from ssl_core.data.source import MODELS, read_source
from ssl_core.datacheck.describe import describe
from ssl_core.datacheck.files_seen import modalities
from ssl_core.datacheck.schema import source_schema
from ssl_core.errors import DataError
from ssl_core.spec.data import ImageData, SignalData, TextData


def keys(folder: Path) -> dict[str, object]:
    return tomllib.loads(describe(folder))


def test_reports_are_described_so_that_they_can_be_read(tmp_path: Path) -> None:
    write_reports(tmp_path, patients=5).unlink()
    result = run("site", "data", "describe", tmp_path)
    assert result.exit_code == 0 and "# Decide: patient_column" in result.output
    assert stat.S_IMODE((tmp_path / "source.toml").stat().st_mode) == 0o600
    assert inspect_source(read_source(tmp_path / "source.toml"), TextData(kind="text")).patients == 5
    before = (tmp_path / "source.toml").read_bytes()
    refused(run("site", "data", "describe", tmp_path), "not overwritten", "--force")
    assert (tmp_path / "source.toml").read_bytes() == before
    assert run("site", "data", "describe", tmp_path, "--force").exit_code == 0
    refused(run("site", "data", "describe", tmp_path, "--out", tmp_path.parent / "s.toml"), "folder of its data")


def test_arrays_of_images_and_of_signals(tmp_path: Path) -> None:
    patients = np.array(["a", "b"])
    np.savez(tmp_path / "f.npz", pixels=np.arange(512).reshape(2, 16, 16) % 251, who=patients)
    (tmp_path / "source.toml").write_text(describe(tmp_path))
    assert keys(tmp_path) == {"kind": "npz", "path": "f.npz", "image_field": "pixels", "patient_field": "who"}
    data = ImageData(kind="image", height=16, width=16)
    assert inspect_source(read_source(tmp_path / "source.toml"), data).patients == 2
    np.savez(tmp_path / "f.npz", ecg=np.zeros((2, 12, 500), np.int16), who=patients)
    assert keys(tmp_path)["kind"] == "signals" and "scale" in keys(tmp_path)
    np.savez(tmp_path / "f.npz", who=patients)
    with pytest.raises(DataError, match="no array"):
        describe(tmp_path)


def test_a_long_table_of_measurements(tmp_path: Path) -> None:
    rows = "STAY,Subject_ID,CHARTTIME,label,value,valuenum\n7,1,2024-01-01 10:00:00,HR,100,100\n7,1,2024-01-01 10:20,BP,n/a,\n"
    (tmp_path / "v.csv").write_text(rows)
    assert keys(tmp_path) == {
        "kind": "vitals", "path": "v.csv", "patient_column": "Subject_ID", "time_column": "CHARTTIME", "time_unit": "iso",
        "name_column": "label", "value_column": "valuenum", "channels": ["WRITE NAMES HERE"], "units": ["1/min"],
    }  # fmt: skip
    data = SignalData(kind="signal", channels=1, samples=8, rate_hz=1 / 3600, units=("1/min",), typical=(20.0,))
    (tmp_path / "source.toml").write_text(describe(tmp_path))
    with pytest.raises(DataError, match="WRITE NAMES HERE"):
        check_source(read_source(tmp_path / "source.toml"), data)
    (tmp_path / "source.toml").write_text(describe(tmp_path).replace("WRITE NAMES HERE", "HR"))
    assert check_source(read_source(tmp_path / "source.toml"), data).files[0].undeclared == 1
    (tmp_path / "source.toml").unlink()
    parquet.write_table(pyarrow.table({"id": ["a"], "hours": [0.5], "name": ["HR"], "value": [80]}), tmp_path / "v.parquet")
    (tmp_path / "v.csv").unlink()
    assert keys(tmp_path)["time_unit"] == "hours" and keys(tmp_path)["format"] == "parquet"


def test_columns_and_a_header_without_a_patient(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("MRN,AGE,NA\n1,2,3\n")
    assert keys(tmp_path) == {"kind": "columns", "path": "lab.csv", "patient_column": "MRN"}
    assert "'AGE', 'NA'" in describe(tmp_path)
    (tmp_path / "lab.csv").write_text("AGE,NA\n2,3\n")
    assert "no column looks like it" in describe(tmp_path)


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"patient;text\n1;a\n", "parted by semicolons"), ("patient,text\n1,a\n".encode("utf-16"), "no UTF-8")],
)
def test_a_spreadsheets_export_is_refused_by_what_is_wrong_with_it(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "reports.csv").write_bytes(content)
    with pytest.raises(DataError, match=word) as caught:
        describe(tmp_path)
    assert caught.value.value == "reports.csv" and "parted by commas" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.hea", b"100 1 360 1000\n", {"kind": "wfdb", "patient_from": "folder"}),
        ("a.edf", b"0       X X X X", {"kind": "edf", "patient_from": "header"}),
        ("a.bdf", b"\xffBIOSEMIX X X X", {"kind": "edf", "patient_from": "header"}),
        ("a.wav", b"RIFF\0\0\0\0WAVE", {"kind": "sound", "patient_from": "folder"}),
        ("b.wav", b"RF64\xff\xff\xff\xffWAVEds64", {"kind": "sound", "patient_from": "folder"}),
        ("a.nii", b"\x1c\x02\0\0n+2\0\r\n\x1a\n", {"kind": "nifti", "patient_from": "folder"}),
        ("a.tif", b"II+\0\x08\0\0\0", {"kind": "pictures", "files": ["*.tif", "*.tiff"]}),
        ("a.nii.gz", b"\x1f\x8b", {"kind": "nifti", "patient_from": "folder"}),
        ("a.json", b"{}", {"kind": "fhir", "patient_from": "header"}),
    ],
)
def test_folders_by_first_bytes_and_names(tmp_path: Path, name: str, content: bytes, expected: dict[str, object]) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / name).write_bytes(content)
    assert expected.items() <= keys(tmp_path).items()


def test_pictures_in_one_folder_get_a_pattern_and_the_most_common_format_wins(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (8, 8), number).save(tmp_path / f"p{number}_1.png")
    (tmp_path / "readme.csv").write_text("a,b\n")
    (tmp_path / ".hidden").mkdir()
    os.symlink("/", tmp_path / "link")
    found = keys(tmp_path)
    assert found["kind"] == "pictures" and found["files"] == ["*.png"] and found["patient_from"] == "pattern"
    assert "3 PNG, 1 CSV" in describe(tmp_path)


def test_dicom_files_by_modality(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm"):
        path = get_testdata_file(name)
        assert path is not None
        (tmp_path / name).write_bytes(Path(path).read_bytes())
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "CT_small.dcm").read_bytes()[:140])
    found = keys(tmp_path)
    assert (found["kind"], found["patient_from"], found["modalities"]) == ("dicom", "header", ["MR"])
    assert "2 MR" in describe(tmp_path) and found["files"] == ["*.dcm"]
    for path in tmp_path.iterdir():
        path.unlink()
    wave = get_testdata_file("waveform_ecg.dcm")
    assert wave is not None
    (tmp_path / "w.dcm").write_bytes(Path(wave).read_bytes())
    assert keys(tmp_path)["kind"] == "dicom-waveform"


def test_a_folder_of_nothing_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "SECRET.txt").write_text("SECRET")
    result = run("site", "data", "describe", tmp_path)
    refused(result, "no file of a known format", "CSV")
    assert "SECRET" not in result.output
    refused(run("site", "data", "describe", tmp_path / "absent"), "no such folder")


def test_the_schema_names_every_kind_and_its_keys() -> None:
    schema = json.loads(run("site", "data", "schema").stdout)
    assert schema == source_schema()
    assert set(schema["discriminator"]["mapping"]) == set(MODELS)
    table = schema["$defs"]["TableSource"]
    assert table["additionalProperties"] is False and "text_column" in table["required"]


def test_a_parquet_file_is_described_as_its_csv_would_be(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"Patient_ID": ["a"], "Report": ["one two"]}), tmp_path / "r.parquet")
    assert keys(tmp_path) == {
        "kind": "table", "format": "parquet", "path": "r.parquet", "patient_column": "Patient_ID", "text_column": "Report"
    }  # fmt: skip
    (tmp_path / "source.toml").write_text(describe(tmp_path))
    assert inspect_source(read_source(tmp_path / "source.toml"), TextData(kind="text")).patients == 1
    parquet.write_table(pyarrow.table({"mrn": ["a"], "age": [3.0]}), tmp_path / "r.parquet")
    assert keys(tmp_path) == {"kind": "columns", "format": "parquet", "path": "r.parquet", "patient_column": "mrn"}


def test_reports_as_xml_and_a_database_are_told_what_to_fill_in(tmp_path: Path) -> None:
    (tmp_path / "p1.xml").write_text("<r><id>secret</id><a><f>a patient's words</f></a></r>")
    text = describe(tmp_path)
    assert "a/f" in text and "patient's words" not in text and "secret" not in text
    assert keys(tmp_path)["kind"] == "xml" and keys(tmp_path)["text"] == ["WRITE PATHS HERE"]
    (tmp_path / "p1.xml").write_text("<!DOCTYPE r [<!ENTITY x 'y'>]><r>&x;</r>")
    with pytest.raises(DataError, match="cannot be read as XML"):
        describe(tmp_path)
    other = tmp_path / "db"
    other.mkdir()
    with closing(sqlite3.connect(other / "cdm.sqlite")) as base:
        base.executescript("CREATE TABLE note (note_id INTEGER);")
    assert keys(other) == {"kind": "omop", "url_file": "omop.url"} and "sqlite:///cdm.sqlite" in describe(other)


def test_a_pipe_is_not_opened_and_a_name_does_not_end_its_comment(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for name, values in (
            ("image", np.zeros((2, 16, 16))),
            ("who", np.arange(2)),
            ("x\nmax_bad_share = 0.9\n#", np.zeros(2)),
        ):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values)
    assert keys(tmp_path) == {"kind": "npz", "path": "b.npz", "image_field": "image", "patient_field": "who"}


def test_a_file_that_breaks_its_parser_is_looked_at_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", made())
    (tmp_path / "b.dcm").write_bytes(b"nothing of the kind")
    kinds, waves = modalities([path, tmp_path / "b.dcm"])
    assert kinds == {"CT": 1, "not readable": 1} and waves == 0
    deflated = made(np.zeros((8, 12), np.uint16))
    deflated.PixelData = bytes(1 << 28)
    path = written(tmp_path / "a.dcm", deflated, DeflatedExplicitVRLittleEndian)
    tracemalloc.start()
    modalities([path])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size < 1 << 20 and most < 1 << 24
