"""DICOM files made for the purpose: owners, order, units, frames; read through the declared folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    RLELossless,
)
from tests_dicom import DATA, decoded, made, only, pixels, same, written

from ssl_core.data.check import check_source, inspect_source
from ssl_core.data.reading import Effort, Fault, row_id
from ssl_core.data.record_units import record_key
from ssl_core.data.source import load_patients, load_records, read_source
from ssl_core.errors import DataError


def test_records_are_ordered_by_study_date_whatever_the_names(tmp_path: Path) -> None:
    times = {
        "c.dcm": {"StudyDate": "20240105", "StudyTime": "0815"},
        "b.dcm": {"StudyDate": "2023.11.30", "StudyTime": "09:30:00"},
        "z": {"AcquisitionDateTime": "20221201103000.5+0100"},
        "a.dcm": {"AcquisitionDate": "20240105", "AcquisitionTime": "081501.25"},
        "d.dcm": {"StudyDate": "20240105", "StudyTime": "081502", "SeriesNumber": 10, "InstanceNumber": 2},
        "e.dcm": {"StudyDate": "20240105", "StudyTime": "081502", "SeriesNumber": 9, "InstanceNumber": 10},
        "f.dcm": {"StudyDate": "20240105", "StudyTime": "081502", "SeriesNumber": 9, "InstanceNumber": 9},
    }
    for seed, (name, elements) in enumerate(times.items()):
        written(tmp_path / name, made(pixels(seed), **elements))
    (tmp_path / "deeper").mkdir()
    written(tmp_path / "deeper" / "x", made(pixels(50), PatientID=" p0 "))
    written(tmp_path / "y.dcm", made(pixels(51), PatientID=""))
    source_file = tmp_path.parent / "source.toml"
    source_file.write_text(
        f'kind = "dicom"\npath = "{tmp_path.name}"\nmodalities = ["CT"]\nmax_bad_share = 0.2\n', encoding="utf-8"
    )
    source = read_source(source_file)
    patients = load_patients(source, DATA, Effort(workers=1))
    assert patients.units == ("p0", "p1") and patients.counts().tolist() == [1, 7]
    order = ["z", "b.dcm", "c.dcm", "a.dcm", "f.dcm", "e.dcm", "d.dcm"]
    for row, name in zip(patients.records[1:], order, strict=True):
        assert same(row, pixels(list(times).index(name))), name
    (file,) = check_source(source, DATA, Effort(workers=0)).files
    assert file.faults == {Fault.NO_PATIENT: 1} and file.named == (("y.dcm", Fault.NO_PATIENT),)


@pytest.mark.parametrize(
    ("rule", "records"),
    [
        ("", {"2.25.1": 1, "2.25.2": 2, "2.25.3": 1}),
        ('record_from = "study"\n', {"2.25.11": 3, "2.25.12": 1}),
        ('record_from = "file"\n', {"a": 1, "b": 2, "deep/c": 1}),
    ],
)
def test_labels_name_an_instance_a_study_or_a_file(tmp_path: Path, rule: str, records: dict[str, int]) -> None:
    (tmp_path / "x" / "deep").mkdir(parents=True)
    for number, (name, study, frames) in enumerate((("a", 11, None), ("b", 11, 2), ("deep/c", 12, None)), start=1):
        uids = {"SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": f"2.25.{study}"}
        written(tmp_path / "x" / name, made(pixels(number, frames), **uids))
    (tmp_path / "s.toml").write_text(f'kind = "dicom"\npath = "x"\nmodalities = ["CT"]\nframes = 2\n{rule}', encoding="utf-8")
    found = load_records(read_source(tmp_path / "s.toml"), DATA)
    assert dict(zip(found.units, found.counts().tolist(), strict=True)) == {
        record_key("p1", name): count for name, count in records.items()
    }
    assert load_patients(read_source(tmp_path / "s.toml"), DATA).counts().tolist() == [4]


def test_units_are_those_of_the_modality_then_the_plans_window(tmp_path: Path) -> None:
    window = DATA.model_copy(update={"window": (-500.0, 300.0)})
    stored = pixels().astype(np.int16)
    path = written(tmp_path / "x", made(stored, RescaleSlope="0.5", RescaleIntercept="-1024", WindowCenter="40"))
    assert same(only(path, data=window), np.clip(stored * 0.5 - 1024, -500, 300))
    inverted = written(
        tmp_path / "x", made(stored, RescaleSlope="1", RescaleIntercept="-1024", PhotometricInterpretation="MONOCHROME1")
    )
    assert same(only(inverted, data=window), -np.clip(stored - 1024.0, -500, 300))


def test_a_frame_has_its_own_scale(tmp_path: Path) -> None:
    def scale(slope: str, intercept: str) -> Dataset:
        group, item = Dataset(), Dataset()
        item.RescaleSlope, item.RescaleIntercept = slope, intercept
        group.PixelValueTransformationSequence = [item]
        return group

    window = DATA.model_copy(update={"window": (0.0, 1000.0)})
    header = made(pixels(frames=3), RescaleSlope="9", RescaleIntercept="9")
    header.PerFrameFunctionalGroupsSequence = [scale("1", "0"), scale("2", "-3000"), Dataset()]
    header.SharedFunctionalGroupsSequence = [scale("0.25", "0")]
    found = decoded(written(tmp_path / "x", header), window, frames=3)
    for each, (slope, intercept), frame in zip(found, [(1, 0), (2, -3000), (0.25, 0)], pixels(frames=3), strict=True):
        assert same(each.content, np.clip(frame * float(slope) + intercept, 0, 1000))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_frames_are_evenly_spaced_and_in_order(tmp_path: Path, syntax: UID) -> None:
    header = made(pixels(frames=10))
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == RLELossless:
        header.compress(RLELossless, generate_instance_uid=False)
    path = tmp_path / "x"
    header.save_as(path, enforce_file_format=True)
    found = decoded(path, frames=3)
    assert [each.name for each in found] == sorted(each.name for each in found)
    for each, place in zip(found, (1, 5, 8), strict=True):
        assert same(each.content, pixels(frames=10)[place])
    assert len(decoded(path, frames=50)) == 10


def test_numbers_of_every_kind(tmp_path: Path) -> None:
    for kind in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32):
        bounds = np.iinfo(kind)
        content = np.random.default_rng(2).integers(bounds.min, bounds.max, (8, 12), kind, endpoint=True)
        assert same(only(written(tmp_path / "x", made(content))), content), kind
    for keyword, kind in (("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)):
        content = np.random.default_rng(2).standard_normal((8, 12)).astype(kind)
        header = made()
        del header.PixelData, header.BitsStored, header.HighBit
        header.BitsAllocated = 8 * content.itemsize
        setattr(header, keyword, content.tobytes())
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.save_as(tmp_path / "x", enforce_file_format=True)
        assert same(only(tmp_path / "x"), content)
    content = np.random.default_rng(3).integers(0, 2, (2, 8, 12)).astype(np.uint8)
    header = made(
        content, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=np.packbits(content, bitorder="little").tobytes()
    )
    assert same(decoded(written(tmp_path / "x", header), frames=2)[1].content, content[1])


def test_a_palette_is_made_grey(tmp_path: Path) -> None:
    content = pixels().astype(np.uint8)
    header = made(content, PhotometricInterpretation="PALETTE COLOR")
    tables = np.random.default_rng(4).integers(0, 256, (3, 256)).astype(np.uint8)
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(header, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(header, f"{name}PaletteColorLookupTableData", table.tobytes())
        header[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        header[f"{name}PaletteColorLookupTableData"].VR = "OW"
    assert same(only(written(tmp_path / "x", header)), np.tensordot([0.299, 0.587, 0.114], tables[:, content], 1))


def test_a_file_without_the_mark_of_the_format_is_read_if_it_is_an_image(tmp_path: Path) -> None:
    whole = written(tmp_path / "x", made(Modality="CT")).read_bytes()
    length = 144 + int.from_bytes(whole[140:144], "little")
    (tmp_path / "x").write_bytes(whole[length:])
    assert same(only(tmp_path / "x"), pixels())
    report = made(Modality="CT")
    del report.PixelData
    with pydicom.filebase.DicomBytesIO() as buffer:
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        pydicom.filewriter.write_dataset(buffer, report)
        (tmp_path / "x").write_bytes(buffer.getvalue())
    assert only(tmp_path / "x") is Fault.UNREADABLE


def test_patients_are_those_of_the_declared_rule_and_nothing_of_a_header_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q7").mkdir()
    written(tmp_path / "q7" / "x.dcm", made(PatientID="SECRETPATIENT"))
    written(tmp_path / "q7" / "y.dcm", made(PatientID="SECRETPATIENT", Rows=9, PatientName="SECRETPATIENT"))
    text = 'kind = "dicom"\nmodalities = ["CT"]\npatient_from = "folder"\nfiles = ["*.dcm"]\n'
    (tmp_path / "source.toml").write_text(text, encoding="utf-8")
    source = read_source(tmp_path / "source.toml")
    patients = load_patients(source, DATA, Effort(workers=0))
    assert patients.units == ("q7",) and patients.counts().tolist() == [2] and not patients.records[1].any()
    with pytest.raises(DataError, match="more records are bad") as raised:
        check_source(source, DATA, Effort(workers=0))
    shown = [str(raised.value), *inspect_source(source, DATA, Effort(workers=0)).lines(), *capfd.readouterr()]
    assert "SECRETPATIENT" not in "".join(shown)


def test_an_id_that_could_be_two_patients_is_nobodys(tmp_path: Path) -> None:
    path = written(tmp_path / "x", made(PatientID="p1\\p2"))
    assert [found.owner for found in decoded(path)] == [None]
    path = written(tmp_path / "x", made(PatientID="p1"))
    path.write_bytes(path.read_bytes() + bytes.fromhex("10002000") + b"LO\x02\x00p2")
    assert [found.owner for found in decoded(path)] == [None]
    path = written(tmp_path / "x", made(PatientID="p1", StudyInstanceUID="1.2"))
    assert [(found.owner, found.study) for found in decoded(path)] == [("p1", "1.2")]
    path.write_bytes(path.read_bytes() + bytes.fromhex("20000d00") + b"UI\x04\x001.3\x00")
    assert [(found.owner, found.study) for found in decoded(path)] == [("p1", None)]
    path = written(tmp_path / "x", made(SpecificCharacterSet="ISO_IR 192", PatientID="QQQQQQ"))
    path.write_bytes(path.read_bytes().replace(b"QQQQQQ", b"M\xfcller"))
    (found,) = decoded(path)
    assert row_id(found.owner) is None


def test_an_id_in_the_header_counts_only_where_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "data" / "p1").mkdir(parents=True)
    written(tmp_path / "data" / "p1" / "x", made(PatientID="other"))
    written(tmp_path / "data" / "loose", made(pixels(2), PatientID="p1"))
    text = 'kind = "dicom"\npath = "data"\nmodalities = ["CT"]\npatient_from = "folder"\n'
    (tmp_path / "source.toml").write_text(text, encoding="utf-8")
    patients = load_patients(read_source(tmp_path / "source.toml"), DATA, Effort(workers=0))
    assert patients.units == ("p1",) and len(patients.records) == 1
