"""NIfTI volumes against nibabel's own reading of its own test files: orientation, scale, slices, bombs, what is no volume."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ssl_core.data.decoding import Bounds, decode_all
from ssl_core.data.folder_files import Listed
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.picture import to_record
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.record_units import record_key
from ssl_core.data.source import load_patients, load_records, read_source
from ssl_core.errors import ConfigError
from ssl_core.spec.data import ImageData

SHIPPED = Path(nibabel.__file__).parent / "tests" / "data"
VOLUMES = (
    "anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "standard.nii.gz",
    "reoriented_anat_moved.nii", "resampled_anat_moved.nii",
)  # fmt: skip
AXES = ("sagittal", "coronal", "axial")
MIB = 1 << 20


def decoder(height: int, width: int, **how: Any) -> NiftiDecoder:
    given: dict[str, Any] = {"axis": "axial", "slices": 1, "first": 0, "last": None, "volume": 0, "largest": 64 * MIB} | how
    fit = given.pop("fit", "exact")
    return NiftiDecoder(data=ImageData(kind="image", height=height, width=width, fit=fit), **given)


def decoded(path: Path, how: NiftiDecoder) -> list[Any]:
    ((_, found),) = decode_all([Listed("x", path, None)], how, Bounds(1 << 30, 20.0), workers=0)
    if isinstance(found, Fault):
        return [found]
    assert {each.owner for each in found} == {None} and {each.name for each in found} == {""}
    return [each.content for each in found]


def same(content: Any, picture: Any) -> bool:
    picture = np.asarray(picture, np.float64)
    standard = (picture - picture.mean()) / picture.std()
    return isinstance(content, np.ndarray) and np.allclose(content, standard.ravel(), atol=1e-4)


def planes(image: Any, axis: int, volume: int = 0) -> list[np.ndarray]:
    """The slices as nibabel turns them, each with its second axis upwards."""
    values = nibabel.as_closest_canonical(image).get_fdata()
    values = values.reshape((*values.shape[:3], -1), order="F")[..., volume]
    return [plane.T[::-1] for plane in np.moveaxis(values, axis, 0)]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("name", VOLUMES)
def test_slices_are_those_of_nibabel(name: str, axis: int) -> None:
    image: Any = nibabel.load(SHIPPED / name)
    several = int(np.prod(image.shape[3:]))
    for volume in {0, several - 1}:
        expected = planes(image, axis, volume)
        # Small ones are larger than the least picture only after a stretch.
        fit = "exact" if min(expected[0].shape) >= 8 else "stretch"
        height, width = (max(8, side) for side in expected[0].shape)
        how = decoder(height, width, axis=AXES[axis], slices=1000, volume=volume, fit=fit)
        found = decoded(SHIPPED / name, how)
        assert len(found) == len(expected)
        for content, plane in zip(found, expected, strict=True):
            # One of these files says NaN where its volume was moved away.
            fault = Fault.NOT_FINITE if np.isnan(plane).any() else Fault.BLANK if plane.std() == 0 else None
            if fault is not None:
                assert content is fault
            elif fit == "exact":
                assert same(content, plane)
            else:
                alone = to_record(plane, how.data)
                assert isinstance(alone, np.ndarray) and np.allclose(content, alone, atol=1e-4)


def written(path: Path, values: np.ndarray, affine: Any = None, **header: Any) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def drawn(*shape: int, kind: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(kind)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "ILA", "ASR"])
def test_a_volume_is_turned_to_right_front_and_top(tmp_path: Path, codes: str) -> None:
    body = drawn(9, 10, 11)
    to = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes))
    stored = nibabel.orientations.apply_orientation(body, to)
    affine = nibabel.orientations.inv_ornt_aff(to, body.shape)
    path = written(tmp_path / "x.nii", np.asarray(stored), affine)
    for axis, shape in enumerate([(11, 10), (11, 9), (10, 9)]):
        found = decoded(path, decoder(*shape, axis=AXES[axis], slices=100))
        assert all(same(each, plane.T[::-1]) for each, plane in zip(found, np.moveaxis(body, axis, 0), strict=True))


def test_which_slices_are_read_says_their_number_alone(tmp_path: Path) -> None:
    values = drawn(9, 10, 40)
    path = written(tmp_path / "x.nii.gz", values)

    def read(**how: Any) -> list[int]:
        found = decoded(path, decoder(10, 9, **how))
        return [next(k for k in range(40) if same(each, values[:, :, k].T[::-1])) for each in found]

    assert read() == [20] and read(slices=4) == [5, 15, 25, 35] and read(slices=40) == list(range(40))
    assert read(slices=4, first=10, last=13) == [10, 11, 12, 13] and read(slices=2, first=10, last=29) == [15, 25]
    assert read(slices=1, first=39) == [39]
    for how in ({"first": 40}, {"last": 40}, {"volume": 1}):
        assert decoded(path, decoder(10, 9, **how)) == [Fault.SHAPE]
    assert decoded(path, decoder(11, 9, slices=3)) == [Fault.SHAPE] * 3


def test_numbers_of_every_kind_and_their_scale(tmp_path: Path) -> None:
    for kind in (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64):
        values = drawn(9, 10, 1, kind=kind) // 2
        for order in "<>":
            image = nibabel.Nifti1Image(values, np.eye(4), dtype=kind)
            path = tmp_path / "x.nii"
            nibabel.Nifti1Image(values, np.eye(4), image.header.as_byteswapped(order), dtype=kind).to_filename(path)
            assert same(decoded(path, decoder(10, 9))[0], values[:, :, 0].T[::-1]), (kind, order)
    path = written(tmp_path / "x.nii", drawn(9, 10, 1))
    whole = bytearray(path.read_bytes())
    whole[112:120] = np.array([0.5, -20.0], np.float32).tobytes()
    path.write_bytes(whole)
    assert nibabel.load(path).dataobj.slope == 0.5
    window = decoder(10, 9)
    window = NiftiDecoder(
        axis="axial", slices=1, first=0, last=None, volume=0, largest=MIB,
        data=window.data.model_copy(update={"window": (0.0, 40.0)}),
    )  # fmt: skip
    assert same(decoded(path, window)[0], np.clip(drawn(9, 10, 1)[:, :, 0].T[::-1] * 0.5 - 20, 0, 40))
    values = drawn(9, 10, 2, kind=np.float32)
    values[0, 0, 0] = np.nan
    found = decoded(written(path, values), decoder(10, 9, slices=2))
    assert found[0] is Fault.NOT_FINITE and same(found[1], values[:, :, 1].T[::-1])
    assert same(decoded(written(path, drawn(9, 10)), decoder(10, 9))[0], drawn(9, 10).T[::-1])


def test_what_is_no_volume_of_numbers_is_of_another_kind(tmp_path: Path) -> None:
    for name in ("nifti1.hdr", "nifti2.hdr", "analyze.hdr", "test.mgz", "tiny.mnc", "row_major.dconn.nii", "standard.trk"):
        assert decoded(SHIPPED / name, decoder(8, 8)) == [Fault.WRONG_KIND], name
    path = written(tmp_path / "x.nii", drawn(9, 10, 1, kind=np.complex64))
    assert decoded(path, decoder(10, 9)) == [Fault.WRONG_KIND]
    colours = np.zeros((9, 10, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert decoded(written(path, colours), decoder(10, 9)) == [Fault.WRONG_KIND]


def test_broken_files_are_unreadable(tmp_path: Path) -> None:
    path = written(tmp_path / "x.nii", drawn(9, 10, 5))
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:300], gzip.compress(whole)[:-60], gzip.compress(whole)[:-3] + b"abc", b"\x1f\x8b"):
        path.write_bytes(content)
        assert decoded(path, decoder(10, 9))[0] in (Fault.UNREADABLE, Fault.WRONG_KIND), len(content)
    # No side, one below zero (which would read all that a file inflates to), an unknown kind, an offset that is none.
    for place, patch in (
        (42, b"\x00\x00"),
        (42, b"\xff\xff"),
        (70, b"\x63\x00"),
        (108, b"\x00\x00\xc0\x7f"),
        (108, b"\x00\x00\x00\x00"),
    ):
        path.write_bytes(whole[:place] + patch + whole[place + len(patch) :])
        assert decoded(path, decoder(10, 9)) == [Fault.UNREADABLE], place


def test_a_bomb_is_too_large_before_it_is_inflated(tmp_path: Path) -> None:
    path = written(tmp_path / "x.nii", drawn(9, 10, 5))
    whole = bytearray(path.read_bytes())
    # As large as the header says, or larger than it says.
    with gzip.open(tmp_path / "long.nii.gz", "wb") as stream:
        stream.write(whole + bytes(80 * MIB))
    assert (tmp_path / "long.nii.gz").stat().st_size < 200_000
    assert decoded(tmp_path / "long.nii.gz", decoder(10, 9)) == [Fault.TOO_LARGE]
    whole[40:56] = np.array([4, 9, 10, 5, 30000, 1, 1, 1], np.int16).tobytes()
    path.write_bytes(gzip.compress(bytes(whole)))
    assert decoded(path, decoder(10, 9, largest=MIB)) == [Fault.TOO_LARGE]
    assert decoded(path, decoder(10, 9))[0] is not Fault.TOO_LARGE


def test_a_side_below_zero_inflates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.nii", drawn(9, 10, 5))
    whole = bytearray(path.read_bytes())
    whole[42:44] = b"\xff\xff"
    path.write_bytes(gzip.compress(bytes(whole)))
    asked: list[int | None] = []
    honest = gzip.GzipFile.read

    def read(stream: gzip.GzipFile, size: int | None = -1) -> bytes:
        asked.append(size)
        return honest(stream, size)

    monkeypatch.setattr(gzip.GzipFile, "read", read)
    assert decoded(path, decoder(10, 9)) == [Fault.UNREADABLE] and asked == [540]


def _declare(folder: Path, lines: Sequence[str]) -> Any:
    (folder / "source.toml").write_text("\n".join(['kind = "nifti"', *lines, ""]), encoding="utf-8")
    return read_source(folder / "source.toml")


def test_a_folder_of_volumes_by_subject(tmp_path: Path) -> None:
    for subject, kind in (("02", "nii.gz"), ("01", "nii")):
        (tmp_path / f"sub-{subject}" / "anat").mkdir(parents=True)
        written(tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.{kind}", drawn(9, 10, 6) + int(subject))
    source = _declare(tmp_path, ['patient_from = "pattern"', "patient_pattern = '^sub-(?P<patient>[^/_]+)/'", "slices = 3"])
    patients = load_patients(source, ImageData(kind="image", height=10, width=9), Effort(workers=1))
    assert patients.units == ("01", "02") and patients.counts().tolist() == [3, 3]
    # Of a volume of several slices the record that labels name is the volume.
    volumes = load_records(source, ImageData(kind="image", height=10, width=9))
    assert volumes.counts().tolist() == [3, 3] and volumes.units == (
        record_key("01", "sub-01/anat/sub-01_T1w.nii"), record_key("02", "sub-02/anat/sub-02_T1w.nii.gz"),
    )  # fmt: skip
    assert all(same(row, drawn(9, 10, 6)[:, :, k].T[::-1]) for row, k in zip(patients.records[:3], (1, 3, 5), strict=True))
    for line in ('axis = "oblique"', "slices = 0", "first = 3\nlast = 2", 'patient_from = "header"'):
        with pytest.raises(ConfigError):
            _declare(tmp_path, [line])
