"""npz images: pooling and standardising image by image, faults, refusals, and a real array when it is there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ssl_core.data.check import check_source, inspect_source
from ssl_core.data.images import standardise
from ssl_core.data.kept import read_kept
from ssl_core.data.reading import Fault
from ssl_core.data.source import Source, load_patients, read_records, read_source
from ssl_core.datacheck.files_seen import array_fields
from ssl_core.errors import DataError, StateError
from ssl_core.spec.data import ImageData

DATA = ImageData(kind="image", height=8, width=12, pool=2)
REAL = Path(__file__).parents[4] / "shared" / "data" / "chest_xray_64.npz"


def declare(folder: Path, **arrays: object) -> Source:
    np.savez(folder / "x.npz", **arrays)
    (folder / "source.toml").write_text('kind = "npz"\npath = "x.npz"\nmax_bad_share = 0.0\n', encoding="utf-8")
    return read_source(folder / "source.toml")


def images(count: int, kind: npt.DTypeLike = np.uint8) -> npt.NDArray[np.generic]:
    return np.random.default_rng(1).integers(0, 256, (count, 8, 12)).astype(kind)


def test_pixels_are_block_means_standardised_within_each_image() -> None:
    some = images(3)
    out, broken, blank = standardise(some, DATA)
    for image, row in zip(some.astype(np.float64), out, strict=True):
        pooled = np.array([[image[i : i + 2, j : j + 2].mean() for j in range(0, 12, 2)] for i in range(0, 8, 2)]).ravel()
        assert np.allclose(row, (pooled - pooled.mean()) / pooled.std(), atol=1e-6)
    assert out.dtype == np.float32 and not broken.any() and not blank.any()
    alone, _, _ = standardise(some[1:2], DATA)
    assert alone.tobytes() == out[1:2].tobytes()


def test_units_and_their_images(tmp_path: Path) -> None:
    source = declare(tmp_path, image=images(4), patient=np.array(["b", "a", "b", "c"]))
    patients = load_patients(source, DATA)
    assert patients.units == ("a", "b", "c") and patients.counts().tolist() == [1, 2, 1]
    assert check_source(source, DATA).records == 4
    assert read_records(source, DATA).names is None


def test_an_array_names_records_for_labels_and_changes_nothing_else(tmp_path: Path) -> None:
    arrays = {"image": images(4), "patient": np.array(["b", "", "b", "c"]), "study": np.array([7, 8, 5, 5])}
    plain = load_patients(declare(tmp_path, **arrays), DATA)
    with (tmp_path / "source.toml").open("a") as stream:
        stream.write('record_field = "study"\n')
    source = read_source(tmp_path / "source.toml")
    assert read_records(source, DATA).names == ["7", "5", "5"]
    named = load_patients(source, DATA)
    assert named.units == plain.units and named.whole.tobytes() == plain.whole.tobytes()
    with pytest.raises(DataError, match="one text or integer per record"):
        read_records(Source(tmp_path, source.declared.model_copy(update={"record_field": "image"})), DATA)
    with pytest.raises(DataError, match="'nothing' is missing"):
        read_records(Source(tmp_path, source.declared.model_copy(update={"record_field": "nothing"})), DATA)


@pytest.mark.parametrize(
    ("value", "fault"),
    [(np.nan, Fault.NOT_FINITE), (np.inf, Fault.NOT_FINITE), (3e38, Fault.NOT_FINITE), (None, Fault.BLANK)],
)
def test_bad_images_are_refused_by_the_check_and_zero_afterwards(tmp_path: Path, value: float | None, fault: Fault) -> None:
    some = images(4, np.float32)
    if value is None:
        some[2] = 17.3
    else:
        some[2, 3, 4] = value
    source = declare(tmp_path, image=some, patient=np.array(["a", "b", "SECRETPATIENT", "d"]))
    assert inspect_source(source, DATA).files[0].faults == {fault: 1}
    with pytest.raises(DataError, match=r"x\.npz") as raised:
        check_source(source, DATA)
    assert "SECRETPATIENT" not in str(raised.value)
    patients = load_patients(source, DATA)
    place = patients.units.index("SECRETPATIENT")
    assert not patients.records[place].any()
    others, _, _ = standardise(images(4, np.float32)[[0, 1, 3]], DATA)
    assert np.array_equal(np.delete(patients.records, place, axis=0)[np.argsort(np.argsort(["a", "b", "d"]))], others)


def test_an_image_without_a_patient_is_left_out(tmp_path: Path) -> None:
    source = declare(tmp_path, image=images(3), patient=np.array(["a", " ", "b"]))
    assert inspect_source(source, DATA).files[0].faults == {Fault.NO_PATIENT: 1}
    assert load_patients(source, DATA).units == ("a", "b")
    with pytest.raises(DataError, match="is empty"):
        check_source(declare(tmp_path, image=images(2), patient=np.array(["", " "])), DATA)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": images(2)}, "'patient' is missing"),
        ({"patient": np.array(["a"])}, "'image' is missing"),
        ({"image": images(2)[:, :4], "patient": np.array(["a", "b"])}, "another shape"),
        ({"image": images(2) > 5, "patient": np.array(["a", "b"])}, "another shape or type"),
        ({"image": images(2), "patient": np.array(["a"])}, "one text or integer per record"),
        ({"image": images(2), "patient": np.array([0.5, 1.5])}, "one text or integer per record"),
        ({"image": images(2), "patient": np.array(["a", None], object)}, "cannot be read as npz"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_source(declare(tmp_path, **arrays), DATA)


def test_broken_files_are_named(tmp_path: Path) -> None:
    source = declare(tmp_path, image=images(2), patient=np.array([1, 2]))
    assert load_patients(source, DATA).units == ("1", "2")
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive", whole[:200] + bytes(200) + whole[400:]):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz"):
            check_source(source, DATA)
    np.save(tmp_path / "x.npy", images(2))
    (tmp_path / "x.npy").replace(tmp_path / "x.npz")
    with pytest.raises(DataError, match="no npz file"):
        check_source(source, DATA)


HEADERS = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,", b"{'descr': '<f4'\0}", b"'''", b"{", b"\\", b"  x\n y\n",
    b"(" * 99, b"{'descr': 'no such', 'fortran_order': False, 'shape': (3,)}", b"\xff", b"",
)  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_numpy_parses_as_python_is_a_fault_of_the_file_whatever_it_holds(tmp_path: Path, header: bytes) -> None:
    """By the reader, by `describe`, and in a copy of records: numpy's own parser ends with errors of several kinds."""
    source = declare(tmp_path, image=images(2), patient=np.array([1, 2]))
    text = header.ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(12)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("image", "patient", "format", "tags", "offsets", "checksums", "records"):
            archive.writestr(f"{name}.npy", array)
    with pytest.raises(DataError, match=r"file 'x.npz' cannot be read"):
        read_records(source, DATA)
    with pytest.raises(DataError, match=r"file 'x.npz' cannot be read"):
        array_fields(tmp_path / "x.npz")
    with pytest.raises(StateError, match="damaged"):
        read_kept(tmp_path / "x.npz", DATA)


@pytest.mark.skipif(not REAL.is_file(), reason="chest_xray_64.npz is not beside the project")
def test_real_chest_images(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(REAL.read_bytes())
    (tmp_path / "source.toml").write_text('kind = "npz"\npath = "x.npz"\n', encoding="utf-8")
    source = read_source(tmp_path / "source.toml")
    data = ImageData(kind="image", height=64, width=64, pool=2)
    report = check_source(source, data)
    assert (report.patients, report.records) == (2274, 4129)
    patients = load_patients(source, data)
    assert patients.counts().max() == 30
    assert np.allclose(patients.records.mean(axis=1), 0, atol=1e-5) and np.allclose(patients.records.std(axis=1), 1, atol=1e-4)
