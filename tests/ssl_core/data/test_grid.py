"""Patches of volumes: places against a plain loop over a volume of numbered voxels, records against nibabel's own arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.data.decoding import Bounds, decode_all
from ssl_core.data.folder_files import Listed
from ssl_core.data.grid import Grid
from ssl_core.data.nifti import NiftiDecoder
from ssl_core.data.picture import to_record
from ssl_core.data.reading import Effort, Fault
from ssl_core.data.source import load_patients, read_records, read_source
from ssl_core.errors import ConfigError
from ssl_core.spec.data import ImageData

SHIPPED = Path(nibabel.__file__).parent / "tests" / "data"
AXES = ("sagittal", "coronal", "axial")


def starts(length: int, size: int, stride: int, margin: int, *, cover: bool) -> list[int]:
    """Where patches begin along one side, step by step."""
    found, place = [], margin
    while place + size <= length - margin:
        found.append(place)
        place += stride
    if not found:
        return []
    rest = length - margin - (found[-1] + size)
    if cover:
        return [*found, length - margin - size] if rest else found
    return [place + rest // 2 for place in found]


def patches(volume: np.ndarray, slices: list[int], grid: Grid) -> list[np.ndarray]:
    """Every patch of slices [:, :, k] as they are shown, slice by slice, line by line; no bound on their count."""
    out = []
    for place in slices:
        plane = volume[:, :, place].T[::-1]
        for top in starts(plane.shape[0], grid.size[0], grid.stride[0], grid.margin[0], cover=grid.cover):
            for left in starts(plane.shape[1], grid.size[1], grid.stride[1], grid.margin[1], cover=grid.cover):
                out.append(plane[top : top + grid.size[0], left : left + grid.size[1]])
    return out


def grid_of(size: Any, stride: Any = None, margin: Any = (0, 0), *, cover: bool = False, most: int = 1024) -> Grid:
    return Grid(size=size, stride=stride or size, margin=margin, cover=cover, most=most)


SIDE = st.integers(1, 9)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.tuples(st.integers(0, 3), st.integers(0, 3)), st.booleans(),
    st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(1, 40),
)  # fmt: skip
def test_places_are_those_of_a_plain_loop(size: Any, stride: Any, margin: Any, cover: bool, shape: Any, most: int) -> None:
    grid = grid_of(size, stride, margin, cover=cover)
    slices = [1, 4, 5]
    rows, columns = (starts(shape[i], size[i], stride[i], margin[i], cover=cover) for i in (0, 1))
    every = [(place, top, left) for place in slices for top in rows for left in columns]
    assert grid.places(slices, shape) == every
    few = grid_of(size, stride, margin, cover=cover, most=most).places(slices, shape)
    assert len(few) == min(most, len(every)) and few == sorted(set(few)) and set(few) <= set(every)
    if cover and every:
        # Every voxel within the margins is in a patch, where no step is longer than a patch.
        seen = {top + k for top in rows for k in range(size[0])}
        assert stride[0] > size[0] or seen == set(range(margin[0], shape[0] - margin[0]))


def test_a_huge_grid_is_not_written_out() -> None:
    grid = grid_of((1, 1), most=5)
    places = grid.places(range(1 << 14), (1 << 15, 1 << 15))  # type: ignore[arg-type]  # more than any memory holds
    assert len(places) == 5 and [place for place, _, _ in places] == [1638, 4915, 8192, 11468, 14745]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "standard.nii.gz"])
def test_patches_are_those_of_nibabels_arrays(name: str, axis: int) -> None:
    image: Any = nibabel.load(SHIPPED / name)
    values = nibabel.as_closest_canonical(image).get_fdata()
    values = values.reshape((*values.shape[:3], -1), order="F")[..., 0]
    turned = np.moveaxis(values, axis, 2)
    compared = 0
    for grid in (grid_of((3, 2)), grid_of((2, 2), (3, 1), (1, 0)), grid_of((2, 3), (2, 2), cover=True)):
        data = ImageData(kind="image", height=8, width=8, fit="stretch")
        slices = list(range(turned.shape[2]))[:40]
        found = decoded(SHIPPED / name, data, axis=AXES[axis], slices=1024, last=slices[-1], grid=grid)
        plain = patches(turned, slices, grid)
        every = (
            [(2 * number + 1) * len(plain) // (2 * 1024) for number in range(1024)] if len(plain) > 1024 else range(len(plain))
        )
        assert found == [Fault.SHAPE] if not plain else len(found) == min(1024, len(plain))
        for content, patch in zip(found if plain else [], (plain[number] for number in every), strict=True):
            alone = to_record(patch, data)
            assert content is alone if isinstance(alone, Fault) else np.allclose(content, alone, atol=1e-4)
            compared += not isinstance(alone, Fault)
    assert compared > 50


def decoded(path: Path, data: ImageData, **how: Any) -> list[Any]:
    given: dict[str, Any] = {"axis": "axial", "slices": 16, "first": 0, "last": None, "volume": 0, "largest": 64 << 20} | how
    ((_, found),) = decode_all([Listed("x", path, None)], NiftiDecoder(data=data, **given), Bounds(1 << 30, 20.0), workers=0)
    return [found] if isinstance(found, Fault) else [each.content for each in found]


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(np.int16)


def test_a_patch_of_one_value_is_a_bad_record_and_keeps_its_place(tmp_path: Path) -> None:
    """No voxel decides which patches there are: the others of a volume stay where they were."""
    values = drawn(16, 16, 1)
    data = ImageData(kind="image", height=8, width=8)
    before = decoded(save(tmp_path / "x.nii", values), data, grid=grid_of((8, 8)))
    values[:8, 8:] = 7
    values[8, 15] = 7
    after = decoded(save(tmp_path / "x.nii", values), data, grid=grid_of((8, 8)))
    assert len(before) == len(after) == 4 and after[0] is Fault.BLANK
    assert [np.array_equal(one, two) for one, two in zip(before[1:], after[1:], strict=True)] == [False, True, True]


def test_a_slice_that_is_smaller_than_a_patch_is_a_bad_file(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", drawn(16, 12, 2))
    data = ImageData(kind="image", height=8, width=8, fit="pad")
    for size, margin in (((13, 8), (0, 0)), ((8, 17), (0, 0)), ((8, 8), (3, 0)), ((8, 8), (0, 5)), ((8, 8), (4000, 4000))):
        assert decoded(path, data, grid=grid_of(size, None, margin)) == [Fault.SHAPE]
        assert decoded(path, data, grid=grid_of(size, None, margin, cover=True)) == [Fault.SHAPE]


def save(path: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


def declare(folder: Path, **patches: Any) -> Any:
    body = {"kind": "nifti", "slices": 2, "patches": patches}
    (folder / "s.toml").write_text(tomli_w.dumps(body))
    return read_source(folder / "s.toml")


def test_a_folder_of_volumes_gives_patches_by_patient(tmp_path: Path) -> None:
    for number, patient in enumerate(("ann", "ben")):
        (tmp_path / patient).mkdir()
        save(tmp_path / patient / "a.nii.gz", drawn(20, 18, 4) + number)
    source = declare(tmp_path, size=[8, 9], stride=[5, 9], most=6)
    data = ImageData(kind="image", height=8, width=9)
    patients = load_patients(source, data, Effort(workers=1))
    assert patients.units == ("ann", "ben") and patients.counts().tolist() == [6, 6]
    every = patches(drawn(20, 18, 4), [1, 3], grid_of((8, 9), (5, 9)))
    assert len(every) == 12
    for row, number in zip(patients.records[:6], range(1, 12, 2), strict=True):
        assert np.allclose(row, to_record(every[number], data), atol=1e-5)
    wrong = ImageData(kind="image", height=8, width=8)
    (tally,) = read_records(source, wrong, Effort(0)).tallies
    assert tally.faults == {Fault.SHAPE: 12}


@pytest.mark.parametrize(
    "patches", [{}, {"size": [0, 8]}, {"size": [8]}, {"size": [8, 8], "stride": [0, 1]}, {"size": [8, 8], "margin": [-1, 0]},
                {"size": [8, 8], "most": 0}, {"size": [8, 8], "most": 1025}, {"size": [8, 8], "depth": 3}],
)  # fmt: skip
def test_a_wrong_declaration_is_refused(tmp_path: Path, patches: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        declare(tmp_path, **patches)
